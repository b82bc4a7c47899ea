//! Counting words: the distinct pieces that a pre-tokenizer cuts text into, and how often each occurs.

use super::super::TokenizerError;
use super::cut::Cutter;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Documents travel to the workers in parcels of about this many bytes: a channel is slower than a short document.
const PARCEL: usize = 1 << 20;
/// A worker hands its words over when it holds this many: the common words are then counted without a lock, and memory
/// does not grow with the number of workers.
const LOCAL_WORDS: usize = 1 << 16;

/// Distinct words in one arena, each with its count.
#[derive(Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    /// Where each word ends in `bytes`; it starts where the one before it ends.
    ends: Vec<usize>,
    counts: Vec<u64>,
    /// Indices of words, by the hash of their bytes.
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Words {
    /// Distinct words.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Bytes of all distinct words.
    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    fn word(&self, index: usize) -> &[u8] {
        word(&self.bytes, &self.ends, index)
    }

    /// Every word with its count, in the order in which they were first seen.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        (0..self.len()).map(|i| (self.word(i), self.counts[i]))
    }

    /// Every word with its count, in ascending order of bytes, which no thread count changes.
    pub(super) fn sorted(&self) -> Vec<(&[u8], u64)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable();
        all
    }

    /// Adds `count` occurrences of `text`.
    pub(super) fn add(&mut self, text: &[u8], count: u64) -> Result<(), TokenizerError> {
        let Self { bytes, ends, counts, table, hasher } = self;
        let hash = hasher.hash_one(text);
        if let Some(&index) = table.find(hash, |&i| word(bytes, ends, i as usize) == text) {
            let sum = &mut counts[index as usize];
            *sum = sum.saturating_add(count);
            return Ok(());
        }
        let index = u32::try_from(counts.len()).map_err(|_| {
            TokenizerError::Training("more than 4,294,967,295 distinct words; give a sample".into())
        })?;
        bytes.extend_from_slice(text);
        ends.push(bytes.len());
        counts.push(count);
        table.insert_unique(hash, index, |&i| hasher.hash_one(word(bytes, ends, i as usize)));
        Ok(())
    }

    /// Adds all of `other` and empties it.
    fn take(&mut self, other: &mut Words) -> Result<(), TokenizerError> {
        for (word, count) in other.iter() {
            self.add(word, count)?;
        }
        other.bytes.clear();
        other.ends.clear();
        other.counts.clear();
        other.table.clear();
        Ok(())
    }
}

fn word<'a>(bytes: &'a [u8], ends: &[usize], index: usize) -> &'a [u8] {
    let start = if index == 0 { 0 } else { ends[index - 1] };
    &bytes[start..ends[index]]
}

/// What was counted.
pub(super) struct Counted {
    pub(super) words: Words,
    /// Documents read.
    pub(super) documents: u64,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Parts of documents that the pattern could not cut; no merge can be learned from them.
    pub(super) uncut: u64,
}

/// Counts the words of `documents` on `threads` threads; documents come from this thread, whose iterator need not be
/// `Send`. The counts do not depend on the number of threads, the order of words does.
pub(super) fn count(
    documents: impl Iterator<Item = String>,
    cutter: &Cutter,
    threads: usize,
) -> Result<Counted, TokenizerError> {
    let all = Mutex::new((Words::default(), 0));
    let (mut read, mut bytes) = (0, 0);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Vec<String>>(threads);
        // Owned by the workers alone: when the last one gives up, sending fails instead of waiting for ever.
        let receiver = Arc::new(Mutex::new(receiver));
        let all = &all;
        let start = |receiver: Arc<_>| scope.spawn(move || work(&receiver, cutter, all));
        let workers: Vec<_> = (1..threads).map(|_| start(receiver.clone())).collect();
        let workers: Vec<_> = workers.into_iter().chain([start(receiver)]).collect();
        let (mut parcel, mut size) = (Vec::new(), 0);
        for document in documents {
            read += 1;
            bytes += document.len() as u64;
            size += document.len();
            parcel.push(document);
            if size >= PARCEL {
                size = 0;
                if sender.send(std::mem::take(&mut parcel)).is_err() {
                    break;
                }
            }
        }
        // A worker that failed says so below; nobody listening is no news here.
        let _ = sender.send(parcel);
        drop(sender);
        let failed = || TokenizerError::Training("cutting the text into words failed".into());
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| failed())?)
    })?;
    let (words, uncut) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Counted { words, documents: read, bytes, uncut })
}

/// One thread's part: counts into its own table, and now and then into the common one.
fn work(
    parcels: &Mutex<Receiver<Vec<String>>>,
    cutter: &Cutter,
    all: &Mutex<(Words, u64)>,
) -> Result<(), TokenizerError> {
    let mut local = Words::default();
    let mut uncut = 0;
    let mut scratch = cutter.scratch();
    loop {
        let parcel = parcels.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let last = parcel.is_err();
        for document in parcel.into_iter().flatten() {
            uncut += cutter.words(&document, &mut scratch, |word| local.add(word, 1))?;
        }
        if last || local.len() >= LOCAL_WORDS {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.0.take(&mut local)?;
            all.1 += std::mem::take(&mut uncut);
        }
        if last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_once_each() {
        let mut words = Words::default();
        for text in ["a", "", "ab", "a", "b", "ab", "a"] {
            words.add(text.as_bytes(), 1).unwrap();
        }
        let mut more = Words::default();
        more.add(b"c", 7).unwrap();
        more.add(b"a", u64::MAX).unwrap();
        words.take(&mut more).unwrap();
        assert_eq!(more.len(), 0);
        let wanted: Vec<(&[u8], u64)> = vec![(b"", 1), (b"a", u64::MAX), (b"ab", 2), (b"b", 1), (b"c", 7)];
        assert_eq!(words.sorted(), wanted);
    }
}
