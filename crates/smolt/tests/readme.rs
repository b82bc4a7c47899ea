//! Every command shown in the documentation is one that this binary takes.

#![allow(clippy::unwrap_used)]

mod common;

use common::{repository, run};
use std::path::{Path, PathBuf};

/// Lines of the fenced code blocks, blank ones left out, comments cut off and continuations joined.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = Vec::new();
    let (mut inside, mut joined) = (false, false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
            match lines.last_mut() {
                Some(last) if joined => last.push_str(line),
                _ => lines.push(line.to_string()),
            }
            joined = more;
        }
    }
    lines.retain(|line| !line.is_empty() && !line.starts_with('#'));
    lines
}

/// The words of a shell command without expansions.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The arguments when the line runs smolt.
fn arguments(line: &str) -> Option<Vec<String>> {
    let starts = ["smolt ", "target/release/smolt ", "cargo run --release -- "];
    let rest = starts.iter().find_map(|start| line.strip_prefix(start))?;
    // Optional arguments are shown in brackets, a number as N; pipes and redirections are the shell's.
    let rest = rest.split(['|', '>', '<']).next().unwrap_or_default();
    let word = |word: String| match word.replace(['[', ']'], "") {
        n if n == "N" => "1".to_string(),
        word => word,
    };
    Some(words(rest).into_iter().map(word).collect())
}

fn documents() -> Vec<PathBuf> {
    let mut found =
        vec![repository("README.md"), repository("README.zh-TW.md"), repository("recipes/tests/README.md")];
    let book = ["docs/src", "docs/src/data"].map(|folder| std::fs::read_dir(repository(folder)).unwrap());
    let book = book.into_iter().flatten();
    found.extend(book.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    found.sort();
    found
}

#[test]
fn every_command_shown_is_understood() {
    let mut shown = 0;
    for document in documents() {
        for line in code(&document) {
            let Some(arguments) = arguments(&line) else { continue };
            let place = format!("{}: {line}", document.display());
            let ran = run(arguments.iter().map(String::as_str).chain(["--help"]));
            assert_eq!(ran.code, Some(0), "{place}\n{}", ran.err);
            for path in arguments.iter().filter(|a| a.starts_with("recipes/")) {
                assert!(repository(path).exists(), "{place}: no {path}");
            }
            shown += 1;
        }
    }
    assert!(shown >= 10, "{shown} commands found");
}

#[test]
fn both_readmes_show_the_same_commands() {
    let english = code(&repository("README.md"));
    assert_eq!(english, code(&repository("README.zh-TW.md")));
    assert_eq!(english[0], "cargo run --release -- run recipes/first-light/pipeline.toml");
    assert!(english[1].starts_with("cargo test --release --workspace"), "what .ci/run reads");
}
