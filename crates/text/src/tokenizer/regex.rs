//! Patterns of a pre-tokenizer that the engine does not know by heart.
//!
//! Its reader prepares a `Split` for the patterns of well-known families only; with any other, every encoding fails. Such
//! an engine is taken apart and put together again with the pattern compiled.

use serde_json::Value;
use tokenizers::models::bpe::{BpeConfig, PipelineBPE};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::pipeline::{PipelineModel, PipelineNormalizer, PipelinePreTokenizer, PipelineTokenizer};
use tokenizers::pre_tokenizers::split::{Search, Split, SplitPattern};
use tokenizers::{Error, Result};

/// Whether `engine` would fail on every text for want of a compiled pattern.
pub(super) fn is_missing(engine: &PipelineTokenizer) -> bool {
    match engine.get_pre_tokenizer() {
        PipelinePreTokenizer::Sequence(sequence) => {
            !sequence.is_deepseek() && sequence.pre_tokenizers().iter().any(lacks_search)
        }
        single => lacks_search(single),
    }
}

fn split_of(pre_tokenizer: &PipelinePreTokenizer) -> Option<&Split> {
    match pre_tokenizer {
        PipelinePreTokenizer::Split(split) => Some(split),
        _ => None,
    }
}

fn lacks_search(pre_tokenizer: &PipelinePreTokenizer) -> bool {
    split_of(pre_tokenizer).is_some_and(|s| s.grammar().is_none() && matches!(s.search, Search::Unavailable))
}

/// `engine`, read from `document` (version 2.0), with its patterns compiled.
pub(super) fn compiled(engine: &PipelineTokenizer, document: &Value) -> Result<PipelineTokenizer> {
    let members = match engine.get_pre_tokenizer() {
        PipelinePreTokenizer::Sequence(sequence) => sequence.pre_tokenizers(),
        single => std::slice::from_ref(single),
    };
    for split in members.iter().filter_map(split_of) {
        if let SplitPattern::Regex(pattern) = &split.pattern {
            Split::new(split.pattern.clone(), split.behavior, split.invert)
                .map_err(|e| format!("its pre-tokenizer's pattern {pattern:?} cannot be used: {e}"))?;
        }
    }
    let normalizers = engine.get_normalizers().iter().map(normalizer).collect::<Result<Vec<_>>>()?;
    let post_processor = match &document["post_processor"] {
        Value::Null => Default::default(),
        value => tokenizers::post_processor_from_json(&value.to_string())?,
    };
    Ok(PipelineTokenizer::from_parts(
        engine.get_added_vocabulary().clone(),
        normalizers,
        // A copy of a `Split` is made by compiling its pattern, which was just shown to work.
        engine.get_pre_tokenizer().clone(),
        model(&document["model"])?,
        post_processor,
        None,
        engine.get_role_to_token().clone(),
        None,
        None,
    ))
}

fn normalizer(normalizer: &PipelineNormalizer) -> Result<PipelineNormalizer> {
    use PipelineNormalizer as N;
    Ok(match normalizer {
        N::Metaspace(n) => N::Metaspace(n.clone()),
        N::Replace(n) => N::Replace(n.clone()),
        N::Prepend(n) => N::Prepend(n.clone()),
        N::Strip(n) => N::Strip(*n),
        N::Lowercase(_) => N::Lowercase(tokenizers::normalizers::Lowercase),
        N::Bert(n) => N::Bert(*n),
        N::StripAccents(_) => N::StripAccents(tokenizers::normalizers::StripAccents::new()),
        N::NFC(_) => N::NFC(tokenizers::normalizers::NFC),
        N::NFD(_) => N::NFD(tokenizers::normalizers::NFD),
        N::NFKC(_) => N::NFKC(tokenizers::normalizers::NFKC),
        N::NFKD(_) => N::NFKD(tokenizers::normalizers::NFKD),
        N::Nmt(n) => N::Nmt(*n),
        N::ByteLevel(_) => return Err("a ByteLevel normalizer beside a pattern of its own".into()),
        N::Precompiled(_) => return Err("a Precompiled normalizer beside a pattern of its own".into()),
    })
}

fn strings(value: &Value) -> Result<(String, String)> {
    match (value[0].as_str(), value[1].as_str()) {
        (Some(a), Some(b)) => Ok((a.to_owned(), b.to_owned())),
        _ => Err(format!("the merge {value} is no pair").into()),
    }
}

fn model(model: &Value) -> Result<PipelineModel> {
    let text = |key: &str| model[key].as_str().map(str::to_owned);
    let missing = |key: &str| -> Error { format!("the model has no {key}").into() };
    let vocab = || -> Result<_> {
        let entries = model["vocab"].as_object().ok_or_else(|| missing("vocab"))?;
        Ok(entries.iter().filter_map(|(t, id)| Some((t.clone(), id.as_u64()? as u32))).collect())
    };
    match model["type"].as_str() {
        Some("BPE") => {
            let merges = model["merges"].as_array().ok_or_else(|| missing("merges"))?;
            let config = BpeConfig {
                vocab: vocab()?,
                merges: merges.iter().map(strings).collect::<Result<_>>()?,
                byte_level: model["byte_level"] == true,
                unk_token: text("unk_token"),
                fuse_unk: model["fuse_unk"] == true,
                byte_fallback: model["byte_fallback"] == true,
                ignore_merges: model["ignore_merges"] == true,
                ..BpeConfig::default()
            };
            Ok(PipelineModel::BPE(PipelineBPE::from_config(config)?))
        }
        Some("Unigram") => {
            let entries = model["vocab"].as_array().ok_or_else(|| missing("vocab"))?;
            let vocab = entries.iter().filter_map(|e| Some((e[0].as_str()?.to_owned(), e[1].as_f64()?)));
            let unk_id = model["unk_id"].as_u64().map(|id| id as usize);
            let unigram = Unigram::from(vocab.collect(), unk_id, model["byte_fallback"] == true)?;
            Ok(PipelineModel::Unigram(unigram))
        }
        _ => {
            let most = model["max_input_chars_per_word"].as_u64().unwrap_or(100) as usize;
            let wordpiece = WordPiece::builder()
                .vocab(vocab()?)
                .unk_token(text("unk_token").ok_or_else(|| missing("unk_token"))?)
                .continuing_subword_prefix(text("continuing_subword_prefix").unwrap_or_default())
                .max_input_chars_per_word(most)
                .build()?;
            Ok(PipelineModel::WordPiece(wordpiece.try_into()?))
        }
    }
}
