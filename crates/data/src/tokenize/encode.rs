//! Encoding on threads, results in input order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::document::{Chat, Document};
use crate::error::Error;

/// A batch holds at most this many records and about this many bytes of text: bounds the memory.
const BATCH_RECORDS: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// A record that errors can name and batches can weigh.
pub(super) trait Item {
    fn bytes(&self) -> usize;
    fn id(&self) -> Option<&str>;
}

impl Item for Document {
    fn bytes(&self) -> usize {
        self.text.len()
    }
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl Item for Chat {
    fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.content.len()).sum()
    }
    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// Gives `sink` every record with what `encode` made of it, in input order. The first error in that order ends it.
pub(super) fn in_order<T: Item + Sync, R: Send>(
    mut records: impl Iterator<Item = Result<T, Error>>,
    threads: usize,
    encode: &(dyn Fn(&T) -> Result<R, String> + Sync),
    sink: &mut dyn FnMut(&T, R) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut number = 0u64;
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Some(record) = records.next() else { break };
            let record = record?;
            bytes += record.bytes();
            batch.push(record);
        }
        if batch.is_empty() {
            return Ok(());
        }
        for (record, result) in batch.iter().zip(encode_batch(&batch, threads, encode)) {
            let encoded = result.map_err(|problem| Error::Encode {
                document: record.id().map_or_else(|| number.to_string(), |id| format!("\"{id}\"")),
                problem,
            })?;
            number += 1;
            sink(record, encoded)?;
        }
    }
}

fn encode_batch<T: Sync, R: Send>(
    batch: &[T],
    threads: usize,
    encode: &(dyn Fn(&T) -> Result<R, String> + Sync),
) -> Vec<Result<R, String>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(record) = batch.get(number) else { return done };
            done.push((number, encode(record)));
        }
    };
    let mut results = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(batch.len())).map(|_| scope.spawn(work)).collect();
        let mut results = work();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
