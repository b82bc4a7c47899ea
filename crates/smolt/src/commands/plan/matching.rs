//! `smolt plan match` (spec ABL-09)

use crate::Outcome;
use crate::output::{self, thousands};
use serde_json::{Value, json};
use smolt_arch::ModelConfig;
use smolt_arch::matching::{self, Target, Variant};
use smolt_run::error::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The recipe (TOML) to compare with
    recipe: PathBuf,
    /// What is changed in it, e.g. --set model.num_key_value_heads=32
    #[arg(long, value_name = "KEY=VALUE", required = true)]
    set: Vec<String>,
    /// Match this number of parameters instead of the recipe's
    #[arg(long, value_name = "N")]
    baseline_parameters: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if !super::is_recipe(&args.recipe) {
        return Err(Failure::bad_input(format!(
            "{} is no recipe (.toml), and only a recipe has sizes to search",
            args.recipe.display()
        )));
    }
    if args.baseline_parameters == Some(0) {
        return Err(Failure::bad_input("--baseline-parameters must be positive"));
    }
    let isa = super::detect()?;
    let baseline = super::resolved(&args.recipe, &[], isa)?;
    let changed = super::resolved(&args.recipe, &args.set, isa)?;
    if changed.model.from.is_some() {
        return Err(Failure::bad_input(format!(
            "{}: `model.from` brings the sizes from a folder, so none can be searched; give the shape instead",
            args.recipe.display()
        )));
    }
    let sequence_length = changed.train.sequence_length;
    let (base, config) = (baseline.model_config()?, changed.model_config()?);
    let own = Target::of(&base, sequence_length);
    let target = Target { parameters: args.baseline_parameters.unwrap_or(own.parameters), ..own };
    let variants = matching::variants(&base, &config, target, sequence_length);
    if args.json {
        output::json(&json!({
            "sequence_length": sequence_length,
            "baseline": {"parameters": target.parameters, "flops_per_token": target.flops},
            "variants": variants.iter().map(as_json).collect::<Vec<_>>(),
        }));
    } else {
        print_tables(&base, target, &variants, sequence_length);
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(variant: &Variant) -> Value {
    let settings: serde_json::Map<String, Value> =
        variant.settings.iter().map(|(field, size)| (format!("model.{field}"), (*size).into())).collect();
    json!({
        "name": variant.goal.as_str(),
        "settings": settings,
        "parameters": variant.counted.parameters,
        "parameter_change": variant.parameter_change,
        "flops_per_token": variant.counted.flops,
        "flops_change": variant.flops_change,
        "verdict": variant.verdict.as_str(),
    })
}

fn print_tables(base: &ModelConfig, target: Target, variants: &[Variant], sequence_length: usize) {
    let percent = |change: f64| format!("{:+.1} %", 100.0 * change);
    let row = |name: &str, c: &ModelConfig, counted: Target, [n, flops]: [String; 2], verdict: &str| {
        let mlp = c.moe.as_ref().map_or(c.intermediate_size, |moe| moe.moe_intermediate_size);
        let heads = format!("{}/{}", c.num_attention_heads, c.num_key_value_heads);
        vec![
            name.to_owned(),
            c.num_hidden_layers.to_string(),
            c.hidden_size.to_string(),
            heads,
            mlp.to_string(),
            thousands(counted.parameters),
            n,
            format!("{:.1}", counted.flops / 1e6),
            flops,
            verdict.to_owned(),
        ]
    };
    let mut rows = vec![row("baseline", base, target, [String::new(), String::new()], "")];
    rows.extend(variants.iter().map(|v| {
        let changes = [percent(v.parameter_change), percent(v.flops_change)];
        row(v.goal.as_str(), &v.config, v.counted, changes, v.verdict.as_str())
    }));
    let header = [
        "variant",
        "layers",
        "width",
        "heads",
        "mlp",
        "parameters",
        "ΔN",
        "MFLOPs/token",
        "ΔFLOPs",
        "verdict",
    ];
    output::line(output::table(&header, &rows));
    output::line(format_args!(
        "\nFLOPs of training's products on sequences of {}. What to set beside the change:",
        thousands(sequence_length as u64)
    ));
    for variant in variants.iter().skip(1) {
        let sets: Vec<String> =
            variant.settings.iter().map(|(field, size)| format!("--set model.{field}={size}")).collect();
        let sets = if sets.is_empty() { "nothing".to_owned() } else { sets.join(" ") };
        output::line(format_args!("{}: {sets}", variant.goal.as_str()));
    }
}
