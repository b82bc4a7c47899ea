//! `smolt bench`: what its output says, not how fast it is.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, smolt};
use serde_json::Value;

const TINY: [&str; 16] = [
    "--dim",
    "32",
    "--layers",
    "1",
    "--vocab",
    "64",
    "--seq",
    "16",
    "--batch",
    "2",
    "--heads",
    "2",
    "--kv-heads",
    "1",
    "--ffn",
    "64",
];

/// The JSON of `smolt bench WHAT` for a tiny shape on an instruction-set path.
fn bench(what: &str, isa: &str, more: &[&str]) -> Value {
    let mut command = smolt();
    command.env("SMOLT_CPU", isa).args(["bench", what]).args(TINY).args(more).arg("--json");
    serde_json::from_str(&Ran::of(command).success()).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Scripts read both sides' lines with one reader.
#[test]
fn a_step_has_the_keys_of_the_peers_script() {
    let json = bench("train", "portable", &["--steps", "1", "--warmup", "1", "--threads", "1"]);
    let peers = [
        "peer",
        "dtype",
        "compile",
        "params",
        "threads",
        "tokens_per_s",
        "ms_per_step",
        "gflops",
        "peak_rss_mib",
    ];
    let own = ["isa", "peak_gflops", "peak_fraction", "gb_per_s", "memory_gb_per_s", "memory_fraction"];
    for key in peers.iter().chain(&own) {
        assert!(keys(&json).contains(key), "{key} is missing: {json}");
    }
    assert_eq!(keys(&json).len(), peers.len() + own.len());
    // Embedding and head are one; q|k|v, o, gate|up, down; three norms.
    let params = 64 * 32 + 32 * (32 + 2 * 16) + 32 * 32 + 3 * 32 * 64 + 3 * 32;
    assert_eq!((json["params"].as_u64(), json["dtype"].as_str()), (Some(params), Some("bf16")));
}

#[test]
fn a_path_that_is_asked_for_is_taken() {
    let mut paths = vec!["portable"];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        paths.push("avx2");
    }
    for isa in paths {
        assert_eq!(bench("train", isa, &["--steps", "1", "--warmup", "0"])["isa"], isa);
    }
}

#[test]
fn every_op_and_product_of_a_step_has_its_figures() {
    let ops = bench("ops", "portable", &["--steps", "1", "--documents", "8", "--profile"]);
    let each = ops["each"].as_array().unwrap();
    assert!(each.iter().any(|op| op["op"] == "0 embedding"), "{each:?}");
    let names: Vec<&str> =
        ops["ops"].as_array().unwrap().iter().map(|op| op["op"].as_str().unwrap()).collect();
    for name in [
        "linear",
        "attention",
        "linear_cross_entropy",
        "swiglu",
        "rms_norm",
        "rope",
        "embedding",
        "optimizer",
    ] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    assert!(ops["documents"]["ratio"].as_f64().unwrap() > 0.0 && ops["tokens_per_s"].as_f64().unwrap() > 0.0);
    let gemm = bench("gemm", "portable", &["--time", "1", "--dtype", "fp32", "--profile"]);
    assert!(gemm["products"][0]["memory_fraction"].is_number());
    assert_eq!(gemm["products"].as_array().unwrap().len(), 5 * 3);
    let profile = bench("train", "portable", &["--steps", "1", "--warmup", "0", "--profile"]);
    assert!(profile["ops"].as_array().unwrap().len() > names.len(), "with what is outside of ops");
}
