//! Packing modes, offline: a shard of documents becomes another shard with other neighbours.
//!
//! * [`Mode::Cut`]: documents one after another in shuffled order, cut wherever a chunk ends (spec `PKD-01`).
//! * [`Mode::BestFit`]: documents stay whole where they fit into a chunk; longer ones are cut into full chunks and a rest
//!   ("Fewer truncations improve language modeling", Ding et al. 2024). The rest of a chunk is padding that is not learnt.
//! * [`Mode::Grouped`]: as `Cut`, but documents of like content follow one another, see [`group`].
//!
//! All are the same bytes for the same seed, and their memory does not grow with the shard.

mod group;

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Serialize;
use smolt_run::error::FileError;

use crate::error::Error;
use crate::shard::{DocumentId, Packing, Shard, ShardInfo, ShardWriter, beside};
use crate::tokenize::{Names, Spool, StoredNames, best_fit_decreasing, shuffle};

/// Documents that are fitted together: bounds the memory. More would save little padding.
const FIT_WINDOW: usize = 1 << 18;

/// Which documents share a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Shuffled and cut.
    Cut,
    /// Whole where they fit.
    BestFit,
    /// Alike side by side.
    Grouped,
}

/// How a shard is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which documents share a chunk.
    pub mode: Mode,
    /// Positions per row in training; a chunk has one token more. Only best fit needs it.
    pub sequence_length: usize,
    /// Fills chunks to their end; only best fit needs it.
    pub pad_token_id: u32,
    /// Of the shuffle.
    pub seed: u64,
}

/// What packing did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Packed {
    /// Documents in the input, empty ones left out.
    pub documents: u64,
    /// Of them, cut into pieces because a chunk cannot hold them; only best fit counts these.
    pub documents_cut: u64,
    /// Tokens in the shard, with padding.
    pub tokens: u64,
    /// Padding tokens.
    pub padding_tokens: u64,
    /// Padding in all tokens, 0 to 1.
    pub padding_share: f64,
    /// Grouped only: mean likeness of neighbours (shared telling tokens over all, 0 to 1) as shuffled, and as grouped.
    pub likeness: Option<[f64; 2]>,
}

/// Packs the documents of `input` into the shard `out`.
pub fn pack(input: &Shard, options: Options, out: &Path) -> Result<Packed, Error> {
    let meta = input.meta();
    if meta.packing == Packing::Whole {
        return Err(Error::shard(input.path(), "already packed whole; pack the shard it was made from"));
    }
    let chunk = options.sequence_length as u64 + 1;
    if options.mode == Mode::BestFit && !(2..=u64::from(u32::MAX)).contains(&chunk) {
        return Err(Error::Settings(format!(
            "sequence length {}: must be at least 1",
            options.sequence_length
        )));
    }
    let fitted = options.mode == Mode::BestFit;
    let info = ShardInfo {
        tokenizer_hash: meta.tokenizer_hash.clone(),
        vocab_size: vocabulary(input)?,
        eos_token_id: meta.eos_token_id,
        bos_token_id: meta.bos_token_id,
        pad_token_id: fitted.then_some(options.pad_token_id),
        chunk_length: fitted.then_some(chunk),
        with_loss: fitted || input.has_loss(),
    };
    let spool = Spool::new(out)?;
    let mut writer = ShardWriter::create(out, info)?;
    let names = names_of(input, &spool.folder())?;
    if names.is_some() {
        writer.keep_ids()?;
    }
    let mut job =
        Job { input, writer, names, ids: Vec::new(), trained: Vec::new(), report: Packed::default() };
    let order = shuffle(input.n_documents(), options.seed);
    let documents = (0..input.n_documents()).map(|i| order.get(i)).filter(|&d| !input.document(d).is_empty());
    match options.mode {
        Mode::Cut => documents.into_iter().try_for_each(|document| job.write(document))?,
        Mode::BestFit => job.fit(documents, chunk, options.pad_token_id)?,
        Mode::Grouped => job.group(documents)?,
    }
    let Job { writer, mut report, .. } = job;
    report.tokens = writer.n_tokens();
    report.padding_share = report.padding_tokens as f64 / report.tokens.max(1) as f64;
    writer.finish(meta.text_bytes)?;
    Ok(report)
}

/// Ids are below this. A shard that does not say its vocabulary keeps its width.
fn vocabulary(input: &Shard) -> Result<u32, Error> {
    let meta = input.meta();
    let narrowest = if meta.token_size == 4 { (1 << 16) + 1 } else { 0 };
    let scanned = || meta.max_token_id.checked_add(1).map(|size| size.max(narrowest));
    meta.vocab_size.or_else(scanned).ok_or_else(|| {
        Error::shard(input.path(), format!("the id {} is no token's; make the shard again", u32::MAX))
    })
}

/// The lines of the input's `.ids`, if it has one.
fn names_of(input: &Shard, folder: &Path) -> Result<Option<StoredNames>, Error> {
    if input.meta().checksums.ids.is_none() {
        return Ok(None);
    }
    // Checks the file against its checksum.
    input.document_ids(&[0].into())?;
    let path = beside(input.path(), ".ids");
    let reading = |source| Error::from(FileError::reading(&path, source));
    let file = std::fs::File::open(&path).map_err(reading)?;
    let mut names = Names::create(folder)?;
    for line in BufReader::new(file).split(b'\n') {
        names.push_line(&line.map_err(reading)?)?;
    }
    Ok(Some(names.finish()?))
}

struct Job<'a> {
    input: &'a Shard,
    writer: ShardWriter,
    names: Option<StoredNames>,
    ids: Vec<u32>,
    trained: Vec<bool>,
    report: Packed,
}

impl Job<'_> {
    /// A whole document.
    fn write(&mut self, document: u64) -> Result<(), Error> {
        self.report.documents += 1;
        let range = self.input.document(document);
        self.write_piece(document, range, self.input.has_loss())
    }

    fn write_piece(
        &mut self,
        document: u64,
        range: std::ops::Range<u64>,
        with_loss: bool,
    ) -> Result<(), Error> {
        if let Some(names) = &self.names {
            names.copy(document, &mut self.writer)?;
        }
        self.ids.clear();
        self.ids.extend(range.clone().map(|position| self.input.token(position)));
        self.trained.clear();
        self.trained.extend(range.map(|position| self.input.is_trained(position)));
        self.writer.write_document(&self.ids, with_loss.then_some(&self.trained))
    }

    fn fit(
        &mut self,
        documents: impl Iterator<Item = u64>,
        chunk: u64,
        pad_token_id: u32,
    ) -> Result<(), Error> {
        let mut documents = documents.peekable();
        while documents.peek().is_some() {
            // What does not fill a chunk by itself: document and first token.
            let mut pieces: Vec<(u64, u64)> = Vec::new();
            for document in documents.by_ref().take(FIT_WINDOW) {
                let mut range = self.input.document(document);
                self.report.documents += 1;
                self.report.documents_cut += u64::from(range.end - range.start > chunk);
                while range.end - range.start >= chunk {
                    self.write_piece(document, range.start..range.start + chunk, true)?;
                    range.start += chunk;
                }
                if !range.is_empty() {
                    pieces.push((document, range.start));
                }
            }
            let end = |document| self.input.document(document).end;
            let lengths: Vec<usize> = pieces.iter().map(|&(d, start)| (end(d) - start) as usize).collect();
            for bin in best_fit_decreasing(&lengths, chunk as usize) {
                let used: usize = bin.iter().map(|&member| lengths[member]).sum();
                for member in bin {
                    let (document, start) = pieces[member];
                    self.write_piece(document, start..self.input.document(document).end, true)?;
                }
                self.pad(chunk as usize - used, pad_token_id)?;
            }
        }
        Ok(())
    }

    fn pad(&mut self, count: usize, pad_token_id: u32) -> Result<(), Error> {
        if count == 0 {
            return Ok(());
        }
        self.report.padding_tokens += count as u64;
        self.writer.write_id(DocumentId::Padding)?;
        self.writer.write_document(&vec![pad_token_id; count], Some(&vec![false; count]))
    }

    fn group(&mut self, mut documents: impl Iterator<Item = u64>) -> Result<(), Error> {
        let (mut before, mut after) = (group::Likeness::default(), group::Likeness::default());
        loop {
            let window = group::Window::read(self.input, &mut documents);
            if window.documents.is_empty() {
                self.report.likeness = Some([before.mean(), after.mean()]);
                return Ok(());
            }
            let path = window.path();
            before.add(&window, &(0..path.len()).collect::<Vec<_>>());
            after.add(&window, &path);
            for place in path {
                self.write(window.documents[place])?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
