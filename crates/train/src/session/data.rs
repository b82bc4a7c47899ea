//! What a session reads: the mixture and the held-out shards, checked against model and tokenizer.

use crate::recipe::{HeldOut, Train};
use crate::validate::Domain;
use serde_json::{Value, json};
use smolt_arch::{ModelConfig, lint};
use smolt_data::batch::{Layout, Loader, Source};
use smolt_data::shard::Shard;
use smolt_run::error::Failure;
use smolt_text::tokenizer::Tokenizer;
use std::path::Path;

/// How samples are laid out for the model.
pub(super) fn layout(recipe: &Train, config: &ModelConfig) -> Result<Layout, Failure> {
    let t = &recipe.train;
    if let Some(reason) = lint::out_of_range(config, t.sequence_length) {
        return Err(Failure::bad_input(format!("train.sequence_length: {reason}")));
    }
    Ok(Layout {
        sequence_length: t.sequence_length,
        vocab_size: config.vocab_size as u32,
        document_masking: recipe.data.intra_document_masking,
        reset_positions: recipe.data.reset_positions,
    })
}

pub(super) fn open_sources(recipe: &Train, layout: Layout, tokenizer: &Tokenizer) -> Result<Loader, Failure> {
    if recipe.data.sources.is_empty() {
        return Err(Failure::bad_input("data.sources is empty; name at least one shard"));
    }
    let stages = recipe.stages()?;
    let sources = recipe.data.sources.iter().map(|s| {
        let shard = Shard::open(Path::new(&s.path))?;
        shard.check_tokenizer(tokenizer.hash())?;
        Ok(Source { name: s.name.clone(), weight: s.weight, shard })
    });
    let sources = sources.collect::<Result<_, smolt_data::Error>>()?;
    Ok(Loader::staged(sources, stages, recipe.seed, layout)?)
}

pub(super) fn open_domains(
    recipe: &Train,
    layout: Layout,
    tokenizer: &Tokenizer,
) -> Result<Vec<Domain>, Failure> {
    let domain = |d: &HeldOut| Ok(Domain::open(&d.name, Path::new(&d.path), layout, tokenizer)?);
    recipe.data.validation.iter().map(domain).collect()
}

/// The samples of a run without its model: to look at its data.
pub fn open_loader(recipe: &Train, tokenizer: &Tokenizer) -> Result<Loader, Failure> {
    let layout = Layout {
        sequence_length: recipe.train.sequence_length,
        vocab_size: recipe.model.vocab_size.unwrap_or(tokenizer.vocab_size()) as u32,
        document_masking: recipe.data.intra_document_masking,
        reset_positions: recipe.data.reset_positions,
    };
    open_sources(recipe, layout, tokenizer)
}

/// What the samples before `next_sample` took from each source, against the weights (spec DMX-02): for `events.jsonl`.
pub(super) fn consumption(loader: &Loader, next_sample: u64) -> Value {
    let plan = smolt_data::order::Plan::of(loader.mixture(), next_sample);
    let length = loader.layout().sequence_length as u64;
    let source = |s: &smolt_data::order::PlannedSource| {
        json!({
            "name": s.name,
            "tokens": s.samples * length,
            "epochs": s.epochs,
            "share": s.share,
            "target_share": s.target_share,
        })
    };
    json!({
        "stage": plan.stages.last().map(|stage| stage.name.as_str()),
        "sources": plan.sources.iter().map(source).collect::<Vec<_>>(),
        "against_weights": loader.mixture().unevenness(next_sample),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_arch::config::PositionEmbedding;
    use smolt_run::recipe::Document;

    #[test]
    fn sequences_are_as_long_as_positions_reach() {
        let text = r#"
            [model]
            [data]
            tokenizer = "tokenizer"
            sources = [{ name = "web", path = "web.ds" }]
            [train]
            train_steps = 1
            sequence_length = 600
            global_batch_size = 1
            micro_batch_size = 1
            "#;
        let recipe: Train = Document::parse("r.toml", text.as_bytes()).unwrap().read().unwrap();
        for position_embedding in [
            PositionEmbedding::Rope,
            PositionEmbedding::Learned,
            PositionEmbedding::Alibi,
            PositionEmbedding::None,
        ] {
            let config = ModelConfig { position_embedding, ..ModelConfig::default() };
            let planned = lint::out_of_range(&config, 600);
            let trained = layout(&recipe, &config).err().map(|error| error.to_string());
            assert_eq!(
                trained.is_some(),
                planned.is_some(),
                "{position_embedding}: what plans say, training does"
            );
            let said = trained.is_none_or(|text| text.contains("max_position_embeddings = 512"));
            assert!(said, "{position_embedding}");
        }
    }
}
