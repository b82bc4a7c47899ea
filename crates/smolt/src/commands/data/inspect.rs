//! `smolt data inspect`: which documents are in a shard, and which were in the batch of a step (spec SPK-04).

use crate::commands::train::load_recipe;
use crate::output::{self, thousands};
use crate::{Outcome, commands::data::percent};
use serde::Serialize;
use serde_json::json;
use smolt_data::batch::Loader;
use smolt_data::lengths::Lengths;
use smolt_data::order::Plan;
use smolt_data::shard::Shard;
use smolt_data::shuffle_check;
use smolt_run::error::Failure;
use smolt_text::tokenizer::Tokenizer;
use smolt_train::recipe::Train;
use smolt_train::session::open_loader;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A training recipe (TOML), or a token shard (NAME.ds)
    path: PathBuf,
    /// The step whose batch is shown, counted from 1
    #[arg(long, default_value_t = 1)]
    step: u64,
    /// Sequences of the batch, or documents of the shard, that are shown
    #[arg(long, default_value_t = 16)]
    rows: u64,
    /// Characters of text shown of each document
    #[arg(long, default_value_t = 100)]
    characters: usize,
    /// Check from that step on that chunks are shuffled, not documents; exit code 1 if not
    #[arg(long)]
    check: bool,
    /// Of a shard: folder with tokenizer.json, to show text
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Override a setting of the recipe, e.g. --set seed=1
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A document, or the part of one that is in a sequence.
#[derive(Serialize)]
struct Piece {
    /// Its number in the shard.
    document: u64,
    /// What the input called it, where the shard keeps names.
    id: Option<String>,
    /// Of the document: the first token shown, and all its tokens.
    first_token: u64,
    document_tokens: u64,
    /// Tokens of it here.
    tokens: u64,
    /// Their text, cut.
    text: Option<String>,
}

/// A sequence of a batch.
#[derive(Serialize)]
struct Row {
    sample: u64,
    source: String,
    epoch: u64,
    chunk: u64,
    documents: Vec<Piece>,
}

pub(super) fn run(a: &Args) -> Outcome {
    match a.path.extension().is_some_and(|extension| extension == "toml") {
        true => recipe(a),
        false => shard(a),
    }
}

fn load_tokenizer(folder: &Path) -> Result<Tokenizer, Failure> {
    Ok(Tokenizer::load(&folder.join("tokenizer.json"))?)
}

fn shard(a: &Args) -> Outcome {
    if a.check {
        return Err(Failure::bad_input("--check looks at the order of a recipe; give a recipe (.toml)"));
    }
    let shard = Shard::open(&a.path)?;
    let tokenizer = a.tokenizer.as_deref().map(load_tokenizer).transpose()?;
    if let Some(tokenizer) = &tokenizer {
        shard.check_tokenizer(tokenizer.hash())?;
    }
    let shown = 0..shard.n_documents().min(a.rows);
    let names = shard.document_ids(&shown.clone().collect())?;
    let pieces: Vec<Piece> = shown
        .map(|d| piece(&shard, d, shard.document(d), &names, tokenizer.as_ref(), a.characters))
        .collect();
    let lengths = Lengths::of_shard(&shard);
    if a.json {
        output::json(&json!({"meta": shard.meta(), "lengths": lengths, "documents": pieces}));
        return Ok(ExitCode::SUCCESS);
    }
    let m = shard.meta();
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "not said".into());
    output::line(format_args!(
        "{} documents, {} tokens of {} bytes, ids {} to {}, vocabulary {}, tokenizer {}",
        thousands(m.n_documents),
        thousands(m.n_tokens),
        m.token_size,
        m.min_token_id,
        m.max_token_id,
        or_unknown(m.vocab_size.map(|size| size.to_string())),
        or_unknown(m.tokenizer_hash.as_ref().map(|hash| hash.chars().take(12).collect())),
    ));
    output::line(format_args!(
        "packing {:?}, chunk length {}, mean document {:.0} tokens, longest {}, {} % below 2,048",
        m.packing,
        or_unknown(m.chunk_length.map(|length| length.to_string())),
        lengths.mean,
        thousands(lengths.longest),
        percent(lengths.share_below_2k)
    ));
    pieces.iter().for_each(print_piece);
    Ok(ExitCode::SUCCESS)
}

fn recipe(a: &Args) -> Outcome {
    let recipe = load_recipe(&a.path, &a.set)?;
    let tokenizer = load_tokenizer(Path::new(&recipe.data.tokenizer))?;
    let loader = open_loader(&recipe, &tokenizer)?;
    let batch = recipe.train.global_batch_size as u64;
    let first = a.step.checked_sub(1).and_then(|steps| steps.checked_mul(batch));
    let first = first.ok_or_else(|| Failure::bad_input(format!("--step {}: count from 1", a.step)))?;
    if a.check {
        return check(a, &loader, first, batch);
    }
    let rows = rows(a, &loader, &tokenizer, first..first.saturating_add(batch.min(a.rows)))?;
    let plan = Plan::of(loader.mixture(), first);
    let stage = loader.mixture().stages().nth(loader.mixture().stage_of(first));
    let stage = stage.map_or("", |stage| stage.name.as_str());
    let labels = loader.label_tokens(first, batch);
    if a.json {
        output::json(&json!({
            "step": a.step,
            "stage": stage,
            "first_sample": first,
            "label_tokens": labels,
            "consumed_before": plan.sources,
            "rows": rows,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    print_head(a, &recipe, stage, first, labels, &plan);
    for row in &rows {
        output::line(format_args!(
            "sample {}: {}, epoch {}, chunk {}",
            row.sample, row.source, row.epoch, row.chunk
        ));
        row.documents.iter().for_each(print_piece);
    }
    if batch > a.rows {
        output::line(format_args!("… {} more sequences (--rows)", batch - a.rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_head(a: &Args, recipe: &Train, stage: &str, first: u64, labels: u64, plan: &Plan) {
    let t = &recipe.train;
    let tokens = (t.global_batch_size * t.sequence_length) as u64;
    output::line(format_args!(
        "step {} of {}, stage \"{stage}\": samples {first} to {}, {} tokens, {} labels",
        thousands(a.step),
        thousands(t.train_steps),
        first + t.global_batch_size as u64 - 1,
        thousands(tokens),
        thousands(labels)
    ));
    let row = |s: &smolt_data::order::PlannedSource| {
        let tokens = thousands(s.samples * t.sequence_length as u64);
        vec![s.name.clone(), tokens, percent(s.share), percent(s.target_share), format!("{:.3}", s.epochs)]
    };
    let rows: Vec<Vec<String>> = plan.sources.iter().map(row).collect();
    output::line(output::table(&["before it, of", "tokens", "%", "target %", "epochs"], &rows));
}

/// The documents of each sample: those that its chunk touches, the token that is only a label included.
fn rows(a: &Args, loader: &Loader, tokenizer: &Tokenizer, samples: Range<u64>) -> Result<Vec<Row>, Failure> {
    let length = loader.layout().sequence_length as u64 + 1;
    let touched = |sample: u64| {
        let (shard, start) = loader.locate(sample);
        (
            shard,
            start,
            shard.document_at(start)..=shard.document_at((start + length - 1).min(shard.n_tokens() - 1)),
        )
    };
    let mut wanted: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for sample in samples.clone() {
        wanted.entry(loader.mixture().sample(sample).source).or_default().extend(touched(sample).2);
    }
    let mut names = BTreeMap::new();
    for (source, documents) in &wanted {
        names.insert(*source, loader.sources()[*source].shard.document_ids(documents)?);
    }
    let row = |sample| {
        let at = loader.mixture().sample(sample);
        let (shard, start, documents) = touched(sample);
        let part = |document| {
            let range = shard.document(document);
            range.start.max(start)..range.end.min(start + length)
        };
        let shown = documents.filter(|&document| !part(document).is_empty());
        Row {
            sample,
            source: loader.sources()[at.source].name.clone(),
            epoch: at.epoch,
            chunk: at.chunk,
            documents: shown
                .map(|d| piece(shard, d, part(d), &names[&at.source], Some(tokenizer), a.characters))
                .collect(),
        }
    };
    Ok(samples.map(row).collect())
}

fn piece(
    shard: &Shard,
    document: u64,
    part: Range<u64>,
    names: &BTreeMap<u64, String>,
    tokenizer: Option<&Tokenizer>,
    characters: usize,
) -> Piece {
    let whole = shard.document(document);
    let text = |tokenizer: &Tokenizer| {
        // No token is shorter than nothing, and few are longer than a character: enough of them, not all.
        let ids: Vec<u32> = part.clone().take(characters.saturating_mul(4)).map(|p| shard.token(p)).collect();
        tokenizer.decode(&ids, false).chars().take(characters).collect::<String>()
    };
    Piece {
        document,
        id: names.get(&document).cloned(),
        first_token: part.start - whole.start,
        document_tokens: whole.end - whole.start,
        tokens: part.end.saturating_sub(part.start),
        text: tokenizer.map(text),
    }
}

fn print_piece(p: &Piece) {
    let id = p.id.as_ref().map_or_else(String::new, |id| format!(" {id:?}"));
    let text = p.text.as_ref().map_or_else(String::new, |text| format!(": {text:?}"));
    let (first, last) = (p.first_token, p.first_token + p.tokens);
    output::line(format_args!(
        "  document {}{id}, tokens {first}..{last} of {}{text}",
        p.document, p.document_tokens
    ));
}

fn check(a: &Args, loader: &Loader, first: u64, batch: u64) -> Outcome {
    let report = shuffle_check::check_loader(loader, first, batch)?;
    if a.json {
        output::json(&report);
    } else {
        let r = &report;
        output::line(format_args!("{} batches of {} sequences", r.batches, r.batch_size));
        output::line(format_args!(
            "adjacency: {} of {} pairs are of one document or follow one another, {:.1} expected, z {:.2}",
            r.adjacency.found, r.adjacency.pairs, r.adjacency.expected, r.adjacency.z
        ));
        for o in &r.overdispersion {
            output::line(format_args!(
                "overdispersion of {} ({} % of samples): {:.3}, limit {:.3}",
                o.domain,
                percent(o.share),
                o.phi,
                o.limit
            ));
        }
        let l = &r.largest_share;
        output::line(format_args!(
            "largest share: document {} of \"{}\" is {} % of the batch at sample {} (chance {:.1e})",
            l.document,
            l.source,
            percent(l.share),
            l.first_sample,
            l.chance
        ));
        for e in &r.epochs {
            output::line(format_args!(
                "epochs of {}: correlation {:+.4}, limit {:.4}{}",
                e.source,
                e.correlation,
                e.limit,
                if e.same_chunks == Some(true) { ", each chunk once" } else { "" }
            ));
        }
        r.failures.iter().for_each(|failure| output::line(format_args!("FAILED {failure}")));
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
