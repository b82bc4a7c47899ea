//! What opening a run and filling its batches cost, whatever its length (spec MYS-02). Prints one JSON line for each run
//! length; each is measured in a process of its own, so that its memory can be told.
//!
//!     cargo run --release -p smolt-data --example loader

use smolt_data::batch::{Layout, Loader, Source};
use smolt_data::order::{Plan, Stage};
use smolt_data::prefetch::GlobalBatch;
use smolt_data::shard::{Shard, ShardInfo, ShardWriter};
use std::path::Path;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Two million tokens in documents of many lengths.
fn write(path: &Path) -> Outcome<()> {
    let info = ShardInfo {
        tokenizer_hash: None,
        vocab_size: 4096,
        eos_token_id: Some(0),
        bos_token_id: None,
        pad_token_id: None,
        chunk_length: None,
        with_loss: false,
    };
    let mut writer = ShardWriter::create(path, info)?;
    let mut state = 1u64;
    while writer.n_tokens() < 2_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = 20 + (state >> 33) % 800;
        let ids: Vec<u32> =
            (0..length).map(|i| ((state >> 20) + i * i) as u32 % 4095 + 1).chain([0]).collect();
        writer.write_document(&ids, None)?;
    }
    writer.finish(None)?;
    Ok(())
}

/// Opens a run of `steps` steps of 16 × 256 tokens in three stages and fills 2,000 batches.
fn measure(folder: &Path, steps: u64) -> Outcome<()> {
    let start = Instant::now();
    let layout =
        Layout { sequence_length: 256, vocab_size: 4096, document_masking: true, reset_positions: true };
    let source = |name: &str| -> Outcome<Source> {
        Ok(Source { name: name.into(), weight: 1.0, shard: Shard::open(&folder.join(format!("{name}.ds")))? })
    };
    let stage = |name: &str, first: u64, weights: [f64; 2]| Stage {
        name: name.into(),
        first_sample: first * 16,
        weights: weights.to_vec(),
    };
    let stages = vec![
        stage("one", 0, [0.9, 0.1]),
        stage("two", steps / 2, [0.6, 0.4]),
        stage("three", steps * 3 / 4, [0.3, 0.7]),
    ];
    let loader = Loader::staged(vec![source("a")?, source("b")?], stages, 7, layout)?;
    let plan = Plan::of(loader.mixture(), steps * 16);
    let opened = start.elapsed();
    let mut batch = GlobalBatch::new(1, 16, 256);
    let mut times = Vec::new();
    for step in 0..2000 {
        let start = Instant::now();
        batch.fill(&loader, step * 16)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{{\"steps\": {steps}, \"open_ms\": {:.2}, \"peak_rss_mib\": {:.1}, \"batch_us_p50\": {:.1}, \
         \"batch_us_p99\": {:.1}, \"epochs\": {:.1}}}",
        opened.as_secs_f64() * 1e3,
        smolt_run::resources::peak_rss_bytes().unwrap_or(0) as f64 / 1048576.0,
        times[1000],
        times[1980],
        plan.sources[0].epochs
    );
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, folder, steps] = arguments.as_slice() {
        return measure(Path::new(folder), steps.parse()?);
    }
    let folder = tempfile::tempdir()?;
    write(&folder.path().join("a.ds"))?;
    write(&folder.path().join("b.ds"))?;
    for steps in ["1000", "32000", "320000", "3200000"] {
        std::process::Command::new(std::env::current_exe()?).arg(folder.path()).arg(steps).status()?;
    }
    Ok(())
}
