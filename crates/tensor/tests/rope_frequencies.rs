//! Frequencies and attention factors against transformers' (`tests/golden/rope.py`).

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use smolt_tensor::ops::rope::{Frequencies, Llama3, Yarn};

/// Roundings of fp32 that transformers makes on its way: of the power of the base, whose relative error grows
/// with its logarithm, of its reciprocal, and of a ramp between two of them.
const TOLERANCE: f64 = 1e-6;

fn frequencies(case: &Value) -> Frequencies {
    let settings = &case["settings"];
    let given = |key: &str| settings[key].as_f64();
    let number = |key: &str| given(key).unwrap();
    let (dim, base) = (case["dim"].as_u64().unwrap() as usize, case["rope_theta"].as_f64().unwrap());
    let trained = || number("original_max_position_embeddings") as usize;
    match case["kind"].as_str().unwrap() {
        "linear" => Frequencies::linear(dim, base, number("factor")),
        "dynamic" => {
            let trained = case["max_position_embeddings"].as_u64().unwrap() as usize;
            let length = case["length"].as_u64().unwrap_or(0) as usize;
            Frequencies::dynamic(dim, base, number("factor"), trained, length)
        }
        "yarn" => {
            let yarn = Yarn {
                beta_fast: given("beta_fast").unwrap_or(32.0),
                beta_slow: given("beta_slow").unwrap_or(1.0),
                attention_factor: given("attention_factor"),
                mscale: given("mscale"),
                mscale_all_dim: given("mscale_all_dim"),
                truncate: settings["truncate"].as_bool().unwrap_or(true),
                ..Yarn::new(number("factor"), trained())
            };
            Frequencies::yarn(dim, base, &yarn)
        }
        "llama3" => {
            let (low_freq_factor, high_freq_factor) = (number("low_freq_factor"), number("high_freq_factor"));
            let llama3 = Llama3 {
                factor: number("factor"),
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: trained(),
            };
            Frequencies::llama3(dim, base, &llama3)
        }
        kind => panic!("{kind} is not known"),
    }
}

#[test]
fn rope_frequencies_are_those_of_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/rope/fixture.json");
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 18);
    let mut worst = (0.0, "");
    for case in cases {
        let (name, got) = (case["name"].as_str().unwrap(), frequencies(case));
        let want: Vec<f64> =
            case["inv_freq"].as_array().unwrap().iter().map(|f| f.as_f64().unwrap()).collect();
        assert_eq!(got.per_pair.len(), want.len(), "{name}");
        for (k, (got, want)) in got.per_pair.iter().zip(&want).enumerate() {
            let error = (got / want - 1.0).abs();
            assert!(error <= TOLERANCE, "{name}: pair {k} turns by {got}, not {want} (off by {error:e})");
            if error > worst.0 {
                worst = (error, name);
            }
        }
        let factor = case["attention_factor"].as_f64().unwrap();
        assert!(
            (got.attention_factor - factor).abs() < 1e-12,
            "{name}: {}, not {factor}",
            got.attention_factor
        );
    }
    println!("largest relative difference: {:e} ({})", worst.0, worst.1);
}
