//! Runs a curation: shards over threads and ranks, killed at any moment and continued, nothing counted twice.
//!
//! The recipe's steps are cut at those that must have seen every document ([`crate::global`]); each part is one pass over
//! all shards. A shard belongs to one rank and is done when its marker is there, which is written after all else. Ranks
//! meet in the folder: who has no work left waits for the markers of the others. The output is the same bytes for any
//! number of threads, ranks and kills, because shards are cut by the inputs alone.

mod audit;
mod chain;
mod error;
mod files;
mod kind;
mod plan;
mod progress;
mod read;
mod shard;
mod tally;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smolt_data::format;
use smolt_run::launcher::Rank;
use smolt_run::{hash, recipe, signal};
use smolt_store::Store;

pub use audit::{Finding, Report};
pub use chain::{Chain, Work};
pub use error::Error;
pub use files::Layout;
pub use kind::Kind;
pub use plan::{Input, Shard, plan};
pub use tally::{Amount, Group, StepTally, Tally};

use crate::analysis::Analysis;
use crate::dedup::{Sources, Space};
use crate::recipe::{Curation, Places};
use files::{make_folder, read_json, read_tally, write_json};
use progress::PassProgress;
use shard::{Documents, Pass};

/// Where and with what a curation runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// What paths in the recipe are relative to.
    pub places: Places,
    /// Folder of the results.
    pub out: PathBuf,
    /// Threads to compute on.
    pub threads: usize,
    /// Bytes that a step over all documents may use.
    pub memory: u64,
    /// Which of how many processes this is.
    pub rank: Rank,
}

/// Told while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes of input done in this pass by this rank, of how many.
    Progress {
        /// Pass, from 0, and how many there are.
        pass: (usize, usize),
        /// Bytes of inputs done and in all.
        bytes: (u64, u64),
    },
    /// Something to say in a line.
    Note(String),
}

/// `plan.json`: what a folder was started with.
#[derive(Serialize)]
struct Plan<'a> {
    format_version: u32,
    key: &'a str,
    recipe: &'a str,
    shards: &'a [Shard],
}

/// What of `plan.json` decides whether to go on.
#[derive(Deserialize)]
struct Started {
    key: String,
}

/// Raised whenever a step decides otherwise than before with the same settings: a folder that an earlier version began is
/// not continued with other decisions.
const DECISIONS: u32 = 1;

/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

/// How often a waiting rank looks.
const POLL: Duration = Duration::from_millis(200);

struct Engine<'a> {
    curation: &'a Curation,
    chain: Chain,
    options: &'a Options,
    layout: Layout,
    store: Store,
    shards: Vec<Shard>,
    analyses: Mutex<Vec<Analysis>>,
    tell: &'a (dyn Fn(Event) + Sync),
}

/// Runs `curation` to its end and gives the report; every rank gives the same.
pub fn run(curation: &Curation, options: &Options, tell: &(dyn Fn(Event) + Sync)) -> Result<Report, Error> {
    run_chain(curation, Chain::build(curation, &options.places)?, options, tell)
}

fn run_chain(
    curation: &Curation,
    chain: Chain,
    options: &Options,
    tell: &(dyn Fn(Event) + Sync),
) -> Result<Report, Error> {
    let layout = Layout::new(&options.out);
    let store = Store::of_process();
    let shards = plan(curation, &options.places, &store)?;
    let analyses = Mutex::new(Vec::new());
    let engine = Engine { curation, chain, options, layout, store, shards, analyses, tell };
    engine.start()?;
    for pass in 0..engine.chain.segments.len() {
        // Another rank may have ended everything, and its markers with it.
        if let Some(report) = read_json::<Report>(&engine.layout.report())? {
            if engine.leads() {
                // A kill right behind the report left it.
                remove_folder(&engine.layout.work())?;
            }
            return Ok(report);
        }
        engine.pass(pass)?;
        engine.decide(pass)?;
    }
    engine.end()
}

/// Ends the thread that tells progress.
struct EndTelling<'a>(&'a AtomicBool, Thread);

impl Drop for EndTelling<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

impl Engine<'_> {
    fn leads(&self) -> bool {
        self.options.rank.rank == 0
    }

    /// Writes `plan.json`, or refuses a folder that was started with something else.
    fn start(&self) -> Result<(), Error> {
        make_folder(&self.options.out)?;
        let text = recipe::to_toml(self.curation);
        let shards = serde_json::to_string(&self.shards).unwrap_or_default();
        let read =
            self.chain.files.iter().map(|file| hash::file(file)).collect::<Result<Vec<_>, _>>()?.join("\n");
        let settings = &self.chain.settings;
        let key = hash::bytes(format!("{DECISIONS}\n{text}\n{settings}\n{shards}\n{read}").as_bytes());
        let path = self.layout.plan();
        if self.leads() && !path.exists() {
            write_json(&path, &Plan { format_version: 1, key: &key, recipe: &text, shards: &self.shards })?;
        }
        self.wait_for(std::slice::from_ref(&path), "the first rank's plan.json")?;
        match read_json::<Started>(&path)? {
            Some(plan) if plan.key == key => Ok(()),
            _ => Err(Error::Settings(format!(
                "{}: was made by another recipe or version of smolt, or from other inputs or lists; choose another --out, or delete the folder",
                self.options.out.display()
            ))),
        }
    }

    /// Brings this rank's shards through pass `number`.
    fn pass(&self, number: usize) -> Result<(), Error> {
        let names: Vec<String> = self.curation.source.iter().map(|source| source.name.clone()).collect();
        self.layout.prepare(number, &names)?;
        let rank = self.options.rank;
        let mine: Vec<usize> = (0..self.shards.len()).filter(|&shard| rank.owns(shard as u64)).collect();
        let total: u64 = mine.iter().map(|&shard| self.shards[shard].bytes()).sum();
        let outer = self.options.threads.min(mine.len()).max(1);
        let inner = (self.options.threads / outer).max(1);
        let (next, stop, progress) = (AtomicUsize::new(0), AtomicBool::new(false), PassProgress::new(outer));
        let ended = AtomicBool::new(false);
        let tell = || {
            let pass = (number, self.chain.segments.len());
            (self.tell)(Event::Progress { pass, bytes: (progress.bytes(), total) });
        };
        let work = |worker: usize| -> Result<(), Error> {
            while let Some(&shard) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                self.shard(number, shard, inner, (&progress, worker))
                    .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
                progress.finish(worker);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let teller = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::thread::park_timeout(TELL);
                    tell();
                }
            });
            // Also when a worker panics, or the scope would wait for ever.
            let _end = EndTelling(&ended, teller.thread().clone());
            let work = &work;
            let others: Vec<_> = (1..outer).map(|worker| scope.spawn(move || work(worker))).collect();
            let mut result = work(0);
            for other in others {
                let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(theirs);
            }
            result
        })
    }

    fn shard(
        &self,
        number: usize,
        shard: usize,
        threads: usize,
        (progress, worker): (&PassProgress, usize),
    ) -> Result<(), Error> {
        let bytes = self.shards[shard].bytes();
        let size = match number {
            0 => bytes,
            _ => std::fs::metadata(self.layout.between(number - 1, shard)).map_or(bytes, |file| file.len()),
        };
        let read = progress.begin(worker, size, bytes);
        if self.layout.done(number, shard).exists() {
            return Ok(());
        }
        let source = self.shards[shard].source;
        let pass = Pass {
            curation: self.curation,
            chain: &self.chain,
            layout: &self.layout,
            number,
            shard,
            source,
            threads,
            analyses: &self.analyses,
        };
        pass.run(self.documents(number, shard, read)?, Tally::default())
    }

    /// What a pass reads: the inputs, or what the pass before wrote.
    fn documents(&self, number: usize, shard: usize, read: Arc<AtomicU64>) -> Result<Documents<'_>, Error> {
        if number > 0 {
            let path = self.layout.between(number - 1, shard);
            let file = format::Input::open(&path)?.counted(read);
            let lines = format::read(file, format::Format::Jsonl, &format::ReadOptions::default())?;
            // What this engine wrote is whole, so any damage is final.
            return Ok(Box::new(
                lines.map(move |item| item.map_err(|problem| Error::damaged(&path, problem))),
            ));
        }
        let source = &self.curation.source[self.shards[shard].source];
        let inputs = self.shards[shard].inputs.iter();
        Ok(Box::new(
            inputs.flat_map(move |input| read::documents(&self.store, source, input, Arc::clone(&read))),
        ))
    }

    /// The decision of the global step that ends pass `number`: the first rank makes it, when all shards are there.
    fn decide(&self, number: usize) -> Result<(), Error> {
        let Some(step) = self.chain.segments[number].gathered else { return Ok(()) };
        let decided = self.layout.decided(number);
        if self.leads() && !decided.exists() {
            self.wait_for_shards(number)?;
            let Work::Global(global) = &self.chain.links[step].work else { return Ok(()) };
            (self.tell)(Event::Note(format!("{}: deciding over all documents", self.chain.links[step].name)));
            // Only shards whose documents the step is for have records.
            let takes = |shard: &usize| self.chain.links[step].is_for(self.shards[*shard].source);
            let records: Vec<PathBuf> = (0..self.shards.len())
                .filter(takes)
                .map(|shard| self.layout.records(number, shard))
                .collect();
            let names = self.curation.source.iter().map(|source| source.name.clone()).collect();
            let of_shard = self.shards.iter().map(|shard| shard.source as u32).collect();
            let (folder, verdicts) = (self.layout.work().join("sort"), self.layout.verdicts(number));
            for folder in [&folder, &verdicts] {
                remove_folder(folder)?;
                make_folder(folder)?;
            }
            let space = Space { memory: self.options.memory, scratch: &folder };
            let report = global.decide(&records, &verdicts, &Sources::new(names, of_shard)?, &space)?;
            remove_folder(&folder)?;
            write_json(&decided, &report)?;
        }
        self.wait_for(&[decided], "the first rank's decision")
    }

    /// Adds everything up, writes the report, removes what is no longer needed.
    fn end(&self) -> Result<Report, Error> {
        let path = self.layout.report();
        if !self.leads() {
            self.wait_for(std::slice::from_ref(&path), "the first rank's report")?;
            return read_json(&path)?.ok_or_else(|| Error::damaged(&path, "vanished"));
        }
        let last = self.chain.segments.len() - 1;
        self.wait_for_shards(last)?;
        let mut tallies = vec![Tally::default(); self.curation.source.len()];
        for number in 0..=last {
            for (shard, plan) in self.shards.iter().enumerate() {
                let path = self.layout.done(number, shard);
                let tally = read_tally(&path)?.ok_or_else(|| Error::damaged(&path, "missing"))?;
                tallies[plan.source].join(tally);
            }
        }
        let mut decisions = std::collections::BTreeMap::new();
        for (number, segment) in self.chain.segments.iter().enumerate() {
            if let (Some(step), Some(told)) = (segment.gathered, read_json(&self.layout.decided(number))?) {
                decisions.insert(self.chain.links[step].name.clone(), told);
            }
        }
        for (number, link) in self.chain.links.iter().enumerate() {
            let Work::Each(step) = &link.work else { continue };
            let mut whole = StepTally::default();
            for tally in tallies.iter_mut().filter_map(|tally| tally.steps.get_mut(&number)) {
                whole.join(tally.clone());
                tally.found.clear();
            }
            decisions.extend(step.report(&whole).map(|told| (link.name.clone(), told)));
        }
        let report = audit::report(self.curation, &self.chain, tallies, decisions);
        // All shards are done, so nobody writes any more.
        self.layout.remove_temporaries()?;
        write_json(&path, &report)?;
        remove_folder(&self.layout.work())?;
        Ok(report)
    }

    fn wait_for_shards(&self, number: usize) -> Result<(), Error> {
        let markers: Vec<PathBuf> =
            (0..self.shards.len()).map(|shard| self.layout.done(number, shard)).collect();
        self.wait_for(&markers, "the shards of other ranks")
    }

    /// Until all of `paths` are there; says so once.
    fn wait_for(&self, paths: &[PathBuf], what: &str) -> Result<(), Error> {
        let missing = || paths.iter().filter(|path| !path.exists()).count();
        let mut told = false;
        while missing() > 0 {
            // The report ends everything: who comes late finds the markers gone.
            if self.layout.report().exists() {
                return Ok(());
            }
            if let Some(signal) = signal::requested() {
                return Err(Error::Stopped(signal.name()));
            }
            if !std::mem::replace(&mut told, true) {
                let (rank, count) = (self.options.rank, missing());
                let text =
                    format!("rank {} of {}: waiting for {what} ({count} missing)", rank.rank, rank.world);
                (self.tell)(Event::Note(text));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(smolt_run::error::FileError::new("remove", folder, source).into())
        }
        _ => Ok(()),
    }
}
