//! The same bytes for any threads, ranks and kills; nothing lost, nothing counted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use smolt_data::document::Document;
use smolt_run::launcher::Rank;
use smolt_run::recipe::Document as Table;

use super::chain::{Chain, Link, Work};
use super::{Error, Kind, Options, Report, run_chain};
use crate::analysis::Analysis;
use crate::dedup::{Sources, Space};
use crate::global::{Collector, GlobalStep, Judge};
use crate::recipe::{Curation, Places};
use crate::step::{Rejection, Step, Verdict};

/// Rejects texts with a brace, as C4's rule does.
struct NoBrace;

impl Step for NoBrace {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        match document.text.contains('{') {
            true => Verdict::reject("curly_bracket"),
            false => Verdict::Keep,
        }
    }
}

struct Trim;

impl Step for Trim {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        document.text = document.text.trim().to_owned();
        Verdict::Keep
    }
}

/// Ends its process, as far as a test can, at the document with this id.
struct DiesAt(AtomicUsize);

impl Step for DiesAt {
    fn apply(&self, _: &mut Document, _: &mut Analysis) -> Verdict {
        assert!(self.0.fetch_sub(1, Ordering::SeqCst) > 0, "killed");
        Verdict::Keep
    }
}

/// Keeps the first document of each length.
struct OneOfEachLength;

struct Lengths(PathBuf, Vec<u8>);

impl Collector for Lengths {
    fn push(&mut self, position: u32, document: &Document, keys: &[u8]) -> Result<(), Error> {
        assert_eq!(keys, (document.text.len() as u64).to_le_bytes());
        self.1.extend_from_slice(keys);
        self.1.extend_from_slice(&position.to_le_bytes());
        Ok(())
    }

    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error> {
        assert_eq!(self.1.len() as u64, documents * 12);
        fs::write(self.0, self.1).unwrap();
        Ok(())
    }
}

struct Listed(BTreeSet<u32>);

impl GlobalStep for OneOfEachLength {
    fn keys(&self, document: &Document, keys: &mut Vec<u8>) {
        keys.extend_from_slice(&(document.text.len() as u64).to_le_bytes());
    }

    fn collect(&self, path: &Path, _: u32) -> Result<Box<dyn Collector>, Error> {
        Ok(Box::new(Lengths(path.to_owned(), Vec::new())))
    }

    fn decide(&self, records: &[PathBuf], folder: &Path, _: &Sources, _: &Space<'_>) -> Result<Value, Error> {
        let mut seen = BTreeSet::new();
        for (shard, records) in records.iter().enumerate() {
            let mut drop = Vec::new();
            for record in fs::read(records).unwrap().chunks_exact(12) {
                if !seen.insert(record[..8].to_vec()) {
                    drop.extend_from_slice(&record[8..]);
                }
            }
            fs::write(folder.join(shard.to_string()), drop).unwrap();
        }
        Ok(json!({"lengths": seen.len()}))
    }

    fn judge(&self, folder: &Path, shard: u32) -> Result<Box<dyn Judge>, Error> {
        let bytes = fs::read(folder.join(shard.to_string())).unwrap();
        let positions = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
        Ok(Box::new(Listed(positions.collect())))
    }
}

impl Judge for Listed {
    fn apply(&mut self, _: &mut Document, position: u32) -> Result<Verdict, Error> {
        match self.0.contains(&position) {
            true => Ok(Verdict::Reject(Rejection { reason: "same_length", detail: position.to_string() })),
            false => Ok(Verdict::Keep),
        }
    }

    fn finish(self: Box<Self>, _: u64) -> Result<(), Error> {
        Ok(())
    }
}

const DOCUMENTS: usize = 600;

/// Two sources in several files: prose with LaTeX in every fifth, each text of some length.
fn inputs(folder: &Path) -> Curation {
    for source in ["web", "books"] {
        fs::create_dir_all(folder.join(source)).unwrap();
        for file in 0..5 {
            let mut lines = String::new();
            for i in 0..DOCUMENTS / 10 {
                let mut text = format!(
                    " {} {}",
                    &source[3..],
                    "some words of a text, ".repeat(12 + (i * 7 + file) % 40)
                );
                if i % 5 == 0 {
                    text += "where \\frac{a}{b} and $$x^2$$ and \\sqrt{c} ".repeat(6).as_str();
                }
                let url = format!("https://host{}.example/{i}", i % 3);
                lines +=
                    &(json!({"id": format!("{source}-{file}-{i}"), "text": text, "url": url, "score": i % 4})
                        .to_string() + "\n");
            }
            fs::write(folder.join(source).join(format!("{file}.jsonl")), lines).unwrap();
        }
    }
    let text = r#"
        name = "test"
        [[source]]
        name = "web"
        inputs = ["web/0.jsonl", "web/1.jsonl", "web/2.jsonl", "web/3.jsonl", "web/4.jsonl"]
        metadata = { licence = "MIT" }
        [[source]]
        name = "books"
        inputs = ["books"]
        [output]
        shard_bytes = 100_000
        split_by = "score"
    "#;
    Table::parse("test.toml", text.as_bytes()).unwrap().read().unwrap()
}

fn link(name: &str, work: Work) -> Link {
    Link { name: name.to_owned(), sources: None, work }
}

fn chain() -> Vec<Link> {
    vec![
        link("trim", Work::Each(Box::new(Trim))),
        link("lengths", Work::Global(Box::new(OneOfEachLength))),
        Link { sources: Some(vec![0]), ..link("brace", Work::Each(Box::new(NoBrace))) },
    ]
}

fn options(base: &Path, out: &str, threads: usize) -> Options {
    Options {
        places: Places { base: base.to_owned(), steps: base.to_owned() },
        out: base.join(out),
        threads,
        memory: 1 << 20,
        rank: Rank::SOLO,
    }
}

fn run(curation: &Curation, links: Vec<Link>, options: &Options) -> Report {
    run_chain(curation, Chain::of(links), options, &|_| ()).unwrap()
}

/// Every file below `folder` but the plan.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_bytes_for_any_number_of_threads_and_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let curation = inputs(dir.path());
    run(&curation, chain(), &options(dir.path(), "solo", 1));
    let solo = files(&dir.path().join("solo"));
    assert!(solo.len() > 10, "{:?}", solo.keys());
    run(&curation, chain(), &options(dir.path(), "threads", 3));
    assert_eq!(files(&dir.path().join("threads")), solo);
    for world in [2, 3] {
        let out = format!("world-{world}");
        let reports: Vec<Report> = std::thread::scope(|scope| {
            let ranks: Vec<_> = (0..world)
                .map(|rank| {
                    let options = Options { rank: Rank { rank, world }, ..options(dir.path(), &out, 2) };
                    let curation = &curation;
                    scope.spawn(move || run(curation, chain(), &options))
                })
                .collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert!(reports.iter().all(|report| *report == reports[0]));
        assert_eq!(files(&dir.path().join(out)), solo, "world {world}");
    }
}

#[test]
fn killed_anywhere_it_goes_on_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let curation = inputs(dir.path());
    let with = |deaths: usize| {
        let mut links = chain();
        links.insert(0, link("dies", Work::Each(Box::new(DiesAt(AtomicUsize::new(deaths))))));
        links.push(link("dies late", Work::Each(Box::new(DiesAt(AtomicUsize::new(deaths))))));
        links
    };
    run(&curation, with(usize::MAX), &options(dir.path(), "whole", 2));
    let killed = options(dir.path(), "killed", 1);
    let finished = |deaths| catch_unwind(AssertUnwindSafe(|| run(&curation, with(deaths), &killed))).is_ok();
    assert!(!finished(0) && !finished(1) && !finished(20));
    let deaths = (0..100).take_while(|i| !finished(61 + i * 7)).count();
    assert!((3..100).contains(&deaths), "{deaths}");
    assert_eq!(files(&dir.path().join("killed")), files(&dir.path().join("whole")));
}

#[test]
fn every_document_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let curation = inputs(dir.path());
    let report = run(&curation, chain(), &options(dir.path(), "out", 2));
    let rejected: u64 = report.total.steps.values().map(|step| step.rejected.documents).sum();
    assert_eq!(report.total.read.documents, DOCUMENTS as u64);
    assert_eq!(report.total.read.documents, report.total.kept.documents + rejected);
    assert_eq!(report.total.steps[&0].changed.documents, DOCUMENTS as u64, "each text was trimmed");
    let sum = |what: fn(&super::Tally) -> u64| report.sources.values().map(what).sum::<u64>();
    assert_eq!(sum(|tally| tally.kept.documents), report.total.kept.documents);
    assert_eq!(report.sources["books"].steps.get(&2), None, "the step is for the other source");
    let kinds: u64 = report.total.kinds.values().map(|group| group.read.documents).sum();
    assert_eq!(kinds, DOCUMENTS as u64);

    let (mut kept, mut reasons) = (BTreeSet::new(), BTreeMap::<String, u64>::new());
    for (path, bytes) in files(&dir.path().join("out")) {
        if path.extension().is_none_or(|extension| extension != "zst") {
            continue;
        }
        for line in String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap().lines() {
            let document: Value = serde_json::from_str(line).unwrap();
            assert!(document.get("smolt:kind").is_none());
            match document.get("rejected") {
                Some(told) => *reasons.entry(told["reason"].as_str().unwrap().to_owned()).or_default() += 1,
                None => {
                    let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
                    assert_eq!(folder, document["score"].to_string());
                    assert_eq!(document.get("licence").is_some(), document["source"] == "web");
                    assert!(kept.insert(document["id"].to_string()));
                }
            }
        }
    }
    assert_eq!(kept.len() as u64, report.total.kept.documents);
    assert_eq!(reasons.values().sum::<u64>(), rejected);
    assert_eq!(reasons["curly_bracket"], report.total.steps[&2].reasons["curly_bracket"]);
    assert_eq!(
        report.decisions["lengths"]["lengths"],
        report.total.steps[&2].seen.documents + {
            let books = &report.sources["books"];
            books.kept.documents
        }
    );
}

/// The lesson of FineMath (spec `CLN-03`), and that an even rule is not accused.
#[test]
fn a_rule_that_deletes_a_kind_of_text_is_pointed_out() {
    let dir = tempfile::tempdir().unwrap();
    let curation = inputs(dir.path());
    let report =
        run(&curation, vec![link("brace", Work::Each(Box::new(NoBrace)))], &options(dir.path(), "out", 2));
    let math = report.findings.iter().find(|finding| finding.group == "kind math").unwrap();
    assert_eq!((math.share, math.share_of_others, math.rejected), (1.0, 0.0, DOCUMENTS as u64 / 5));
    assert_eq!(report.total.kinds[&Kind::Math].read.documents, DOCUMENTS as u64 / 5);
    assert!(report.findings.iter().all(|finding| finding.group == "kind math"), "{:?}", report.findings);
}

#[test]
fn a_folder_of_another_recipe_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut curation = inputs(dir.path());
    let options = options(dir.path(), "out", 1);
    let first = run(&curation, chain(), &options);
    assert_eq!(run(&curation, chain(), &options), first, "a finished one is read");
    curation.output.rejected = false;
    let error = run_chain(&curation, Chain::of(chain()), &options, &|_| ()).unwrap_err().to_string();
    assert!(error.contains("another recipe") && error.contains("out"), "{error}");
    curation.output.rejected = true;
    fs::write(dir.path().join("web/0.jsonl"), "{\"text\": \"x\"}\n").unwrap();
    assert!(run_chain(&curation, Chain::of(chain()), &options, &|_| ()).is_err());
}
