use super::writer::Change;
use super::*;
use proptest::prelude::*;

fn info(vocab_size: u32, with_loss: bool) -> ShardInfo {
    ShardInfo {
        tokenizer_hash: Some("t".into()),
        vocab_size,
        eos_token_id: Some(0),
        bos_token_id: None,
        pad_token_id: None,
        chunk_length: None,
        with_loss,
    }
}

fn write(path: &Path, documents: &[Vec<u32>], vocab_size: u32) -> ShardMeta {
    let mut writer = ShardWriter::create(path, info(vocab_size, false)).unwrap();
    for document in documents {
        writer.write_document(document, None).unwrap();
    }
    writer.finish(Some(5)).unwrap()
}

fn documents_of(shard: &Shard) -> Vec<Vec<u32>> {
    (0..shard.n_documents())
        .map(|document| shard.document(document).map(|position| shard.token(position)).collect())
        .collect()
}

/// The bytes that datatrove writes: `struct.pack("<3H", …)` and `struct.pack("<2Q", …)`.
#[test]
fn bytes_are_datatroves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ds");
    write(&path, &[vec![1, 258], vec![65_535]], 65_536);
    assert_eq!(std::fs::read(&path).unwrap(), [1, 0, 2, 1, 255, 255]);
    assert_eq!(
        std::fs::read(beside(&path, ".index")).unwrap(),
        [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
    );
    write(&path, &[vec![1]], 65_537);
    assert_eq!(std::fs::read(&path).unwrap(), [1, 0, 0, 0]);
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_shard_without_metadata_is_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ds");
    for vocab_size in [100, 70_000] {
        let meta = write(&path, &[vec![3, 9], vec![4]], vocab_size);
        std::fs::remove_file(beside(&path, ".smolt.json")).unwrap();
        let shard = Shard::open(&path).unwrap();
        assert_eq!(shard.meta().checksums, meta.checksums);
        assert_eq!((shard.meta().min_token_id, shard.meta().max_token_id), (3, 9));
        assert_eq!(shard.meta().token_size, meta.token_size);
        assert_eq!(documents_of(&shard), [vec![3, 9], vec![4]]);
        let error = shard.check_vocab(9).unwrap_err().to_string();
        assert!(error.contains("a.ds: token 1 has id 9"), "{error}");
    }
}

#[test]
fn loss_values_and_replacing_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ds");
    let mut writer = ShardWriter::create(&path, info(10, true)).unwrap();
    assert!(writer.write_document(&[1], None).is_err());
    assert!(writer.write_document(&[1, 2], Some(&[true])).is_err());
    assert!(
        writer.write_document(&[10], Some(&[true])).unwrap_err().to_string().contains("token 0 has id 10")
    );
    writer.write_document(&[1, 2], Some(&[false, true])).unwrap();
    writer.finish(None).unwrap();
    let shard = Shard::open(&path).unwrap();
    assert_eq!((shard.is_trained(0), shard.is_trained(1), shard.is_trained(2)), (false, true, false));
    shard.verify().unwrap();
    drop(shard);
    // A new shard without loss must not inherit the old loss file.
    write(&path, &[vec![1, 2]], 10);
    let shard = Shard::open(&path).unwrap();
    assert!(!shard.has_loss() && shard.is_trained(0));
    std::fs::write(beside(&path, ".loss"), [0, 0]).unwrap();
    assert!(Shard::open(&path).is_err());
}

/// Whatever the old shard had and the new one has: the one, the other, or nothing that opens.
#[test]
fn a_kill_at_any_point_leaves_no_mixture() {
    let writer = |path: &Path, token: u32, with_loss, ids| {
        let mut writer = ShardWriter::create(path, info(10, with_loss)).unwrap();
        if ids {
            writer.keep_ids().unwrap();
            writer.write_id(DocumentId::Number(0)).unwrap();
        }
        writer.write_document(&[token, 1], with_loss.then_some(&[true, false])).unwrap();
        writer
    };
    for kinds in 0..16u32 {
        let is = |bit: u32| kinds >> bit & 1 == 1;
        for done in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.ds");
            let old = writer(&path, 3, is(0), is(1)).finish(Some(1)).unwrap();
            let (new, changes) = writer(&path, 4, is(2), is(3)).changes(Some(2)).unwrap();
            let all = changes.len();
            changes.into_iter().take(done).try_for_each(Change::make).unwrap();
            match Shard::open(&path) {
                Ok(shard) if done == 0 => assert_eq!(shard.meta(), &old),
                Ok(shard) => {
                    assert!(done + 1 >= all, "{done} of {all}");
                    assert_eq!(shard.meta(), &new);
                    shard.verify().unwrap();
                }
                Err(_) => assert!((1..all - 1).contains(&done), "{done} of {all}"),
            }
            if done == all {
                break;
            }
        }
    }
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ds");
    let write = || write(&path, &[vec![1, 2], vec![3, 4]], 10);
    let message =
        |result: Result<Shard, Error>| result.err().map(|error| error.to_string()).unwrap_or_default();

    write();
    std::fs::write(&path, [1, 0, 2]).unwrap();
    assert!(message(Shard::open(&path)).contains("3 bytes"));
    write();
    std::fs::write(&path, [1, 0, 2, 0, 3, 0, 5, 0]).unwrap();
    assert!(Shard::open(&path).unwrap().verify().unwrap_err().to_string().contains("damaged"));
    for index in [vec![], vec![0; 7], [4u64.to_le_bytes(), 3u64.to_le_bytes()].concat(), vec![255; 16]] {
        write();
        std::fs::write(beside(&path, ".index"), &index).unwrap();
        assert!(message(Shard::open(&path)).contains("a.ds.index"), "{index:?}");
        std::fs::remove_file(beside(&path, ".smolt.json")).unwrap();
        assert!(message(Shard::open(&path)).contains("a.ds"), "{index:?}");
    }
    write();
    std::fs::write(beside(&path, ".smolt.json"), "{}").unwrap();
    assert!(message(Shard::open(&path)).contains(".smolt.json"));
    std::fs::remove_file(beside(&path, ".index")).unwrap();
    assert!(message(Shard::open(&path)).contains("a.ds.index"));
    let empty = ShardWriter::create(&path, info(10, false)).unwrap().finish(None);
    assert!(matches!(empty, Err(Error::NothingLeft { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(
        documents in prop::collection::vec(prop::collection::vec(0u32..100_000, 1..20), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ds");
        write(&path, &documents, 100_000);
        let shard = Shard::open(&path).unwrap();
        shard.verify().unwrap();
        prop_assert_eq!(documents_of(&shard), &documents[..]);
        for document in 0..shard.n_documents() {
            for position in shard.document(document) {
                prop_assert_eq!(shard.document_at(position), document);
            }
        }
        prop_assert_eq!(shard.document_at(shard.n_tokens()), shard.n_documents());
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        crate::fuzz::fuzz_shard(&bytes);
    }

    /// Valid index and width, hostile ids: reaches the batch code.
    #[test]
    fn any_tokens_do_not_panic(
        tokens in prop::collection::vec(any::<u16>(), 1..80),
        cuts in prop::collection::vec(0u64..80, 0..6),
        flags in 0u8..8,
    ) {
        let n = tokens.len() as u64;
        let mut ends: Vec<u64> = cuts.into_iter().map(|cut| cut.min(n)).chain([n]).collect();
        ends.sort_unstable();
        let loss = vec![1u8; tokens.len()];
        let mut data = vec![flags & 6, 0, 0];
        data.extend((ends.len() as u16 * 8).to_le_bytes());
        data.extend((loss.len() as u16).to_le_bytes());
        data.extend(ends.iter().flat_map(|end| end.to_le_bytes()));
        data.extend(&loss);
        data.extend(tokens.iter().flat_map(|id| (id % 260).to_le_bytes()));
        crate::fuzz::fuzz_shard(&data);
    }
}
