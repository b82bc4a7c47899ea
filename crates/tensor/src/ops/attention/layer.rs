//! What an attention layer is: its heads, how scores become probabilities, and which rows a row sees.

use crate::scratch;
use crate::tape::ParamId;

/// The heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key–value heads, each shared by `heads / kv_heads` consecutive query heads.
    pub kv_heads: usize,
    /// Features per query and key head.
    pub head_dim: usize,
    /// Features per value head, and so of each head of the output; `head_dim` but in latent attention (ATT-04).
    pub value_dim: usize,
}

impl Shape {
    /// Heads whose queries, keys and values all have `head_dim` features.
    pub const fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Shape {
        Shape { heads, kv_heads, head_dim, value_dim: head_dim }
    }

    /// Query heads per key–value head.
    pub const fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of a row of queries, keys and values together.
    pub const fn qkv_width(self) -> usize {
        self.heads * self.head_dim + self.key_width() + self.value_width()
    }

    /// Width of a row of keys.
    pub const fn key_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of a row of values.
    pub const fn value_width(self) -> usize {
        self.kv_heads * self.value_dim
    }

    /// Width of a row of outputs.
    pub const fn out_width(self) -> usize {
        self.heads * self.value_dim
    }

    /// Where key head `kv` begins in a row of `qkv`.
    pub(super) const fn key_at(self, kv: usize) -> usize {
        (self.heads + kv) * self.head_dim
    }

    /// Where value head `kv` begins in a row of `qkv`.
    pub(super) const fn value_at(self, kv: usize) -> usize {
        (self.heads + self.kv_heads) * self.head_dim + kv * self.value_dim
    }

    fn check(self) {
        let Shape { heads, kv_heads, head_dim, value_dim } = self;
        assert!(
            kv_heads > 0 && head_dim > 0 && value_dim > 0 && heads > 0 && heads.is_multiple_of(kv_heads),
            "attention: {heads} heads of {head_dim} and {value_dim} must be a positive multiple of {kv_heads} \
             key-value heads"
        );
    }
}

/// How products of queries and keys become the scores of the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Factor of the products, positive.
    pub scale: f32,
    /// `cap·tanh(score / cap)` of the scaled scores, before masking (Gemma 2, 2024); positive.
    pub softcap: Option<f32>,
    /// Subtracts [`alibi_slope`]`·(i − j)` from the score of query `i` and key `j` (POS-02; Press et al., Train Short,
    /// Test Long, 2022).
    pub alibi: bool,
}

impl Scores {
    /// Products times `scale`, and nothing else.
    pub const fn scaled(scale: f32) -> Scores {
        Scores { scale, softcap: None, alibi: false }
    }

    fn check(self) {
        let Scores { scale, softcap, .. } = self;
        assert!(scale > 0.0, "attention: scale {scale} is not positive");
        assert!(softcap.is_none_or(|cap| cap > 0.0), "attention: softcap {softcap:?} is not positive");
    }
}

/// What a query loses per row that a key is back: `2^(−8(h + 1)/H)` for head `h` of `H`, a power of two. Other numbers of
/// heads take the slopes of the next lower power of two, then every other one of twice that (POS-02).
pub fn alibi_slope(heads: usize, head: usize) -> f32 {
    let power = 1 << heads.max(1).ilog2();
    let exponent = match head.checked_sub(power) {
        None => (head + 1) as f64 / power as f64,
        Some(more) => (2 * more + 1) as f64 / (2 * power) as f64,
    };
    (-8.0 * exponent).exp2() as f32
}

/// Which rows up to itself, and of its own document, a row sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All.
    Full,
    /// The last so many, itself among them (SCP-03).
    Sliding(usize),
    /// Those of its own chunk, where documents are cut into chunks of so many (SCP-02).
    Chunked(usize),
}

/// An attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Its heads.
    pub shape: Shape,
    /// Its scores.
    pub scores: Scores,
    /// What a row sees.
    pub window: Window,
    /// A score per head, `[heads]`, that takes part in the softmax but has no value, so that a row may attend to nothing
    /// (gpt-oss, 2025): `p_j = e^{s_j} / (e^{sink} + Σ e^{s_l})`. The tape's; functions of this module take the values.
    pub sinks: Option<ParamId>,
    /// So many first rows of each document stay visible when a window has left them (SCP-05; Xiao et al., Efficient
    /// Streaming Language Models with Attention Sinks, 2023).
    pub sink_tokens: usize,
}

impl Attention {
    /// Causal attention to the whole document, scores scaled by 1/√head_dim.
    pub fn new(shape: Shape) -> Attention {
        let scores = Scores::scaled(1.0 / (shape.head_dim as f32).sqrt());
        Attention { shape, scores, window: Window::Full, sinks: None, sink_tokens: 0 }
    }

    pub(super) fn check(&self) {
        self.shape.check();
        self.scores.check();
        let (Window::Sliding(size) | Window::Chunked(size)) = self.window else { return };
        assert!(size > 0, "attention: a window of no rows");
    }

    /// What a query of head `head` loses per row that a key is back.
    pub(super) fn slope(&self, head: usize) -> f32 {
        if self.scores.alibi { alibi_slope(self.shape.heads, head) } else { 0.0 }
    }

    /// First rows of a document that stay visible beside a window.
    pub(super) fn kept(&self) -> usize {
        // Rows are counted in 32 bits.
        if self.window == Window::Full { 0 } else { self.sink_tokens.min(u32::MAX as usize) }
    }

    /// The first row from which on `row` sees all rows up to itself; if that is not its document's first, it sees the
    /// [`kept`](Attention::kept) rows besides. Never decreases from row to row.
    pub(super) fn first_seen(&self, document: usize, row: usize) -> usize {
        let first = match self.window {
            Window::Full => return document,
            Window::Sliding(size) => document.max((row + 1).saturating_sub(size)),
            Window::Chunked(size) => document + (row - document) / size * size,
        };
        if first <= document + self.kept() { document } else { first }
    }

    /// Calls `f` with [`first_seen`](Attention::first_seen) of each row.
    ///
    /// # Panics
    /// If segments exceed their row or decrease, or are not first rows of documents where a window counts from them.
    pub(super) fn with_starts<R>(&self, segments: &[u32], f: impl FnOnce(&[u32]) -> R) -> R {
        let causal = segments.iter().enumerate().all(|(row, &first)| first as usize <= row);
        assert!(
            causal && segments.is_sorted(),
            "attention: segments must not decrease, nor exceed their row"
        );
        if self.window == Window::Full {
            return f(segments);
        }
        let documents = segments.iter().all(|&first| segments[first as usize] == first);
        assert!(documents, "attention: a window needs the first rows of documents as segments");
        scratch::with(segments.len(), |starts: &mut [u32]| {
            for (row, (start, &document)) in starts.iter_mut().zip(segments).enumerate() {
                *start = self.first_seen(document as usize, row) as u32;
            }
            f(starts)
        })
    }
}

/// Multiplications and additions of a forward and of a backward pass, counting only pairs of rows that see each other:
/// a product with keys and one with values, then three and two.
pub fn flops(attention: &Attention, segments: &[u32]) -> [u64; 2] {
    let seen = |(row, &document): (usize, &u32)| {
        let first = attention.first_seen(document as usize, row);
        let kept = if first > document as usize { attention.kept() } else { 0 };
        (row + 1 - first + kept) as u64
    };
    let pairs: u64 = segments.iter().enumerate().map(seen).sum();
    let Shape { heads, head_dim, value_dim, .. } = attention.shape;
    [(1, 1), (3, 2)].map(|(k, v)| 2 * pairs * (heads * (k * head_dim + v * value_dim)) as u64)
}
