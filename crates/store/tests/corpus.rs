//! Replays the fuzz corpus of addresses and of what servers say: no input may panic.

#[test]
fn address_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/address");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10);
    for file in files {
        smolt_store::fuzz_address(&std::fs::read(&file).unwrap());
    }
}
