//! `smolt ablate`: recipes of one folder, several seeds each, and a table of what came out (spec ABL-11).

mod speed;

use super::train::{Bar, load_recipe};
use crate::device::DeviceArgs;
use crate::output::{self, note, thousands};
use crate::{Outcome, pipeline};
use serde::{Deserialize, Serialize};
use smolt_arch::count;
use smolt_data::shard::Shard;
use smolt_run::error::{Failure, FileError};
use smolt_run::{atomic, hash, metrics, recipe, signal};
use smolt_train::recipe::Train;
use smolt_train::session::{self, Options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What recipes of a folder extend, and the pipeline that makes their data: not to be compared.
const BASE: &str = "base";
const DATA: &str = "data";
/// Where a run's part of the table is kept, so that it is not trained twice.
const RESULT: &str = "result.json";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of recipes; its data.toml, if there is one, is a pipeline that is run first
    folder: PathBuf,
    /// Trainings of each recipe, with seeds from 1 on
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Only these recipes, e.g. --only gqa,latent
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Folder of the runs [default: runs/FOLDER]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Override a setting of every recipe, e.g. --set train.train_steps=1000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the table as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One training.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trained {
    format_version: u32,
    /// Hash of the recipe and its data.
    key: String,
    seed: u64,
    parameters: u64,
    active: u64,
    flops_per_token: f64,
    tokens: u64,
    /// By domain, in order.
    bits_per_byte: BTreeMap<String, f64>,
}

/// One recipe over its seeds.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    parameters: u64,
    active: u64,
    flops_per_token: f64,
    tokens: u64,
    /// Over rounds of timed steps, not of the trainings, which come one after another.
    tokens_per_second: Spread,
    bits_per_byte: BTreeMap<String, Spread>,
    /// Mean over domains.
    mean_bits_per_byte: Spread,
}

/// Mean and standard deviation (n − 1) over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    mean: f64,
    deviation: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Spread {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { mean, deviation: (squares / (n - 1.0).max(1.0)).sqrt() }
    }

    fn show(self, digits: usize) -> String {
        format!("{:.digits$} ± {:.digits$}", self.mean, self.deviation)
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    if args.seeds == 0 {
        return Err(Failure::bad_input("--seeds must be positive"));
    }
    let recipes = recipes(&args.folder, &args.only)?;
    // Every mistake is found before the first training.
    for path in &recipes {
        load_recipe(path, &args.set)?;
    }
    signal::install().map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
    let name = args.folder.canonicalize().ok().and_then(|path| path.file_name().map(PathBuf::from));
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name.unwrap_or_default()));
    let data = args.folder.join(DATA).with_extension("toml");
    if data.exists() {
        let loaded = pipeline::load(&data, &[])?;
        let into = pipeline::default_out(&loaded);
        let made = pipeline::run(&loaded, &args.folder, &into, args.device.threads(), args.json);
        if let (Err(failure), Some(_)) = (&made, signal::requested()) {
            note!("{failure}");
            return Ok(stopped());
        }
        made?;
    }
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    for (index, path) in recipes.iter().enumerate() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut trained = Vec::new();
        for seed in 1..=args.seeds {
            if !args.json {
                note!("[{}/{}] {name}, seed {seed}", index + 1, recipes.len());
            }
            match train(path, seed, &out.join(&name).join(format!("seed-{seed}")), &args)? {
                Some(result) => trained.push(result),
                None => return Ok(stopped()),
            }
        }
        runs.push(out.join(&name).join("seed-1"));
        rows.push(row(name, &trained));
    }
    // Not lost if the timing fails.
    write(&out, &rows)?;
    if !args.json {
        note!("timing");
    }
    for (row, speeds) in rows.iter_mut().zip(speed::measure(&runs, &args.device)?) {
        row.tokens_per_second = Spread::of(&speeds);
    }
    write(&out, &rows)?;
    match args.json {
        true => output::json(&rows),
        false => output::line(table(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

fn stopped() -> ExitCode {
    note!("the same command goes on where it stopped");
    signal::requested().map_or(ExitCode::FAILURE, |signal| ExitCode::from(signal.exit_code()))
}

/// The recipes of a folder by name, or those of `only` in its order.
fn recipes(folder: &Path, only: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|source| FileError::reading(folder, source))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    found.retain(|path| {
        path.extension().is_some_and(|e| e == "toml") && ![BASE, DATA].contains(&stem(path).as_str())
    });
    found.sort();
    if found.is_empty() {
        return Err(Failure::bad_input(format!("{}: holds no recipe (.toml)", folder.display())));
    }
    if only.is_empty() {
        return Ok(found);
    }
    let pick = |name: &String| {
        found.iter().find(|path| stem(path) == *name).cloned().ok_or_else(|| {
            let names: Vec<String> = found.iter().map(stem).collect();
            let (folder, names) = (folder.display(), names.join(", "));
            Failure::bad_input(format!("--only {name}: {folder} has no such recipe; there are {names}"))
        })
    };
    only.iter().map(pick).collect()
}

/// Trains, or finds what was trained before; `None` when a signal stopped it.
fn train(path: &Path, seed: u64, out: &Path, args: &Args) -> Result<Option<Trained>, Failure> {
    let mut train = load_recipe(path, &args.set)?;
    train.seed = seed;
    let key = hash::bytes(format!("{}{}", recipe::to_toml(&train), data_of(&train)?).as_bytes());
    let file = out.join(RESULT);
    let before = std::fs::read(&file).ok().and_then(|b| serde_json::from_slice::<Trained>(&b).ok());
    if let Some(before) = before.filter(|before| before.key == key) {
        return Ok(Some(before));
    }
    let argv: Vec<String> = std::env::args().collect();
    let options = Options {
        out,
        resume: true,
        change_stages: false,
        cpu: args.device.cpu()?,
        version: env!("CARGO_PKG_VERSION"),
        args: &argv,
    };
    let mut bar = Bar::new(args.json);
    let steps = &train.train;
    let (length, tokens) =
        (steps.sequence_length, steps.train_steps * (steps.global_batch_size * steps.sequence_length) as u64);
    let summary = session::run(train, options, &mut bar)?;
    bar.finish(&summary);
    if summary.stopped.is_some() {
        return Ok(None);
    }
    let bits_per_byte = measured(out)?;
    let config = smolt_arch::ModelConfig::load(&summary.checkpoint.join("config.json"))?;
    let counted = count::parameters(&config);
    let result = Trained {
        format_version: 1,
        key,
        seed,
        parameters: counted.total(),
        active: counted.active,
        flops_per_token: count::flops_per_token(&config, length).total(),
        tokens,
        bits_per_byte,
    };
    atomic::write(&file, output::or_empty(serde_json::to_string_pretty(&result)).as_bytes())?;
    Ok(Some(result))
}

/// What a training reads, by the checksums that shards carry: the recipe has their names only.
fn data_of(train: &Train) -> Result<String, Failure> {
    let data = &train.data;
    let paths = data.sources.iter().map(|source| &source.path).chain(data.validation.iter().map(|d| &d.path));
    let mut all = hash::file(&Path::new(&data.tokenizer).join("tokenizer.json"))?;
    for path in paths {
        all += &output::or_empty(serde_json::to_string(Shard::open(Path::new(path))?.meta()));
    }
    Ok(all)
}

/// The last validation of a run, from its log: a run that was finished before says no more.
fn measured(run: &Path) -> Result<BTreeMap<String, f64>, Failure> {
    let lines = metrics::read(&run.join("metrics.jsonl"))?;
    let last = lines.iter().rev().find_map(|line| line["validation_bits_per_byte"].as_object());
    let bits = last.into_iter().flatten().filter_map(|(name, bits)| Some((name.clone(), bits.as_f64()?)));
    Ok(bits.collect())
}

fn row(name: String, trained: &[Trained]) -> Row {
    let over = |value: &dyn Fn(&Trained) -> f64| Spread::of(&trained.iter().map(value).collect::<Vec<_>>());
    let first = &trained[0];
    let mean = |t: &Trained| t.bits_per_byte.values().sum::<f64>() / t.bits_per_byte.len().max(1) as f64;
    let of = |domain: &String| over(&|t| t.bits_per_byte.get(domain).copied().unwrap_or(f64::NAN));
    Row {
        name,
        parameters: first.parameters,
        active: first.active,
        flops_per_token: first.flops_per_token,
        tokens: first.tokens,
        tokens_per_second: Spread { mean: 0.0, deviation: 0.0 },
        bits_per_byte: first.bits_per_byte.keys().map(|domain| (domain.clone(), of(domain))).collect(),
        mean_bits_per_byte: over(&mean),
    }
}

const HEADER: [&str; 6] = ["recipe", "parameters", "active", "MFLOPs/token", "tokens/s", "bits per byte"];

fn cells(row: &Row) -> Vec<String> {
    let domains: Vec<String> =
        row.bits_per_byte.iter().map(|(name, bits)| format!("{name} {}", bits.show(3))).collect();
    vec![
        row.name.clone(),
        thousands(row.parameters),
        thousands(row.active),
        format!("{:.1}", row.flops_per_token / 1e6),
        thousands(row.tokens_per_second.mean as u64),
        domains.join(", "),
    ]
}

fn table(rows: &[Row]) -> String {
    output::table(&HEADER, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// `results.json` and, to be read or put into a document, `results.md`.
fn write(out: &Path, rows: &[Row]) -> Result<(), Failure> {
    let json = output::or_empty(serde_json::to_string_pretty(rows));
    atomic::write(&out.join("results.json"), json.as_bytes())?;
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEADER.map(str::to_owned));
    text += "|---|---:|---:|---:|---:|---|\n";
    rows.iter().for_each(|row| text += &line(&cells(row)));
    atomic::write(&out.join("results.md"), text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn deviation_is_that_of_a_sample() {
        assert_eq!(Spread::of(&[1.0, 2.0, 3.0]), Spread { mean: 2.0, deviation: 1.0 });
        assert_eq!(Spread::of(&[4.0]), Spread { mean: 4.0, deviation: 0.0 });
    }
}
