//! Language modelling of any text, in bits per byte: the score that does not depend on the tokenizer.

use crate::model::{Model, ModelError, OnDone, TextScore};
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// How well a text is predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The file.
    pub path: String,
    /// BLAKE3 of its documents' text.
    pub hash: String,
    /// −log₂ P of all of it over its bytes.
    pub bits_per_byte: f64,
    /// How far other documents of the same kind would move it: the error of a ratio over documents. One alone does not say.
    pub stderr: Option<f64>,
    /// Documents, each predicted from nothing.
    pub documents: usize,
    /// Tokens predicted.
    pub tokens: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Reads the documents of one file.
pub fn read(
    path: &str,
    texts: &[String],
    model: &mut dyn Model,
    on_done: OnDone<'_>,
) -> Result<Reading, ModelError> {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(text.as_bytes());
    }
    let scores = model.read(texts, on_done)?;
    if let Some(at) = scores.iter().position(|score| !score.log_likelihood.is_finite()) {
        return Err(ModelError::not_a_number(&texts[at]));
    }
    let (bits_per_byte, stderr) = ratio(&scores);
    Ok(Reading {
        path: path.to_owned(),
        hash: hasher.finalize().to_hex()[..16].to_owned(),
        bits_per_byte,
        stderr,
        documents: texts.len(),
        tokens: scores.iter().map(|score| score.tokens).sum(),
        bytes: scores.iter().map(|score| score.bytes).sum(),
    })
}

/// Σ bits / Σ bytes, and its error by the delta method: √(n/(n−1) · Σ(bits − ratio·bytes)²) / Σ bytes.
fn ratio(scores: &[TextScore]) -> (f64, Option<f64>) {
    let bits = |score: &TextScore| -score.log_likelihood / LN_2;
    let bytes: f64 = scores.iter().map(|score| score.bytes as f64).sum();
    if bytes == 0.0 {
        return (0.0, None);
    }
    let ratio = scores.iter().map(bits).sum::<f64>() / bytes;
    if scores.len() < 2 {
        return (ratio, None);
    }
    let n = scores.len() as f64;
    let squares: f64 = scores.iter().map(|score| (bits(score) - ratio * score.bytes as f64).powi(2)).sum();
    (ratio, Some((n / (n - 1.0) * squares).sqrt() / bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_documents_count_more_and_equal_ones_have_no_error() {
        let score = |bits: f64, bytes| TextScore { log_likelihood: -bits * LN_2, tokens: 1, bytes };
        let (value, error) = ratio(&[score(8.0, 4), score(12.0, 12)]);
        let error = error.unwrap();
        assert!((value - 1.25).abs() < 1e-12 && (error - (2.0f64 * (9.0 + 9.0)).sqrt() / 16.0).abs() < 1e-12);
        assert_eq!(ratio(&[score(8.0, 4), score(16.0, 8)]).1, Some(0.0));
        assert_eq!(ratio(&[]), (0.0, None));
    }

    #[test]
    fn one_document_does_not_say_its_error() {
        let alone = TextScore { log_likelihood: -8.0 * LN_2, tokens: 1, bytes: 4 };
        assert_eq!(ratio(&[alone]), (2.0, None));
        // Results that were written before say a number.
        let old = r#"{"path": "a", "hash": "b", "bits_per_byte": 2.0, "stderr": 0.0, "documents": 1, "tokens": 1, "bytes": 4}"#;
        assert_eq!(serde_json::from_str::<Reading>(old).unwrap().stderr, Some(0.0));
    }
}
