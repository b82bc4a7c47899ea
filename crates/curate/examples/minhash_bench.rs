//! MinHash on generated text with planted near-duplicates: speed, memory, recall against the theoretical curve,
//! precision. The text is made on the fly; on the disk lie signatures, temporary runs and removals.
//!
//!     cargo run --release -p smolt-curate --example minhash_bench -- --megabytes 10000 --memory-mib 1536 --threads 2
//!     … -- --megabytes 20 --jsonl /tmp/planted.jsonl      # the same documents as a file
//!     … -- --from FILE.jsonl --out KEPT.jsonl             # all phases on a file, one thread, for bench/peers

#[path = "../tests/planted/mod.rs"]
mod planted;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use planted::{LEVELS, Planted};
use rayon::prelude::*;
use smolt_curate::dedup::minhash::{self, MinhashConfig, Scratch, SignatureWriter, Signer};
use smolt_curate::dedup::removals::Removals;
use smolt_curate::dedup::shingle::split_at_spaces;
use smolt_curate::dedup::{Sources, Space, number};
use smolt_data::document::{Document, JsonLines};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a document on average.
const DOCUMENT: u64 = 2600;
const BATCH: u32 = 256;

struct Settings {
    megabytes: u64,
    memory_mib: u64,
    threads: usize,
    shards: u32,
    folder: Option<PathBuf>,
    jsonl: Option<PathBuf>,
    from: Option<PathBuf>,
    out: PathBuf,
}

fn settings() -> Result<Settings, Failed> {
    let mut settings = Settings {
        megabytes: 200,
        memory_mib: 1024,
        threads: 2,
        shards: 32,
        folder: None,
        jsonl: None,
        from: None,
        out: "/dev/null".into(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--megabytes" => settings.megabytes = value.parse()?,
            "--memory-mib" => settings.memory_mib = value.parse()?,
            "--threads" => settings.threads = value.parse()?,
            "--shards" => settings.shards = value.parse::<u32>()?.next_multiple_of(2).max(2),
            "--folder" => settings.folder = Some(value.into()),
            "--jsonl" => settings.jsonl = Some(value.into()),
            "--from" => settings.from = Some(value.into()),
            "--out" => settings.out = value.into(),
            _ => return Err(format!("unknown {name}").into()),
        }
    }
    Ok(settings)
}

/// Processor seconds of this thread, so that other processes on the machine do not count.
fn thread_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Processor seconds of the whole process, all threads.
fn process_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = |field: usize| after.split_whitespace().nth(field).and_then(|word| word.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

#[derive(Default)]
struct Totals {
    bytes: AtomicU64,
    signing_nanoseconds: AtomicU64,
}

/// First phase of one shard. Text is made a batch ahead, so that making it is not timed.
fn sign(text: &Planted, signer: &Signer, path: &Path, shard: u32, totals: &Totals) -> Result<(), Failed> {
    let mut writer = SignatureWriter::create(path, signer.config(), "spaces", shard)?;
    let mut scratch = Scratch::default();
    let mut batch = vec![String::new(); BATCH as usize];
    let (mut bytes, mut seconds) = (0, 0.0);
    for start in (0..text.documents).step_by(BATCH as usize) {
        let count = BATCH.min(text.documents - start);
        for (offset, document) in (0..count).zip(&mut batch) {
            text.document(shard, start + offset, document);
            bytes += document.len() as u64;
        }
        let begun = thread_seconds();
        for (offset, document) in (0..count).zip(&batch) {
            if let Some(bands) = signer.bands(document, &split_at_spaces, &mut scratch) {
                writer.push(start + offset, bands)?;
            }
        }
        seconds += thread_seconds() - begun;
    }
    let begun = thread_seconds();
    writer.finish(u64::from(text.documents))?;
    seconds += thread_seconds() - begun;
    totals.bytes.fetch_add(bytes, Ordering::Relaxed);
    totals.signing_nanoseconds.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    Ok(())
}

/// Third phase: what was removed, against what was planted.
fn compare(text: &Planted, folder: &Path) -> Result<(), Failed> {
    let config = MinhashConfig::default();
    let mut levels = [(0u64, 0u64, 0.0f64, 0.0f64); LEVELS.len()];
    let mut wrong = 0;
    for shard in 0..text.shards {
        let mut removals = Removals::open(folder, shard)?;
        for position in 0..text.documents {
            let removal = removals.at(position)?;
            let base = number(shard.wrapping_sub(text.shards / 2), position);
            wrong += u64::from(removal.is_some_and(|removal| removal.kept != base || removal.size != 2));
            let Some(pair) = text.pair(shard, position) else { continue };
            let p = config.probability(pair.similarity);
            let level = &mut levels[pair.level];
            level.0 += 1;
            level.1 += u64::from(removal.is_some_and(|removal| removal.kept == base));
            level.2 += p;
            level.3 += p * (1.0 - p);
        }
        removals.finish(u64::from(text.documents))?;
    }
    println!("similarity   pairs   found   recall   curve   deviations");
    let mut right = 0;
    for (level, (pairs, found, mean, variance)) in LEVELS.iter().zip(levels) {
        let (recall, curve) = (found as f64 / pairs as f64, mean / pairs as f64);
        let deviations = if variance > 0.0 { (found as f64 - mean) / variance.sqrt() } else { 0.0 };
        println!("{level:10.2} {pairs:7} {found:7} {recall:8.4} {curve:7.4} {deviations:12.2}");
        right += found;
    }
    println!(
        "removed: {right} planted, {wrong} others; precision {:.6}",
        right as f64 / (right + wrong) as f64
    );
    Ok(())
}

fn write_jsonl(text: &Planted, path: &Path) -> Result<(), Failed> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    let mut document = String::new();
    for shard in 0..text.shards {
        for position in 0..text.documents {
            text.document(shard, position, &mut document);
            let line = serde_json::json!({ "id": format!("{shard}/{position}"), "text": document });
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

/// What datatrove's four stages do, on one file and one thread: read, sign, cluster, read again and write what is kept.
fn deduplicate(from: &Path, out: &Path, folder: &Path, memory: u64) -> Result<(), Failed> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let signer = Signer::new(MinhashConfig::default())?;
    let signatures = folder.join("0.signatures");
    let mut writer = SignatureWriter::create(&signatures, signer.config(), "spaces", 0)?;
    let (mut scratch, mut bytes, mut documents) = (Scratch::default(), 0, 0u32);
    for document in JsonLines::<Document>::open(from)? {
        let text = document?.text;
        bytes += text.len();
        if let Some(bands) = signer.bands(&text, &split_at_spaces, &mut scratch) {
            writer.push(documents, bands)?;
        }
        documents += 1;
    }
    writer.finish(u64::from(documents))?;
    let signed = process_seconds();
    let sources = Sources::new(vec!["all".into()], vec![0])?;
    let report = minhash::cluster(&[signatures], folder, &sources, &Space { memory, scratch: folder })?;
    let mut removals = Removals::open(folder, 0)?;
    let mut kept = BufWriter::new(std::fs::File::create(out)?);
    for (position, document) in JsonLines::<Document>::open(from)?.enumerate() {
        let document = document?;
        if removals.at(position as u32)?.is_none() {
            serde_json::to_writer(&mut kept, &document)?;
            kept.write_all(b"\n")?;
        }
    }
    removals.finish(u64::from(documents))?;
    kept.flush()?;
    let (megabytes, seconds) = (bytes as f64 / 1e6, process_seconds());
    println!("{megabytes:.1} MB in {documents} documents, {} kept", report.documents - report.removed);
    println!("signatures: {:.1} MB/s per core, with reading JSONL", megabytes / signed);
    println!("end to end: {:.1} MB/s per core", megabytes / seconds);
    Ok(())
}

fn main() -> Result<(), Failed> {
    let settings = settings()?;
    let temporary = match &settings.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let folder = temporary.path();
    if let Some(from) = &settings.from {
        return deduplicate(from, &settings.out, folder, settings.memory_mib << 20);
    }
    let documents = (settings.megabytes * 1_000_000 / DOCUMENT / u64::from(settings.shards)).max(1) as u32;
    let text = Planted::new(1, settings.shards, documents, 2, 200..600);
    if let Some(path) = &settings.jsonl {
        return write_jsonl(&text, path);
    }
    rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build_global()?;
    let signer = Signer::new(MinhashConfig::default())?;
    let totals = Totals::default();
    let paths: Vec<_> =
        (0..settings.shards).map(|shard| folder.join(format!("{shard}.signatures"))).collect();

    let begun = Instant::now();
    paths
        .par_iter()
        .enumerate()
        .try_for_each(|(shard, path)| sign(&text, &signer, path, shard as u32, &totals))?;
    let signed = begun.elapsed().as_secs_f64();
    let (begun, processor) = (Instant::now(), process_seconds());
    let of_shard = (0..settings.shards).map(|shard| u32::from(shard >= settings.shards / 2)).collect();
    let sources = Sources::new(vec!["first".into(), "second".into()], of_shard)?;
    let space = Space { memory: settings.memory_mib << 20, scratch: folder };
    let report = minhash::cluster(&paths, folder, &sources, &space)?;
    let (clustered, cluster_seconds) = (begun.elapsed().as_secs_f64(), process_seconds() - processor);

    let megabytes = totals.bytes.load(Ordering::Relaxed) as f64 / 1e6;
    let sign_seconds = totals.signing_nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
    println!("{megabytes:.0} MB in {} documents, {} threads", report.documents, settings.threads);
    println!("signatures: {:.1} MB/s per core; {signed:.1} s with making the text", megabytes / sign_seconds);
    println!("clusters:   {clustered:.1} s, {cluster_seconds:.1} processor seconds");
    println!("end to end: {:.1} MB/s per core", megabytes / (sign_seconds + cluster_seconds));
    if let Some(peak) = smolt_run::resources::peak_rss_bytes() {
        println!("peak memory {} MiB, budget of clustering {} MiB", peak >> 20, settings.memory_mib);
    }
    compare(&text, folder)
}
