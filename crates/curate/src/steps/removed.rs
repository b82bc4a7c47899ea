//! Verdicts that are a list of documents to remove.

use std::path::Path;

use smolt_data::document::Document;

use crate::dedup::removals::Removals;
use crate::engine::Error;
use crate::global::Judge;
use crate::step::{Rejection, Verdict};

/// Rejects the documents of a list.
pub(super) struct Removed {
    reason: &'static str,
    removals: Removals,
}

impl Removed {
    pub(super) fn open(reason: &'static str, folder: &Path, shard: u32) -> Result<Box<dyn Judge>, Error> {
        Ok(Box::new(Self { reason, removals: Removals::open(folder, shard)? }))
    }
}

impl Judge for Removed {
    fn apply(&mut self, _: &mut Document, position: u32) -> Result<Verdict, Error> {
        let Some(removal) = self.removals.at(position)? else { return Ok(Verdict::Keep) };
        let (shard, first) = (removal.kept >> 32, removal.kept as u32);
        let detail = format!("one of {}, kept is document {first} of shard {shard}", removal.size);
        Ok(Verdict::Reject(Rejection { reason: self.reason, detail }))
    }

    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error> {
        Ok(self.removals.finish(documents)?)
    }
}
