//! Hostile files: each a clear error.

use super::*;
use proptest::prelude::*;

const DATA: [f32; 6] = [1.0, -2.0, 0.5, 3.0, -0.25, 8.0];

/// A file with this header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn entry(dtype: &str, shape: &str, from: usize, to: usize) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

fn open(bytes: Vec<u8>) -> Result<File, Error> {
    File::from_bytes(Path::new("m.safetensors"), bytes)
}

/// The error of opening `bytes`, which names the file.
fn refused(bytes: Vec<u8>) -> String {
    let text = open(bytes).err().unwrap().to_string();
    assert!(
        text.starts_with("m.safetensors: not a valid safetensors file: ") && !text.contains('\n'),
        "{text}"
    );
    text
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_it_is_read() {
    let mut bytes = (1u64 << 60).to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    assert!(refused(bytes).contains("claims 1152921504606846976 bytes, the file has 10"));
    assert!(refused(u64::MAX.to_le_bytes().to_vec()).contains("claims"));
}

#[test]
fn truncated_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.safetensors");
    write(&path, &[("a", &[2, 3], &DATA, Store::F32)]).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        refused(whole[..len].to_vec());
    }
    std::fs::write(&path, b"").unwrap();
    assert!(File::open(&path).is_err(), "an empty file cannot be mapped everywhere");
    assert!(File::open(&dir.path().join("none")).err().unwrap().to_string().contains("none"));
    assert!(File::open(dir.path()).is_err(), "a folder is no file");
}

#[test]
fn ranges_that_overlap_leave_holes_or_disagree_with_shapes_are_refused() {
    let two = |a: &str, b: &str| file(&format!(r#"{{"a":{a},"b":{b}}}"#), &[0; 32]);
    refused(two(&entry("F32", "[4]", 0, 16), &entry("F32", "[4]", 8, 24)));
    refused(two(&entry("F32", "[4]", 0, 16), &entry("F32", "[4]", 0, 16)));
    refused(two(&entry("F32", "[3]", 0, 12), &entry("F32", "[4]", 16, 32)));
    refused(two(&entry("F32", "[4]", 0, 16), &entry("F32", "[5]", 16, 32)));
    refused(two(&entry("F32", "[4]", 0, 16), &entry("F32", "[4]", 32, 16)));
    refused(two(&entry("F32", "[4]", 0, 16), &entry("F32", "[4611686018427387904,4]", 16, 32)));
    refused(file(&format!(r#"{{"a":{}}}"#, entry("F32", "[4]", 0, 16)), &[0; 17]));
    refused(file(r#"{"a":"#, &[]));
    refused(file(r#"{"a":{"dtype":"X99","shape":[],"data_offsets":[0,0]}}"#, &[]));
}

#[test]
fn tensors_unlike_the_model_are_named() {
    let data: Vec<u8> = DATA.iter().flat_map(|x| x.to_le_bytes()).collect();
    let of =
        |dtype: &str| open(file(&format!(r#"{{"w":{}}}"#, entry(dtype, "[2,3]", 0, 24)), &data)).unwrap();
    let mut out = [0.0; 6];
    of("F32").read_f32("w", &[2, 3], &mut out).unwrap();
    assert_eq!(out, DATA);
    let error = |e: Result<(), Error>| e.unwrap_err().to_string();
    assert_eq!(
        error(of("F32").read_f32("w", &[3, 2], &mut out)),
        "m.safetensors: tensor `w`: has shape [2, 3], the configuration needs [3, 2]"
    );
    assert_eq!(error(of("F32").check("v", &[2, 3])), "m.safetensors: tensor `v`: missing from the file");
    assert!(error(of("I32").read_f32("w", &[2, 3], &mut out)).contains("has dtype I32; F32, BF16 and F16"));
    assert!(of("F32").read_i64("w").unwrap_err().to_string().contains("has dtype F32, not an integer"));
    assert_eq!(of("U32").read_i64("w").unwrap()[0], i64::from(1f32.to_bits()));
}

#[test]
fn bf16_rounds_to_nearest_even_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.safetensors");
    let x = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.1, 3.0e38, 1e-40];
    write(&path, &[("x", &[6], &x, Store::Bf16)]).unwrap();
    let mut out = [0.0; 6];
    File::open(&path).unwrap().read_f32("x", &[6], &mut out).unwrap();
    assert_eq!(out, x.map(|x| half::bf16::from_f32(x).to_f32()));
    assert_eq!(out[1..3], [1.0, 1.0 + 4.0 / 256.0]);
}

#[test]
fn corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/safetensors");
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzz_safetensors(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 10, "{replayed} inputs");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), header in ".{0,80}") {
        fuzz_safetensors(&bytes);
        fuzz_safetensors(&file(&header, &bytes));
    }

    #[test]
    fn a_damaged_file_does_not_panic(at in 0usize..200, to in any::<u8>(), shape in prop::collection::vec(0u64..u64::MAX, 0..4)) {
        let header = format!(r#"{{"a":{},"b":{}}}"#, entry("F32", "[2,3]", 0, 24), entry("I64", &format!("{shape:?}"), 24, 32));
        let mut bytes = file(&header, &[7; 32]);
        fuzz_safetensors(&bytes);
        let len = bytes.len();
        bytes[at % len] = to;
        fuzz_safetensors(&bytes);
    }

    #[test]
    fn what_is_written_is_read(x in prop::collection::vec(any::<f32>(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        write(&path, &[("é\"\\", &[x.len()], &x, Store::F32), ("empty", &[0], &[], Store::F32)]).unwrap();
        let mut out = vec![0.0; x.len()];
        let file = File::open(&path).unwrap();
        file.read_f32("é\"\\", &[x.len()], &mut out).unwrap();
        prop_assert!(x.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
        prop_assert_eq!(file.shapes().remove("empty"), Some(vec![0]));
    }
}
