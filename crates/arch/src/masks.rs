//! Attention masks as data: which earlier tokens a token sees, by kind of layer and by document of a packed sequence
//! (spec SCP-01 to SCP-03, SCP-05, PKD-03, PKD-04).

use crate::config::{LayerType, ModelConfig};
use std::collections::BTreeMap;

/// What a layer lets its tokens see. Two layers of one kind have the same mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Every earlier token.
    Full,
    /// The last `window` tokens, itself among them, and the first `sinks` of the document.
    Sliding {
        /// Tokens of the window.
        window: usize,
        /// Tokens that it does not hide.
        sinks: usize,
    },
    /// The earlier tokens of its chunk.
    Chunked {
        /// Tokens of a chunk.
        chunk: usize,
    },
}

impl Kind {
    /// The kind of `layer`.
    pub fn of(config: &ModelConfig, layer: usize) -> Kind {
        match (config.layer_type(layer), config.sliding_window, config.attention_chunk_size) {
            (LayerType::Sliding, Some(window), _) => Kind::Sliding { window, sinks: config.sink_tokens },
            (LayerType::Chunked, _, Some(chunk)) => Kind::Chunked { chunk },
            _ => Kind::Full,
        }
    }

    /// Spelling of its layer type.
    pub fn layer_type(self) -> LayerType {
        match self {
            Kind::Full => LayerType::Full,
            Kind::Sliding { .. } => LayerType::Sliding,
            Kind::Chunked { .. } => LayerType::Chunked,
        }
    }

    /// Whether the token at `query` sees the one at `key`, both counted from the first token of a document.
    pub fn sees(self, query: usize, key: usize) -> bool {
        let Some(back) = query.checked_sub(key) else { return false };
        match self {
            Kind::Full => true,
            Kind::Sliding { window, sinks } => back < window || key < sinks,
            Kind::Chunked { chunk } => query / chunk.max(1) == key / chunk.max(1),
        }
    }

    /// The same on a picture of `tokens`: windows and chunks longer than half of it become half of it and sinks at most a
    /// quarter, since a window that hides nothing looks like none.
    pub fn drawn(self, tokens: usize) -> Kind {
        let (half, quarter) = ((tokens / 2).max(1), (tokens / 4).max(1));
        match self {
            Kind::Full => Kind::Full,
            Kind::Sliding { window, sinks } => {
                Kind::Sliding { window: window.min(half), sinks: sinks.min(quarter) }
            }
            Kind::Chunked { chunk } => Kind::Chunked { chunk: chunk.min(half) },
        }
    }

    /// What it does, in true sizes.
    pub fn describe(self) -> String {
        match self {
            Kind::Full => "full attention: all earlier tokens".to_owned(),
            Kind::Sliding { window, sinks: 0 } => format!("sliding window: the last {window} tokens"),
            Kind::Sliding { window, sinks } => {
                format!("sliding window: the last {window} tokens and the first {sinks} of the document")
            }
            Kind::Chunked { chunk } => format!("chunks of {chunk} tokens: the earlier ones of its own"),
        }
    }
}

/// The kinds of a model's layers, each with the layers that have it.
pub fn kinds(config: &ModelConfig) -> Vec<(Kind, Vec<usize>)> {
    let mut found: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
    for layer in 0..config.num_hidden_layers {
        found.entry(Kind::of(config, layer)).or_default().push(layer);
    }
    found.into_iter().collect()
}

/// What a query and a key of a packed sequence are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The layer hides the key.
    Hidden,
    /// The query sees it, and it is of its document.
    Own,
    /// The query sees it, though it is of another document.
    Other,
}

/// The mask of one kind of layer on documents that were packed into a sequence one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    kind: Kind,
    /// First token of the document of each token.
    starts: Vec<usize>,
    /// Tokens see only their own document.
    intra_document: bool,
}

impl Mask {
    /// The mask of documents of these lengths. With `intra_document` tokens see only their own document, and windows,
    /// chunks and sinks count from its first token; without, the sequence is one document to the layer.
    pub fn new(kind: Kind, documents: &[usize], intra_document: bool) -> Mask {
        let mut starts = Vec::new();
        for &length in documents {
            let start = starts.len();
            starts.resize(start + length, start);
        }
        Mask { kind, starts, intra_document }
    }

    /// Tokens of the sequence.
    pub fn tokens(&self) -> usize {
        self.starts.len()
    }

    /// Whether a document begins at `token`, the first one left out.
    pub fn is_border(&self, token: usize) -> bool {
        token > 0 && self.starts.get(token) == Some(&token)
    }

    /// What `key` is to `query`.
    pub fn cell(&self, query: usize, key: usize) -> Cell {
        let (Some(&from), Some(&to)) = (self.starts.get(query), self.starts.get(key)) else {
            return Cell::Hidden;
        };
        let own = from == to;
        let seen = match self.intra_document {
            true => own && self.kind.sees(query - from, key - to),
            false => self.kind.sees(query, key),
        };
        match (seen, own) {
            (false, _) => Cell::Hidden,
            (true, true) => Cell::Own,
            (true, false) => Cell::Other,
        }
    }

    /// Pairs of a query and a key that it sees: what the layer's scores cost.
    pub fn pairs(&self) -> usize {
        let n = self.tokens();
        let seen =
            |query: usize| (0..=query).filter(move |&key| self.cell(query, key) != Cell::Hidden).count();
        (0..n).map(seen).sum()
    }

    /// One line per query, one character per key: `■` seen, `□` seen of another document, `·` hidden; lines between
    /// documents.
    pub fn picture(&self) -> Vec<String> {
        let n = self.tokens();
        let line = |border: char, cell: &dyn Fn(usize) -> char| -> String {
            let borders = |key| self.is_border(key).then_some(border);
            (0..n).flat_map(|key| borders(key).into_iter().chain([cell(key)])).collect()
        };
        let mut lines = Vec::new();
        for query in 0..n {
            if self.is_border(query) {
                lines.push(line('┼', &|_| '─'));
            }
            lines.push(line('│', &|key| match self.cell(query, key) {
                Cell::Hidden => '·',
                Cell::Own => '■',
                Cell::Other => '□',
            }));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelType;

    fn seen(kind: Kind, query: usize) -> Vec<usize> {
        (0..16).filter(|&key| kind.sees(query, key)).collect()
    }

    /// The worked examples of the specification (SCP-02, SCP-03).
    #[test]
    fn windows_and_chunks_are_the_worked_examples() {
        let window = Kind::Sliding { window: 8, sinks: 0 };
        assert_eq!(seen(window, 15), (8..=15).collect::<Vec<_>>());
        assert_eq!(seen(window, 10), (3..=10).collect::<Vec<_>>());
        let chunks = Kind::Chunked { chunk: 8 };
        for query in 8..16 {
            assert_eq!(seen(chunks, query), (8..=query).collect::<Vec<_>>());
        }
        assert_eq!(seen(chunks, 7), (0..=7).collect::<Vec<_>>());
        assert_eq!(seen(Kind::Full, 9), (0..=9).collect::<Vec<_>>());
        assert_eq!(seen(Kind::Sliding { window: 2, sinks: 3 }, 9), [0, 1, 2, 8, 9]);
    }

    #[test]
    fn documents_hide_each_other() {
        let kind = Kind::Sliding { window: 2, sinks: 1 };
        let causal = Mask::new(kind, &[3, 4], false);
        #[rustfmt::skip]
        assert_eq!(causal.picture(), [
            "■··│····",
            "■■·│····",
            "■■■│····",
            "───┼────",
            "□·□│■···",
            "□··│■■··",
            "□··│·■■·",
            "□··│··■■",
        ]);
        let intra = Mask::new(kind, &[3, 4], true);
        #[rustfmt::skip]
        assert_eq!(intra.picture(), [
            "■··│····",
            "■■·│····",
            "■■■│····",
            "───┼────",
            "···│■···",
            "···│■■··",
            "···│■■■·",
            "···│■·■■",
        ]);
        assert_eq!((causal.pairs(), intra.pairs()), (18, 15));
        // Chunks count from a document's first token, as the engine has them.
        let chunks = Mask::new(Kind::Chunked { chunk: 2 }, &[3, 4], true);
        assert_eq!([chunks.cell(4, 3), chunks.cell(5, 4)], [Cell::Own, Cell::Hidden]);
    }

    #[test]
    fn a_document_of_one_token_and_none_at_all() {
        assert_eq!(Mask::new(Kind::Full, &[1], true).picture(), ["■"]);
        assert_eq!(Mask::new(Kind::Full, &[], true).picture(), Vec::<String>::new());
        assert_eq!(Mask::new(Kind::Full, &[0, 2], true).picture(), ["■·", "■■"]);
        assert_eq!(Mask::new(Kind::Chunked { chunk: 0 }, &[2], true).cell(9, 9), Cell::Hidden);
    }

    #[test]
    fn layers_are_grouped_by_what_they_see() {
        let mut config = ModelConfig { num_hidden_layers: 6, ..ModelConfig::of(ModelType::Gemma3) };
        config.layer_types = vec![LayerType::Sliding; 5];
        config.layer_types.push(LayerType::Full);
        let window = Kind::Sliding { window: 4096, sinks: 0 };
        assert_eq!(kinds(&config), [(Kind::Full, vec![5]), (window, vec![0, 1, 2, 3, 4])]);
        assert_eq!(window.drawn(16), Kind::Sliding { window: 8, sinks: 0 });
        assert_eq!(Kind::Sliding { window: 3, sinks: 9 }.drawn(16), Kind::Sliding { window: 3, sinks: 4 });
        assert_eq!(Kind::Chunked { chunk: 8192 }.drawn(1), Kind::Chunked { chunk: 1 });
    }
}
