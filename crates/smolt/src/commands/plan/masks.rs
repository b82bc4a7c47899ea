//! `smolt plan masks` (spec SCP-01 to SCP-04, PKD-04)

use crate::Outcome;
use crate::output::{self, thousands};
use serde_json::{Value, json};
use smolt_arch::ModelConfig;
use smolt_arch::count;
use smolt_arch::dual_chunk::DualChunk;
use smolt_arch::masks::{self, Cell, Kind, Mask};
use smolt_run::error::Failure;
use smolt_run::plot::{GridPlot, Shade, Square};
use std::path::PathBuf;
use std::process::ExitCode;

/// The largest picture: what a screen shows.
const MOST_TOKENS: usize = 128;
/// The picture that the specification works with.
const TOKENS: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe (TOML), a Hugging Face folder, or a run's folder for its newest checkpoint
    #[arg(value_name = "RECIPE_OR_FOLDER")]
    model: PathBuf,
    /// Override a setting of the recipe, e.g. --set model.sliding_window=64
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Tokens of the picture [default: those of --documents, or 16]
    #[arg(long)]
    tokens: Option<usize>,
    /// Lengths of the documents packed into it, e.g. 6,10 [default: two of about 3/8 and 5/8]
    #[arg(long, value_delimiter = ',', value_name = "N,N,…")]
    documents: Vec<usize>,
    /// Also draw the relative positions of dual chunk attention, which reads longer texts than a model was trained on: tokens
    /// of a chunk, trained length, local window, e.g. 4,8,3
    #[arg(long, value_delimiter = ',', value_name = "CHUNK,TRAINED,LOCAL")]
    dual_chunk: Vec<usize>,
    /// Draw it into this file too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A kind of layer with its pictures.
struct Picture {
    kind: Kind,
    drawn: Kind,
    layers: Vec<usize>,
    /// Tokens that a token sees on average in the model's longest sequence: what scores cost.
    seen: u64,
    /// Tokens that a layer's cache then holds.
    cached: u64,
    causal: Mask,
    intra_document: Mask,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let documents = documents(args)?;
    let (config, trained) = load(args)?;
    let dual_chunk = dual_chunk(args)?;
    let tokens: usize = documents.iter().sum();
    let longest = config.max_position_embeddings;
    let pictures: Vec<Picture> = masks::kinds(&config)
        .into_iter()
        .map(|(kind, layers)| {
            let drawn = kind.drawn(tokens);
            let mask = |intra| Mask::new(drawn, &documents, intra);
            let seen = count::mean_visible(&config, layers[0], longest).round() as u64;
            let cached = config.visible(layers[0], longest) as u64;
            Picture { kind, drawn, layers, seen, cached, causal: mask(false), intra_document: mask(true) }
        })
        .collect();
    if let Some(file) = &args.svg {
        smolt_run::atomic::write(file, plot(&pictures, &config, &documents).svg().as_bytes())?;
    }
    if args.json {
        print_json(&pictures, &config, &documents, trained, dual_chunk);
    } else {
        print_text(&pictures, &config, &documents, trained);
        if let Some(scheme) = dual_chunk {
            print_dual_chunk(scheme, tokens);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The model, and whether its recipe masks documents; a folder does not say.
fn load(args: &Args) -> Result<(ModelConfig, Option<bool>), Failure> {
    if !super::is_recipe(&args.model) {
        return Ok((super::of_folder(&args.model, &args.set)?, None));
    }
    let recipe = super::resolved(&args.model, &args.set, super::detect()?)?;
    Ok((recipe.model_config()?, Some(recipe.data.intra_document_masking)))
}

fn dual_chunk(args: &Args) -> Result<Option<DualChunk>, Failure> {
    let scheme = match args.dual_chunk[..] {
        [] => return Ok(None),
        [chunk, trained, local] => DualChunk::new(chunk, trained, local),
        _ => Err("three numbers are needed: chunk, trained length, local window".to_owned()),
    };
    scheme.map(Some).map_err(|problem| Failure::bad_input(format!("--dual-chunk: {problem}")))
}

fn documents(args: &Args) -> Result<Vec<usize>, Failure> {
    let given = args.documents.iter().fold(0_usize, |sum, &length| sum.saturating_add(length));
    let tokens = args.tokens.unwrap_or(if args.documents.is_empty() { TOKENS } else { given });
    if !(2..=MOST_TOKENS).contains(&tokens) {
        let message = format!("a picture has 2 to {MOST_TOKENS} tokens, not {tokens}: change --tokens");
        return Err(Failure::bad_input(message));
    }
    if args.documents.is_empty() {
        let first = (tokens * 3 / 8).max(1);
        return Ok(vec![first, tokens - first]);
    }
    if given != tokens || args.documents.contains(&0) {
        return Err(Failure::bad_input(format!(
            "--documents must be positive and add up to --tokens {tokens}; they add up to {given}"
        )));
    }
    Ok(args.documents.clone())
}

impl Picture {
    fn caption(&self, layers: usize) -> String {
        let truth = if self.drawn == self.kind { "" } else { ", drawn smaller" };
        format!(
            "{}{truth}; layers {} ({} of {layers})",
            self.kind.describe(),
            ranges(&self.layers),
            self.layers.len()
        )
    }

    fn json(&self) -> Value {
        let sizes = |kind: Kind| match kind {
            Kind::Full => json!({}),
            Kind::Sliding { window, sinks } => json!({"sliding_window": window, "sink_tokens": sinks}),
            Kind::Chunked { chunk } => json!({"attention_chunk_size": chunk}),
        };
        let rows = |mask: &Mask| -> Vec<String> {
            let cell = |query, key| if mask.cell(query, key) == Cell::Hidden { '0' } else { '1' };
            (0..mask.tokens()).map(|query| (0..mask.tokens()).map(|key| cell(query, key)).collect()).collect()
        };
        json!({
            "layer_type": self.kind.layer_type().as_str(),
            "layers": self.layers,
            "sizes": sizes(self.kind),
            "drawn": sizes(self.drawn),
            "mean_visible_tokens": self.seen,
            "cached_tokens": self.cached,
            "causal": {"pairs": self.causal.pairs(), "rows": rows(&self.causal)},
            "intra_document": {"pairs": self.intra_document.pairs(), "rows": rows(&self.intra_document)},
        })
    }
}

/// `0–4, 6` for 0, 1, 2, 3, 4, 6.
fn ranges(layers: &[usize]) -> String {
    let runs = layers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}–{last}"),
        _ => run[0].to_string(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn print_json(
    pictures: &[Picture],
    config: &ModelConfig,
    documents: &[usize],
    trained: Option<bool>,
    dual_chunk: Option<DualChunk>,
) {
    let tokens = documents.iter().sum::<usize>();
    let relative = |scheme: DualChunk| -> Vec<Vec<usize>> {
        (0..tokens).map(|query| (0..=query).filter_map(|key| scheme.relative(query, key)).collect()).collect()
    };
    output::json(&json!({
        "tokens": tokens,
        "dual_chunk_relative_positions": dual_chunk.map(relative),
        "documents": documents,
        "intra_document_masking": trained,
        "longest_sequence": config.max_position_embeddings,
        "kinds": pictures.iter().map(Picture::json).collect::<Vec<_>>(),
    }));
}

fn print_text(pictures: &[Picture], config: &ModelConfig, documents: &[usize], trained: Option<bool>) {
    let lengths: Vec<String> = documents.iter().map(usize::to_string).collect();
    output::line(format_args!(
        "documents of {} tokens in one sequence; a row per query, a column per key\n\
         ■ seen   □ seen, of another document   · hidden",
        lengths.join(" and ")
    ));
    let title = |name: &str, mask: &Mask, is_trained: bool| {
        let mark = if is_trained { ", as this recipe trains" } else { "" };
        format!("{name}{mark}: {} pairs", thousands(mask.pairs() as u64))
    };
    for picture in pictures {
        output::line(format_args!("\n{}", picture.caption(config.num_hidden_layers)));
        output::line(format_args!(
            "  in sequences of {}: {} tokens seen on average, {} in the cache",
            thousands(config.max_position_embeddings as u64),
            thousands(picture.seen),
            thousands(picture.cached)
        ));
        let left = title("causal", &picture.causal, trained == Some(false));
        let right = title("intra-document", &picture.intra_document, trained == Some(true));
        let (a, b) = (picture.causal.picture(), picture.intra_document.picture());
        let width = a.iter().chain([&left]).map(|line| line.chars().count()).max().unwrap_or(0) + 4;
        for (left, right) in [(&left, &right)].into_iter().chain(a.iter().zip(&b)) {
            let gap = " ".repeat(width - left.chars().count());
            output::line(format_args!("  {left}{gap}{right}"));
        }
    }
}

fn print_dual_chunk(scheme: DualChunk, tokens: usize) {
    let DualChunk { chunk, trained, local } = scheme;
    output::line(format_args!(
        "\ndual chunk attention on one document: chunks of {chunk}, trained to {trained}, local window {local}; how far a key \
         seems to a query, {} at most",
        trained - 1
    ));
    scheme.picture(tokens).iter().for_each(|line| output::line(format_args!("  {line}")));
}

fn plot(pictures: &[Picture], config: &ModelConfig, documents: &[usize]) -> GridPlot {
    // Which document each token is of: its colour.
    let document: Vec<usize> = documents
        .iter()
        .enumerate()
        .flat_map(|(index, &length)| std::iter::repeat_n(index, length))
        .collect();
    let square = |name: &str, mask: &Mask| Square {
        title: format!("{name}: {} pairs", thousands(mask.pairs() as u64)),
        cells: (0..mask.tokens())
            .map(|query| {
                let cell = |(key, &colour): (usize, &usize)| match mask.cell(query, key) {
                    Cell::Hidden => None,
                    seen => Some(Shade { colour, faint: seen == Cell::Other }),
                };
                document.iter().enumerate().map(cell).collect()
            })
            .collect(),
        borders: (0..mask.tokens()).filter(|&token| mask.is_border(token)).collect(),
    };
    let row = |picture: &Picture| {
        let squares =
            vec![square("causal", &picture.causal), square("intra-document", &picture.intra_document)];
        (picture.caption(config.num_hidden_layers), squares)
    };
    GridPlot {
        title: "What a query (row) sees of keys (columns), coloured by the key's document".to_owned(),
        rows: pictures.iter().map(row).collect(),
    }
}
