//! Samples as token, label, segment and position buffers.
//!
//! A chunk is `sequence_length + 1` consecutive tokens of a shard, and chunks do not overlap (as in datatrove and
//! nanotron): position *j* reads token *j* and is to predict token *j + 1*. A last partial chunk is never drawn.
//!
//! With document masking (spec `PKD-03`) a position sees only its own document, so the last token of a document (its
//! end-of-sequence) has no label: predicting the next document from it would be a guess from nothing. End-of-sequence
//! itself is a label. Without document masking, text is one stream and every position has a label.

use serde_json::{Value, json};
use smolt_run::hash;

use crate::error::Error;
use crate::order::{Consumed, Mixture, Stage};
use crate::shard::{Checksums, Packing, Shard};

/// The label of a position that predicts nothing: padding, prompts, the last token of a masked document.
pub const IGNORE_LABEL: u32 = u32::MAX;

/// How chunks become rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Positions per row; at least 1. A chunk has one token more.
    pub sequence_length: usize,
    /// Of the model: ids at or above it are an error.
    pub vocab_size: u32,
    /// Whether attention stays inside a document.
    pub document_masking: bool,
    /// Whether positions start again at 0 with each document, or run through the row.
    pub reset_positions: bool,
}

/// Buffers to fill, each `[batch, sequence_length]` flat, row after row.
pub struct BatchMut<'a> {
    /// Token ids.
    pub tokens: &'a mut [u32],
    /// The next token's id, or [`IGNORE_LABEL`].
    pub labels: &'a mut [u32],
    /// Flat index (row included) of the first position that this one may attend to: position `n` attends to
    /// `segments[n]..=n`.
    pub segments: &'a mut [u32],
    /// Position for the embedding of order.
    pub positions: &'a mut [u32],
}

impl BatchMut<'_> {
    /// The same buffers for a shorter time.
    pub fn reborrow(&mut self) -> BatchMut<'_> {
        BatchMut {
            tokens: self.tokens,
            labels: self.labels,
            segments: self.segments,
            positions: self.positions,
        }
    }

    pub(crate) fn check(&self, rows: usize, sequence_length: usize) -> Result<(), Error> {
        // Segments are flat indices in u32.
        let size = rows.checked_mul(sequence_length).filter(|&size| size < u32::MAX as usize);
        let lengths = [self.tokens.len(), self.labels.len(), self.segments.len(), self.positions.len()];
        if lengths.iter().all(|&length| Some(length) == size) {
            return Ok(());
        }
        Err(Error::Settings(format!(
            "batch buffers of {lengths:?} values for {rows} rows of {sequence_length}; they must all be the product, below 2^32 - 1"
        )))
    }
}

/// Owned buffers, allocated once and filled again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// See [`BatchMut::tokens`].
    pub tokens: Vec<u32>,
    /// See [`BatchMut::labels`].
    pub labels: Vec<u32>,
    /// See [`BatchMut::segments`].
    pub segments: Vec<u32>,
    /// See [`BatchMut::positions`].
    pub positions: Vec<u32>,
}

impl Batch {
    /// Room for `rows` rows of `sequence_length` positions.
    pub fn new(rows: usize, sequence_length: usize) -> Self {
        let buffer = || vec![0; rows * sequence_length];
        Self { tokens: buffer(), labels: buffer(), segments: buffer(), positions: buffer() }
    }

    /// To be filled.
    pub fn as_mut(&mut self) -> BatchMut<'_> {
        BatchMut {
            tokens: &mut self.tokens,
            labels: &mut self.labels,
            segments: &mut self.segments,
            positions: &mut self.positions,
        }
    }
}

/// A source of a training mixture.
pub struct Source {
    /// Unique name.
    pub name: String,
    /// Share of the tokens, relative to the others.
    pub weight: f64,
    /// Its tokens.
    pub shard: Shard,
}

/// Training batches: any sample of the mixture, by index.
pub struct Loader {
    sources: Vec<Source>,
    mixture: Mixture,
    layout: Layout,
    seed: u64,
}

impl Loader {
    /// Checks every shard against the layout and fixes the order: one mixture, by the sources' weights.
    pub fn new(sources: Vec<Source>, seed: u64, layout: Layout) -> Result<Self, Error> {
        let weights = sources.iter().map(|source| source.weight).collect();
        Self::staged(sources, vec![Stage { name: "all".into(), first_sample: 0, weights }], seed, layout)
    }

    /// The same with a mixture for each stage (spec `DMX-06`); the weights of the sources themselves are not used.
    pub fn staged(
        sources: Vec<Source>,
        stages: Vec<Stage>,
        seed: u64,
        layout: Layout,
    ) -> Result<Self, Error> {
        let mut chunks = Vec::with_capacity(sources.len());
        for source in &sources {
            check_layout(&source.shard, layout)?;
            let length = layout.sequence_length as u64 + 1;
            chunks.push((source.name.clone(), source.shard.n_tokens() / length));
        }
        let mixture = Mixture::staged(&chunks, stages, seed)?;
        Ok(Self { sources, mixture, layout, seed })
    }

    /// How rows are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    #[cfg(test)]
    pub(crate) fn set_vocab_size(&mut self, vocab_size: u32) {
        self.layout.vocab_size = vocab_size;
    }

    /// The sources, in the order of [`Loader::consumed`] and [`crate::order::SampleRef::source`].
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The order of samples.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// What the samples before `next_sample` took from each source (spec `DMX-02`).
    pub fn consumed(&self, next_sample: u64) -> Vec<Consumed> {
        self.mixture.consumed(next_sample)
    }

    /// Fills `batch` with samples `first_sample..first_sample + rows`; allocates nothing.
    pub fn fill(&self, first_sample: u64, rows: usize, mut batch: BatchMut<'_>) -> Result<(), Error> {
        batch.check(rows, self.layout.sequence_length)?;
        for row in 0..rows {
            let (shard, start) = self.locate(first_sample + row as u64);
            fill_row(shard, start, row, self.layout, &mut batch)?;
        }
        Ok(())
    }

    /// The labels that count in samples `first_sample..first_sample + samples`: what the summed loss of a whole global
    /// batch is divided by, known before the step.
    pub fn label_tokens(&self, first_sample: u64, samples: u64) -> u64 {
        (first_sample..first_sample.saturating_add(samples))
            .map(|sample| {
                let (shard, start) = self.locate(sample);
                count_labels(shard, start, self.layout)
            })
            .sum()
    }

    /// Where a sample comes from: its shard and its first token there.
    pub fn locate(&self, sample: u64) -> (&Shard, u64) {
        let at = self.mixture.sample(sample);
        (&self.sources[at.source].shard, at.chunk * (self.layout.sequence_length as u64 + 1))
    }

    /// Everything that decides which tokens the samples before `next_sample` held, and those after it in the same stage:
    /// stages that have begun and the sources they draw from. Stages to come are no part of it.
    pub fn manifest(&self, next_sample: u64) -> Value {
        let begun: Vec<&Stage> = self
            .mixture
            .stages()
            .enumerate()
            .filter(|(number, stage)| *number == 0 || stage.first_sample < next_sample)
            .map(|(_, stage)| stage)
            .collect();
        let drawn = |number: &usize| begun.iter().any(|stage| stage.weights[*number] > 0.0);
        let drawn: Vec<usize> = (0..self.sources.len()).filter(drawn).collect();
        let source = |&number: &usize| {
            let source = &self.sources[number];
            let meta = source.shard.meta();
            let mut value = serde_json::Map::new();
            value.insert("name".into(), source.name.as_str().into());
            // In this place, because hashes of runs without stages are made of it.
            if let [stage] = begun.as_slice() {
                value.insert("weight".into(), stage.weights[number].into());
            }
            let Checksums { tokens, index, loss, .. } = &meta.checksums;
            value.insert("n_tokens".into(), meta.n_tokens.into());
            value.insert("tokenizer_hash".into(), json!(meta.tokenizer_hash));
            value.extend([("tokens".into(), json!(tokens)), ("index".into(), json!(index))]);
            value.insert("loss".into(), json!(loss));
            Value::Object(value)
        };
        let mut manifest = json!({
            "format_version": 1,
            "seed": self.seed,
            "sequence_length": self.layout.sequence_length,
            "document_masking": self.layout.document_masking,
            "reset_positions": self.layout.reset_positions,
            "sources": drawn.iter().map(source).collect::<Vec<_>>(),
        });
        if let (2.., Value::Object(manifest)) = (begun.len(), &mut manifest) {
            let stage = |stage: &&Stage| {
                let weights: Vec<f64> = drawn.iter().map(|&number| stage.weights[number]).collect();
                json!({"first_sample": stage.first_sample, "weights": weights})
            };
            manifest.insert("stages".into(), begun.iter().map(stage).collect());
        }
        manifest
    }

    /// BLAKE3 of [`Loader::manifest`], in hex: saved with each checkpoint.
    pub fn manifest_hash(&self, next_sample: u64) -> String {
        hash::bytes(self.manifest(next_sample).to_string().as_bytes())
    }

    /// Refuses to go on from `next_sample` with other data than `saved`, the hash kept in a checkpoint.
    pub fn check_manifest(&self, saved: &str, next_sample: u64) -> Result<(), Error> {
        let current = self.manifest_hash(next_sample);
        if current == saved {
            return Ok(());
        }
        Err(Error::ManifestChanged { saved: saved.to_owned(), current })
    }
}

/// Whether `shard` can be read with `layout`.
pub(crate) fn check_layout(shard: &Shard, layout: Layout) -> Result<(), Error> {
    if layout.sequence_length == 0 || layout.sequence_length >= u32::MAX as usize {
        return Err(Error::Settings(format!(
            "sequence length {}: must be at least 1",
            layout.sequence_length
        )));
    }
    let (meta, chunk) = (shard.meta(), layout.sequence_length as u64 + 1);
    let wrong = match meta.packing {
        Packing::Whole => meta.chunk_length != Some(chunk),
        Packing::Concatenate => meta.chunk_length.is_some_and(|length| length != chunk),
    };
    if wrong {
        let how = if meta.packing == Packing::Whole { "packed whole" } else { "shuffled" };
        return Err(Error::shard(
            shard.path(),
            format!(
                "{how} in chunks of {} tokens, but sequence length {} needs {chunk}; tokenize it again or change the sequence length",
                meta.chunk_length.unwrap_or(0),
                layout.sequence_length
            ),
        ));
    }
    shard.check_vocab(layout.vocab_size)
}

/// Fills one row from the tokens at `start`; what lies beyond the shard's end is padding without labels.
pub(crate) fn fill_row(
    shard: &Shard,
    start: u64,
    row: usize,
    layout: Layout,
    batch: &mut BatchMut<'_>,
) -> Result<(), Error> {
    let length = layout.sequence_length;
    let base = row * length;
    let present = shard.n_tokens().saturating_sub(start).min(length as u64) as usize;
    let mut document = shard.document_at(start);
    let mut document_end = shard.document_end(document);
    let mut document_start = 0;
    for j in 0..present {
        let position = start + j as u64;
        if position == document_end {
            // Empty documents end here too.
            while document_end <= position && document < shard.n_documents() {
                document += 1;
                document_end = shard.document_end(document);
            }
            document_start = j;
        }
        let id = shard.token(position);
        if id >= layout.vocab_size {
            return Err(out_of_range(shard, position, id, layout));
        }
        batch.tokens[base + j] = id;
        let next = position + 1;
        let has_label = next < shard.n_tokens()
            && !(layout.document_masking && next == document_end)
            && shard.is_trained(next);
        batch.labels[base + j] = if has_label { shard.token(next) } else { IGNORE_LABEL };
        batch.segments[base + j] = (base + if layout.document_masking { document_start } else { 0 }) as u32;
        batch.positions[base + j] = (j - if layout.reset_positions { document_start } else { 0 }) as u32;
    }
    if present == length {
        // The label of the last position is no position's token in this row.
        let (position, id) = (start + length as u64, batch.labels[base + length - 1]);
        if id != IGNORE_LABEL && id >= layout.vocab_size {
            return Err(out_of_range(shard, position, id, layout));
        }
    }
    for j in present..length {
        batch.tokens[base + j] = 0;
        batch.labels[base + j] = IGNORE_LABEL;
        batch.segments[base + j] = (base + present) as u32;
        batch.positions[base + j] = (j - present) as u32;
    }
    Ok(())
}

fn out_of_range(shard: &Shard, position: u64, id: u32, layout: Layout) -> Error {
    Error::TokenOutOfRange { path: shard.path().to_owned(), position, id, vocab_size: layout.vocab_size }
}

/// How many labels [`fill_row`] would set, without reading tokens.
pub(crate) fn count_labels(shard: &Shard, start: u64, layout: Layout) -> u64 {
    // Labels are the tokens first..end.
    let first = start + 1;
    let end = shard.n_tokens().min(first + layout.sequence_length as u64);
    if first >= end {
        return 0;
    }
    let mut count = if shard.has_loss() {
        (first..end).filter(|&position| shard.is_trained(position)).count() as u64
    } else {
        end - first
    };
    if layout.document_masking {
        // The document that holds `start` ends after it, so every end seen here starts another document.
        let mut document = shard.document_at(start);
        let mut last = 0;
        while document < shard.n_documents() && shard.document_end(document) < end {
            let boundary = shard.document_end(document);
            if boundary != last && shard.is_trained(boundary) {
                count = count.saturating_sub(1);
            }
            last = boundary;
            document += 1;
        }
    }
    count
}

#[cfg(test)]
pub(crate) mod tests;
