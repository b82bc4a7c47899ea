//! Replays the fuzz corpus of addresses and of what servers say: no input may panic.

use proptest::prelude::*;

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

proptest! {
    #[test]
    fn addresses_and_answers_of_any_shape(
        first in "(hf|s3|gs|https?|bytes|<a>)?(:/?/?)?[a-c./@%*?:;=\"0-9 -]{0,24}",
        second in "[a-c./@%*?\\\\ ]{0,12}",
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        smolt_store::fuzz_address(format!("{first}\n{second}").as_bytes());
        smolt_store::fuzz_address(&bytes);
    }
}
