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
use crate::recipe::{Curation, DamagedFiles, Places};
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
            assert!(document.get("smolt:groups").is_none());
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
    let changed = Chain { settings: "min_doc_words = 60".to_owned(), ..Chain::of(chain()) };
    curation.output.rejected = true;
    assert!(run_chain(&curation, changed, &options, &|_| ()).is_err(), "other defaults");
    curation.output.rejected = false;
    let error = run_chain(&curation, Chain::of(chain()), &options, &|_| ()).unwrap_err().to_string();
    assert!(error.contains("another recipe") && error.contains("out"), "{error}");
    curation.output.rejected = true;
    fs::write(dir.path().join("web/0.jsonl"), "{\"text\": \"x\"}\n").unwrap();
    assert!(run_chain(&curation, Chain::of(chain()), &options, &|_| ()).is_err());
}

#[test]
fn settings_that_were_left_out_are_part_of_what_a_folder_was_started_with() {
    let text = "name = 'x'\n[[source]]\nname = 'a'\ninputs = ['a']\n[[step]]\nkind = 'cleanup'\n[[step]]\nkind = 'line_dedup'\n";
    let curation: Curation = Table::parse("x.toml", text.as_bytes()).unwrap().read().unwrap();
    let chain = Chain::build(&curation, &Places { base: ".".into(), steps: ".".into() }).unwrap();
    assert!(
        chain.settings.contains("min_chars") && chain.settings.contains("[line_dedup]"),
        "{}",
        chain.settings
    );
}

/// Adds a MiB of characters that JSON writes in six bytes each.
struct Grows;

impl Step for Grows {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        document.text += &"\u{1}".repeat(1 << 20);
        Verdict::Keep
    }
}

#[test]
fn what_no_reader_would_take_is_counted_and_the_run_ends() {
    let dir = tempfile::tempdir().unwrap();
    for (name, length) in [("long", 12 << 20), ("grows", 21 << 19), ("short", 3)] {
        fs::write(dir.path().join(name), "\u{1}".repeat(length)).unwrap();
    }
    let text = "name = 'x'\n[[source]]\nname = 'a'\ninputs = ['long', 'grows', 'short']\n";
    let curation: Curation = Table::parse("x.toml", text.as_bytes()).unwrap().read().unwrap();
    let links = vec![
        link("lengths", Work::Global(Box::new(OneOfEachLength))),
        link("grows", Work::Each(Box::new(Grows))),
    ];
    let report = run(&curation, links, &options(dir.path(), "out", 1));
    assert_eq!(report.total.unreadable["too_long"], 1);
    assert_eq!((report.total.read.documents, report.total.kept.documents), (2, 1));
    assert_eq!(report.total.steps[&1].reasons["too_long"], 1);
    assert_eq!(report.total.steps[&1].seen.documents, 2);
}

#[test]
fn a_host_is_counted_alike_in_every_pass() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..10_050)
        .map(|i| json!({"text": "same", "url": format!("https://{i}.example/")}).to_string() + "\n")
        .collect();
    fs::write(dir.path().join("a.jsonl"), lines).unwrap();
    let text = "name = 'x'\n[[source]]\nname = 'a'\ninputs = ['a.jsonl']\n";
    let curation: Curation = Table::parse("x.toml", text.as_bytes()).unwrap().read().unwrap();
    let links = vec![link("lengths", Work::Global(Box::new(OneOfEachLength)))];
    let report = run(&curation, links, &options(dir.path(), "out", 1));
    let others = &report.total.hosts["(other hosts)"];
    assert_eq!((others.read.documents, others.rejected[&0].documents), (50, 50));
    let lost_more = |group: &&super::Group| group.rejected[&0].documents > group.read.documents;
    assert_eq!(report.total.hosts.values().find(lost_more), None);
}

/// Rejects every other document.
struct Every2nd;

impl Step for Every2nd {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        match document.id.as_deref().is_some_and(|id| id.ends_with(['1', '3', '5', '7', '9'])) {
            true => Verdict::reject("odd"),
            false => Verdict::Keep,
        }
    }
}

#[test]
fn documents_that_a_step_never_saw_are_no_evidence_against_it() {
    let dir = tempfile::tempdir().unwrap();
    let curation = inputs(dir.path());
    let odd = Link { sources: Some(vec![0]), ..link("odd", Work::Each(Box::new(Every2nd))) };
    let report = run(&curation, vec![odd], &options(dir.path(), "out", 1));
    assert_eq!(report.total.steps[&0].rejected.documents, DOCUMENTS as u64 / 4);
    assert_eq!(report.findings, []);
}

#[test]
fn items_of_evaluation_sets_are_told_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut curation = inputs(dir.path());
    let item = "some words of a text some words of a text some words";
    fs::write(dir.path().join("set.jsonl"), json!({"q": item}).to_string() + "\n{\"q\": \"brief\"}\n")
        .unwrap();
    let steps =
        "kind = 'decontaminate'\nbenchmark = [{ name = 'set', path = 'set.jsonl', keys = ['q'] }]\nn = 8\n";
    curation.step = vec![Table::parse("x.toml", steps.as_bytes()).unwrap()];
    let attempt = |out, deaths| {
        let options = options(dir.path(), out, 1);
        let mut chain = Chain::build(&curation, &options.places).unwrap();
        chain.links.push(link("lengths", Work::Global(Box::new(OneOfEachLength))));
        // A document at the end of each file is let through.
        chain.links.insert(0, link("dies", Work::Each(Box::new(DiesAt(AtomicUsize::new(deaths))))));
        catch_unwind(AssertUnwindSafe(|| run(&curation, chain.links, &options)))
    };
    let whole = attempt("whole", usize::MAX).unwrap();
    assert!(attempt("killed", 400).is_err());
    assert_eq!(attempt("killed", usize::MAX).unwrap(), whole);
    let told = &whole.decisions["decontaminate"];
    assert_eq!(told["documents"], DOCUMENTS);
    assert_eq!(told["benchmarks"][0]["items"], 2);
    assert_eq!(told["benchmarks"][0]["unchecked"], 1);
    assert_eq!(told["benchmarks"][0]["found"], json!([{"line": 1, "documents": told["rejected"]}]));
    assert!(told["rejected"].as_u64().unwrap() > 100 && whole.total.steps[&1].found.is_empty());
}

/// Takes a file away.
struct Removes(PathBuf);

impl Step for Removes {
    fn apply(&self, _: &mut Document, _: &mut Analysis) -> Verdict {
        let _ = fs::remove_file(&self.0);
        Verdict::Keep
    }
}

#[test]
fn a_file_that_cannot_be_had_is_not_passed_over_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut curation = inputs(dir.path());
    curation.output.shard_bytes = 1;
    curation.source[0].damaged_files = DamagedFiles::Skip;
    let links = vec![link("removes", Work::Each(Box::new(Removes(dir.path().join("web/3.jsonl")))))];
    let options = options(dir.path(), "out", 1);
    let error = run_chain(&curation, Chain::of(links), &options, &|_| ()).unwrap_err();
    assert!(matches!(&error, Error::Data(smolt_data::Error::File(_))), "{error}");
}

/// At the tenth document it says so in a file, and waits.
struct Waits(Option<PathBuf>, AtomicUsize);

impl Step for Waits {
    fn apply(&self, _: &mut Document, _: &mut Analysis) -> Verdict {
        if let Some(reached) = self.0.as_ref().filter(|_| self.1.fetch_add(1, Ordering::SeqCst) == 10) {
            fs::write(reached, "").unwrap();
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        Verdict::Keep
    }
}

fn with_waiting(base: &Path, out: &str, reached: Option<PathBuf>) -> Report {
    let mut links = chain();
    links.push(link("waits", Work::Each(Box::new(Waits(reached, AtomicUsize::new(0))))));
    run(&inputs(base), links, &options(base, out, 1))
}

const KILLED: &str = "SMOLT_CURATE_TEST_KILLED";

/// What the test below starts and kills; by itself it does nothing.
#[test]
fn waits_to_be_killed() {
    if let Some(base) = std::env::var_os(KILLED).map(PathBuf::from) {
        with_waiting(&base, "killed", Some(base.join("reached")));
    }
}

#[test]
fn a_killed_process_leaves_nothing_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    with_waiting(base, "whole", None);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::tests::waits_to_be_killed"])
        .env(KILLED, base)
        .spawn()
        .unwrap();
    while !base.join("reached").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (killed, temporary) =
        (base.join("killed"), |path: &PathBuf| path.to_string_lossy().contains(".tmp-"));
    assert!(files(&killed.join("rejected")).keys().any(temporary));
    with_waiting(base, "killed", None);
    assert_eq!(files(&killed), files(&base.join("whole")));
    // As if the kill had come between the report and the end.
    fs::create_dir_all(killed.join("work/segment-0")).unwrap();
    with_waiting(base, "killed", None);
    assert!(!killed.join("work").exists());
}
