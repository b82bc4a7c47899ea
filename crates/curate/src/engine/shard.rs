//! One pass over one shard: read, judge, step by step, gather, write; in the order of the input whatever the threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use smolt_data::document::{Document, MAX_LINE};
use smolt_data::error::Fault;
use smolt_run::signal;
use xxhash_rust::xxh3::xxh3_64;

use super::chain::{Chain, Link, Segment, Work};
use super::error::Error;
use super::files::{Layout, Lines, Split, write_json};
use super::kind::Kind;
use super::tally::{Groups, Tally};
use crate::analysis::Analysis;
use crate::global::{Collector, GlobalStep, Judge};
use crate::recipe::{Curation, DamagedFiles};
use crate::step::{Rejection, Verdict};

/// A batch holds at most this many documents and about this many bytes of text: bounds the memory.
const BATCH_DOCUMENTS: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;

/// Carries the groups that a document was counted in to later passes, where its text may be another.
pub(super) const GROUPS: &str = "smolt:groups";

/// Documents, or why one of them could not be read.
pub(super) type Documents<'a> = Box<dyn Iterator<Item = Result<Document, Error>> + 'a>;

/// A global step and its verdicts of this shard.
type Judging = (usize, Box<dyn Judge>);

/// What one pass over one shard needs.
pub(super) struct Pass<'a> {
    pub(super) curation: &'a Curation,
    pub(super) chain: &'a Chain,
    pub(super) layout: &'a Layout,
    pub(super) number: usize,
    pub(super) shard: usize,
    pub(super) source: usize,
    pub(super) threads: usize,
    /// What earlier work left for reuse, one per thread.
    pub(super) analyses: &'a Mutex<Vec<Analysis>>,
}

/// A document on its way.
struct Item {
    document: Document,
    /// Of the text as it was read.
    bytes: usize,
    /// Of the text as it was read; found on the threads in the first pass.
    kind: Option<Kind>,
    /// Carried from the first pass.
    groups: Option<Groups>,
    /// (step, bytes before, bytes after, changed) for each step passed.
    trail: Vec<(usize, usize, usize, bool)>,
    rejected: Option<(usize, usize, Rejection)>,
    /// (step, what it found).
    found: Vec<(usize, u32)>,
    keys: Vec<u8>,
}

impl Pass<'_> {
    fn segment(&self) -> &Segment {
        &self.chain.segments[self.number]
    }

    fn link(&self, step: usize) -> &Link {
        &self.chain.links[step]
    }

    fn is_last(&self) -> bool {
        self.number + 1 == self.chain.segments.len()
    }

    /// Reads `documents` to their end and writes everything, the marker last.
    pub(super) fn run(&self, mut documents: Documents<'_>, mut tally: Tally) -> Result<(), Error> {
        let name = &self.curation.source[self.source].name;
        let mut judge = self.judge()?;
        let mut writer = Writer::new(self, name)?;
        let mut position = 0;
        loop {
            if let Some(signal) = signal::requested() {
                return Err(Error::Stopped(signal.name()));
            }
            let mut batch = self.fill(&mut documents, &mut judge, &mut position, &mut writer, &mut tally)?;
            if batch.is_empty() {
                break;
            }
            self.in_parallel(&mut batch, |item, analysis| {
                self.apply(item, analysis);
                self.keys(item);
            });
            for item in batch {
                writer.write(self, item, &mut tally)?;
            }
        }
        if let Some((_, judge)) = judge {
            judge.finish(u64::from(position))?;
        }
        writer.finish()?;
        write_json(&self.layout.done(self.number, self.shard), &tally)
    }

    fn judge(&self) -> Result<Option<Judging>, Error> {
        let Some(step) = self.segment().judged.filter(|&step| self.link(step).is_for(self.source)) else {
            return Ok(None);
        };
        let Work::Global(global) = &self.link(step).work else { return Ok(None) };
        Ok(Some((step, global.judge(&self.layout.verdicts(self.number - 1), self.shard as u32)?)))
    }

    /// The next documents; what cannot be read is counted and written on the way.
    fn fill(
        &self,
        documents: &mut Documents<'_>,
        judge: &mut Option<Judging>,
        position: &mut u32,
        writer: &mut Writer<'_>,
        tally: &mut Tally,
    ) -> Result<Vec<Item>, Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES {
            let document = match documents.next() {
                None => break,
                Some(Ok(document)) => document,
                Some(Err(Error::Data(problem))) if problem.is_recoverable() || self.skips(&problem) => {
                    writer.unreadable(&problem, tally)?;
                    continue;
                }
                Some(Err(problem)) => return Err(problem),
            };
            bytes += document.text.len();
            let mut item = self.item(document);
            if let Some((step, judge)) = judge {
                let before = item.document.text.len();
                let hash = xxh3_64(item.document.text.as_bytes());
                let verdict = judge.apply(&mut item.document, *position)?;
                item.follow(*step, before, hash, verdict);
            }
            *position += 1;
            batch.push(item);
        }
        Ok(batch)
    }

    /// A file that the system does not give now is not damaged: it may be whole tomorrow.
    fn skips(&self, problem: &smolt_data::Error) -> bool {
        let wanted = self.curation.source[self.source].damaged_files == DamagedFiles::Skip;
        self.number == 0 && wanted && !matches!(problem, smolt_data::Error::File(_))
    }

    fn item(&self, mut document: Document) -> Item {
        let carried = match self.number {
            0 => None,
            _ => document.metadata.shift_remove(GROUPS).and_then(|told| serde_json::from_value(told).ok()),
        };
        if self.number == 0 {
            let source = &self.curation.source[self.source];
            document.source.get_or_insert_with(|| source.name.clone());
            for (key, value) in &source.metadata {
                document.metadata.entry(key.clone()).or_insert_with(|| value.clone().into());
            }
        }
        let bytes = document.text.len();
        Item {
            document,
            bytes,
            kind: None,
            groups: carried,
            trail: Vec::new(),
            rejected: None,
            found: Vec::new(),
            keys: Vec::new(),
        }
    }

    fn apply(&self, item: &mut Item, analysis: &mut Analysis) {
        if item.groups.is_none() {
            item.kind = Some(Kind::of(&item.document.text));
        }
        if item.rejected.is_some() {
            return;
        }
        analysis.text_changed();
        let mut hash = xxh3_64(item.document.text.as_bytes());
        for &step in &self.segment().each {
            let link = self.link(step);
            let Work::Each(work) = &link.work else { continue };
            if !link.is_for(self.source) {
                continue;
            }
            let before = item.document.text.len();
            let verdict = work.apply(&mut item.document, analysis);
            item.found.extend(analysis.take_found().map(|thing| (step, thing)));
            let after = item.follow(step, before, hash, verdict);
            if item.rejected.is_some() {
                return;
            }
            if after != hash {
                analysis.text_changed();
                hash = after;
            }
        }
    }

    fn keys(&self, item: &mut Item) {
        if let (Some(global), None) = (self.gathered(), &item.rejected) {
            global.keys(&item.document, &mut item.keys);
        }
    }

    /// The global step that this pass gathers for, if it is for this shard's documents.
    fn gathered(&self) -> Option<&dyn GlobalStep> {
        let step = self.segment().gathered.filter(|&step| self.link(step).is_for(self.source))?;
        match &self.link(step).work {
            Work::Global(global) => Some(&**global),
            Work::Each(_) => None,
        }
    }

    /// Items to threads one by one; each thread has an analysis of its own.
    fn in_parallel(&self, batch: &mut [Item], act: impl Fn(&mut Item, &mut Analysis) + Sync) {
        let take = || self.analyses.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let give = |analysis| self.analyses.lock().unwrap_or_else(PoisonError::into_inner).push(analysis);
        if self.threads <= 1 || batch.len() <= 1 {
            let mut analysis = take();
            batch.iter_mut().for_each(|item| act(item, &mut analysis));
            return give(analysis);
        }
        let threads = self.threads.min(batch.len());
        let items: Vec<Mutex<&mut Item>> = batch.iter_mut().map(Mutex::new).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut analysis = take();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                act(&mut item.lock().unwrap_or_else(PoisonError::into_inner), &mut analysis);
            }
            give(analysis);
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }
}

impl Item {
    /// Takes a step's verdict down; gives the hash of the text as it is now.
    fn follow(&mut self, step: usize, before: usize, hash: u64, verdict: Verdict) -> u64 {
        let after = xxh3_64(self.document.text.as_bytes());
        match verdict {
            Verdict::Keep => self.trail.push((step, before, self.document.text.len(), after != hash)),
            Verdict::Reject(rejection) => self.rejected = Some((step, before, rejection)),
        }
        after
    }
}

/// Where the documents of a pass go.
struct Writer<'a> {
    curated: Option<Split<'a>>,
    between: Option<Lines>,
    rejected: Option<Lines>,
    collector: Option<Box<dyn Collector>>,
    collected: u32,
}

impl<'a> Writer<'a> {
    fn new(pass: &Pass<'a>, name: &str) -> Result<Self, Error> {
        let (layout, shard) = (pass.layout, pass.shard);
        let output = &pass.curation.output;
        let split = || Split::new(layout.documents(name), shard, output.split_by.as_deref());
        let rejected = layout.rejected(name).join(format!("{shard:05}.{}.jsonl.zst", pass.number));
        let between = layout.between(pass.number, shard);
        Ok(Self {
            curated: pass.is_last().then(split),
            between: if pass.is_last() { None } else { Some(Lines::between(&between)?) },
            rejected: if output.rejected { Some(Lines::create(&rejected)?) } else { None },
            collector: match pass.gathered() {
                Some(global) => Some(global.collect(&layout.records(pass.number, shard), shard as u32)?),
                None => None,
            },
            collected: 0,
        })
    }

    fn unreadable(&mut self, problem: &smolt_data::Error, tally: &mut Tally) -> Result<(), Error> {
        let reason = problem.fault().map_or("damaged_file", Fault::reason);
        *tally.unreadable.entry(reason.to_owned()).or_default() += 1;
        match &mut self.rejected {
            Some(file) => file.write(&json!({"unreadable": problem.to_string()})),
            None => Ok(()),
        }
    }

    fn write(&mut self, pass: &Pass<'_>, mut item: Item, tally: &mut Tally) -> Result<(), Error> {
        let groups = match item.groups.take() {
            Some(groups) => groups,
            None => {
                let kind = item.kind.unwrap_or_else(|| Kind::of(&item.document.text));
                tally.groups(&item.document, kind)
            }
        };
        if item.rejected.is_none() && !self.pass_on(&mut item.document, &groups)? {
            let detail = format!("a line of more than {MAX_LINE} bytes");
            // What steps of later passes added made it too long; the first finds every document that came so.
            match item.trail.pop().filter(|_| pass.number > 0) {
                Some((step, before, ..)) => {
                    item.rejected = Some((step, before, Rejection { reason: "too_long", detail }));
                }
                None => return self.too_long(&item.document, &detail, tally),
            }
        }
        let Item { mut document, bytes, trail, rejected, found, keys, .. } = item;
        if pass.number == 0 {
            tally.read(bytes, &groups);
        }
        for (step, before, after, changed) in trail {
            tally.keep(step, before, after, changed);
        }
        for (step, thing) in found {
            tally.found(step, thing);
        }
        if let Some((step, before, rejection)) = rejected {
            tally.reject(step, before, &rejection, &groups);
            if let Some(file) = &mut self.rejected {
                let Rejection { reason, detail } = rejection;
                let told = json!({"step": pass.link(step).name, "reason": reason, "detail": detail});
                document.metadata.insert("rejected".to_owned(), told);
                file.write(&document)?;
            }
            return Ok(());
        }
        if let Some(collector) = &mut self.collector {
            collector.push(self.collected, &document, &keys)?;
            self.collected += 1;
        }
        if self.curated.is_some() {
            tally.kept.add(document.text.len());
        }
        Ok(())
    }

    /// Writes a document where it goes next; gives false, and writes nothing, where no reader would take the line.
    fn pass_on(&mut self, document: &mut Document, groups: &Groups) -> Result<bool, Error> {
        if let Some(file) = &mut self.curated {
            return file.write_within(document, MAX_LINE);
        }
        let Some(file) = &mut self.between else { return Ok(true) };
        document.metadata.insert(GROUPS.to_owned(), json!(groups));
        let written = file.write_within(document, MAX_LINE)?;
        document.metadata.shift_remove(GROUPS);
        Ok(written)
    }

    fn too_long(&mut self, document: &Document, detail: &str, tally: &mut Tally) -> Result<(), Error> {
        *tally.unreadable.entry(Fault::TooLong.reason().to_owned()).or_default() += 1;
        let Some(file) = &mut self.rejected else { return Ok(()) };
        let place = document.id.as_deref().or(document.url.as_deref()).unwrap_or("a document");
        let place: String = place.chars().take(200).collect();
        file.write(&json!({"unreadable": format!("{place}: it would be {detail}; split it")}))
    }

    fn finish(self) -> Result<(), Error> {
        self.curated.map_or(Ok(()), Split::finish)?;
        self.between.map_or(Ok(()), Lines::finish)?;
        self.rejected.map_or(Ok(()), Lines::finish)?;
        match self.collector {
            Some(collector) => collector.finish(u64::from(self.collected)),
            None => Ok(()),
        }
    }
}
