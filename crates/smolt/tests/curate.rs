//! `smolt data curate` as users run it: by several processes, out of disk, with wrong recipes.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, smolt};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const DOCUMENTS: usize = 400;

/// Text of words that no other seed has; numbers as letters, because MinHash takes all numbers for one.
fn prose(seed: usize) -> String {
    let letters =
        |n: usize| n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
    (0..80).map(|i| format!("the word {} and ", letters(seed * 80 + i))).collect()
}

/// Documents of which every fourth is one of the first ones again, and a line that is none.
fn folder(dir: &Path) {
    fs::create_dir(dir.join("in")).unwrap();
    for file in 0..4 {
        let document = |i: usize| {
            let number = file * DOCUMENTS / 4 + i;
            let seed = if i % 4 == 3 { number % 7 } else { number + 10 };
            json!({"id": number, "text": prose(seed), "url": "https://example.org/a"}).to_string() + "\n"
        };
        let mut lines: String = (0..DOCUMENTS / 4).map(document).collect();
        lines += "{\"text\": \n";
        fs::write(dir.join(format!("in/{file}.jsonl")), lines).unwrap();
    }
    let recipe = r#"
        name = "test"
        [[source]]
        name = "web"
        inputs = ["in/*.jsonl"]
        [[step]]
        kind = "cleanup"
        [[step]]
        kind = "exact_dedup"
        [[step]]
        kind = "minhash_dedup"
        [output]
        shard_bytes = 100000
    "#;
    fs::write(dir.join("web.toml"), recipe).unwrap();
}

fn curate(dir: &Path, out: &str) -> Command {
    let mut command = smolt();
    command.args(["data", "curate"]).arg(dir.join("web.toml")).arg("--out").arg(dir.join(out)).arg("--json");
    command
}

fn documents(dir: &Path) -> Vec<u8> {
    let mut paths: Vec<_> =
        fs::read_dir(dir.join("documents/web")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn processes_share_the_work_and_write_what_one_would() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    folder(dir);
    let report: Value = serde_json::from_str(&Ran::of(curate(dir, "solo")).success()).unwrap();
    let total = &report["total"];
    assert_eq!(total["read"]["documents"], DOCUMENTS);
    assert_eq!(total["unreadable"]["not_json"], 4, "{total}");
    // Of the quarter that repeats, the first of each of seven texts stays.
    assert_eq!(total["kept"]["documents"], DOCUMENTS * 3 / 4 + 7, "{total}");

    let ranks: Vec<_> = (0..3)
        .map(|rank: u32| {
            let mut command = curate(dir, "shared");
            command.env("SLURM_PROCID", rank.to_string()).env("SLURM_NTASKS", "3");
            std::thread::spawn(move || Ran::of(command))
        })
        .collect();
    for rank in ranks {
        let theirs: Value = serde_json::from_str(&rank.join().unwrap().success()).unwrap();
        assert_eq!(theirs, report);
    }
    assert_eq!(documents(&dir.join("shared")), documents(&dir.join("solo")));
    // Again: all is there.
    assert_eq!(serde_json::from_str::<Value>(&Ran::of(curate(dir, "solo")).success()).unwrap(), report);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_one_error_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    folder(dir);
    let whole = curate(dir, "out");
    // Files of at most one kilobyte, as a disk would have it that is full.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "smolt"]);
    limited.arg(whole.get_program()).args(whole.get_args());
    let ran = Ran::of(limited);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("cannot write") && ran.err.lines().count() == 1, "{}", ran.err);
    Ran::of(whole).success();
    Ran::of(curate(dir, "other")).success();
    assert_eq!(documents(&dir.join("out")), documents(&dir.join("other")));
}

#[test]
fn mistakes_are_told_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    folder(dir);
    let fails = |recipe: &str, says: &[&str]| {
        fs::write(dir.join("web.toml"), recipe).unwrap();
        let ran = Ran::of(curate(dir, "out"));
        assert!(ran.code == Some(2), "{:?}: {}", ran.code, ran.err);
        assert!(says.iter().all(|text| ran.err.contains(text)), "{}", ran.err);
        assert!(!dir.join("out/documents").exists());
    };
    let source = "name = \"x\"\n[[source]]\nname = \"web\"\ninputs = [\"in\"]\n[output]\n";
    fails(&format!("{source}[[step]]\nkind = \"gopher_qality\"\n"), &["web.toml:7", "gopher_quality"]);
    fails(
        &format!("{source}[[step]]\nkind = \"c4\"\nmin_sentences = 3\n"),
        &["web.toml:8", "min_num_sentences"],
    );
    fails(
        &format!("{source}[[step]]\nkind = \"c4\"\nsources = [\"wob\"]\n"),
        &["web.toml", "\"wob\"", "web"],
    );
    fails(&format!("{source}[[step]]\nkind = \"c4\"\n[[step]]\nkind = \"c4\"\n"), &["two steps", "\"c4\""]);
    fails(
        &format!("{source}[[step]]\nkind = \"language\"\nmodel = \"no.bin\"\n"),
        &["step language", "no.bin"],
    );
    fails(&source.replace("\"in\"", "\"nothing/*.jsonl\""), &["nothing"]);
    fails(&source.replace("\"in\"", "\"ftp://host/file\""), &["ftp"]);
}

/// A list beside the recipe decides the result as the recipe does.
#[test]
fn another_list_is_another_curation() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    folder(dir);
    let recipe = fs::read_to_string(dir.join("web.toml")).unwrap();
    let words = recipe.replace("[output]", "[[step]]\nkind = \"c4_badwords\"\nwords = \"bad.txt\"\n[output]");
    fs::write(dir.join("web.toml"), words).unwrap();
    fs::write(dir.join("bad.txt"), "nowhere\n").unwrap();
    Ran::of(curate(dir, "out")).success();
    Ran::of(curate(dir, "out")).success();
    fs::write(dir.join("bad.txt"), "word\n").unwrap();
    let ran = Ran::of(curate(dir, "out"));
    assert!(ran.code == Some(2) && ran.err.contains("lists"), "{:?}: {}", ran.code, ran.err);
}
