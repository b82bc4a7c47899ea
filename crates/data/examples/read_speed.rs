//! Megabytes per second of reading documents, per file: `cargo run --release -p smolt-data --example read_speed FILE…`.
//!
//! With `serde` as the first argument, lines are parsed by plain `serde_json` into a map instead, to compare with.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use smolt_data::format::{ReadOptions, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let plain = paths.first().is_some_and(|first| first == "serde");
    if plain {
        paths.remove(0);
    }
    for path in paths {
        let size = std::fs::metadata(&path)?.len();
        let start = Instant::now();
        let (mut documents, mut text) = (0u64, 0u64);
        if plain {
            for line in BufReader::with_capacity(1 << 18, std::fs::File::open(&path)?).split(b'\n') {
                let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line?)?;
                documents += 1;
                text += object.get("text").and_then(serde_json::Value::as_str).map_or(0, str::len) as u64;
            }
        } else {
            for document in open(Path::new(&path), &ReadOptions::default())? {
                documents += 1;
                text += document?.text.len() as u64;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{path}: {documents} documents, {:.0} MB/s of the file, {:.0} MB/s of text",
            size as f64 / 1e6 / seconds,
            text as f64 / 1e6 / seconds
        );
    }
    Ok(())
}
