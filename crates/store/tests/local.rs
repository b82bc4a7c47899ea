//! Files of this machine. All of it holds without the feature `network`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use common::{address, hasty, noise, store};
use smolt_store::{Address, Store};

fn names(store: &Store, root: &Path, pattern: &str) -> Vec<String> {
    let entries = store.list(&Address::local(root.join(pattern))).unwrap();
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    entries.iter().map(|entry| relative(entry.address.as_local().unwrap())).collect()
}

#[test]
fn folders_and_patterns_are_listed_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["b.jsonl", "a.jsonl", "x/y/c.jsonl", "x/d.parquet", ".hidden", "x/.git/e.jsonl", "odd*name"]
    {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), name).unwrap();
    }
    let store = store(hasty(), &[]);
    assert_eq!(names(&store, root, ""), ["a.jsonl", "b.jsonl", "odd*name", "x/d.parquet", "x/y/c.jsonl"]);
    assert_eq!(names(&store, root, "*.jsonl"), ["a.jsonl", "b.jsonl"]);
    assert_eq!(names(&store, root, "**/*.jsonl"), ["a.jsonl", "b.jsonl", "x/y/c.jsonl"]);
    assert_eq!(names(&store, root, "x/?.*"), ["x/d.parquet"]);
    assert_eq!(names(&store, root, "*/y/*"), ["x/y/c.jsonl"]);
    assert_eq!(names(&store, root, "odd*name"), ["odd*name"], "a file of that very name comes first");
    assert_eq!(store.list(&Address::local(root.join("x/d.parquet"))).unwrap()[0].size, 11);
    for nothing in ["*.csv", "missing", "missing/*.jsonl"] {
        let error = store.list(&Address::local(root.join(nothing))).unwrap_err().to_string();
        assert!(error.contains("check the path"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_once_and_sockets_left_out() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "x").unwrap();
    symlink("..", root.join("a/up")).unwrap();
    symlink("b/file", root.join("a/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("a/socket")).unwrap();
    assert_eq!(names(&store(hasty(), &[]), root, "a"), ["a/b/file", "a/link"]);
    symlink("nowhere", root.join("a/broken")).unwrap();
    let error = store(hasty(), &[]).list(&Address::local(root)).unwrap_err().to_string();
    assert!(error.contains("a/broken"), "data that is missing is not passed over in silence: {error}");
}

#[test]
fn files_are_read_in_order_and_at_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bin");
    let bytes = noise(100_000);
    fs::write(&path, &bytes).unwrap();
    let (store, at) = (store(hasty(), &[]), Address::local(&path));
    let mut all = Vec::new();
    store.open(&at).unwrap().read_to_end(&mut all).unwrap();
    assert!(all == bytes && store.size(&at).unwrap() == 100_000);
    let file = store.open_at(&at).unwrap();
    let mut out = [0; 1000];
    file.read_at(98_765, &mut out).unwrap();
    assert_eq!(out, bytes[98_765..99_765]);
    assert!(file.read_at(99_001, &mut out).is_err());
    assert!(
        store.open(&Address::local(dir.path())).err().unwrap().to_string().contains("a folder, not a file")
    );
    let missing = store.open(&Address::local(dir.path().join("gone"))).err().unwrap();
    assert!(missing.is_not_found() && missing.to_string().contains("gone"));
}

#[test]
fn a_file_appears_when_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let at = Address::local(dir.path().join("new/folder/out.jsonl"));
    let store = store(hasty(), &[]);
    let mut writer = store.create(&at).unwrap();
    writer.write_all(b"one").unwrap();
    assert!(store.size(&at).is_err());
    writer.finish().unwrap();
    let mut second = store.create(&at).unwrap();
    second.write_all(b"two").unwrap();
    drop(second);
    let mut text = String::new();
    store.open(&at).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
    assert_eq!(fs::read_dir(dir.path().join("new/folder")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn addresses_beyond_this_machine_need_the_network() {
    if cfg!(feature = "network") {
        return;
    }
    for text in ["s3://b/k", "gs://b/k", "hf://datasets/o/n/f", "https://h/x"] {
        let (store, at) = (store(hasty(), &[]), address(text));
        let errors = [
            store.open(&at).err().unwrap(),
            store.open_at(&at).err().unwrap(),
            store.size(&at).unwrap_err(),
            store.list(&at).unwrap_err(),
            store.create(&at).err().unwrap(),
        ];
        for error in errors {
            assert!(error.to_string().contains("without the feature `network`"), "{error}");
        }
    }
}
