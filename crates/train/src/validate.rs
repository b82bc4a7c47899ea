//! Validation: bits per byte of held-out text, per domain.

use crate::trainer::fill_inputs;
use smolt_data::Error;
use smolt_data::batch::{Batch, Layout};
use smolt_data::shard::Shard;
use smolt_data::validation::Validation;
use smolt_model::Transformer;
use smolt_model::transformer::LossPass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::Run;
use smolt_text::tokenizer::Tokenizer;
use std::path::Path;

/// Loss of one domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLoss {
    /// The domain's name.
    pub name: String,
    /// Mean nats per label.
    pub loss: f64,
    /// Total bits over the bytes of the labels: comparable across tokenizers.
    pub bits_per_byte: f64,
    /// Labels counted.
    pub label_tokens: u64,
}

/// Held-out text of one domain.
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub data: Validation,
    /// UTF-8 bytes of text in the tokens that are labels.
    pub label_bytes: u64,
}

impl Domain {
    /// The shard at `path`, which `tokenizer` must have made.
    pub fn open(name: &str, path: &Path, layout: Layout, tokenizer: &Tokenizer) -> Result<Domain, Error> {
        let shard = Shard::open(path)?;
        shard.check_tokenizer(tokenizer.hash())?;
        let data = Validation::new(shard, layout)?;
        let label_bytes = data.label_bytes(&tokenizer.text_bytes())?;
        Ok(Domain { name: name.to_owned(), data, label_bytes })
    }
}

/// A compiled forward pass for validation, reused for every domain.
pub struct Validator {
    pass: LossPass,
    batch: Batch,
    micro_batch_size: usize,
}

impl Validator {
    /// Compiles the pass for leaves of `micro_batch_size` sequences.
    pub fn new(
        model: &Transformer,
        micro_batch_size: usize,
        sequence_length: usize,
        precision: Precision,
    ) -> Validator {
        let n = micro_batch_size * sequence_length;
        let pass = model.loss_pass(n, precision, 0.0, false);
        Validator { pass, batch: Batch::new(micro_batch_size, sequence_length), micro_batch_size }
    }

    /// The loss over every row of a domain.
    pub fn run(
        &mut self,
        cpu: &Cpu,
        model: &Transformer,
        weights: &[f32],
        domain: &Domain,
    ) -> Result<DomainLoss, Error> {
        let (mut nll, mut labels, mut row) = (0.0, 0, 0);
        while row < domain.data.rows() {
            domain.data.fill(row, self.micro_batch_size, self.batch.as_mut())?;
            fill_inputs(&mut self.pass, &self.batch, 1.0, 0.0);
            let run = Run { cpu, layout: model.layout(), weights, grads: None, cache: None };
            self.pass.program.run(run);
            let totals = self.pass.loss.totals(&self.pass.program);
            nll += totals.nll_sum;
            labels += totals.label_tokens;
            row += self.micro_batch_size as u64;
        }
        Ok(DomainLoss {
            name: domain.name.clone(),
            loss: nll / labels.max(1) as f64,
            bits_per_byte: nll / std::f64::consts::LN_2 / domain.label_bytes.max(1) as f64,
            label_tokens: labels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_data::document::Document;
    use smolt_data::tokenize::{DocumentOptions, TextEncoder, tokenize_documents};
    use smolt_text::tokenizer::{TrainSettings, train};

    /// Ends of documents are predicted, but are no text that bits could be per byte of.
    #[test]
    fn a_label_has_the_bytes_of_its_text() {
        let texts = ["the cat sat on the mat", "Zoë's cat", "a <|endoftext|> in the text"];
        let settings = TrainSettings { vocab_size: 384, ..TrainSettings::default() };
        let tokenizer = train(texts.map(str::to_owned).into_iter(), &settings).unwrap().tokenizer;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held-out.ds");
        let encode = |text: &str| Ok(tokenizer.encode_ordinary(text));
        let encoder = TextEncoder {
            tokenizer_hash: tokenizer.hash().to_owned(),
            vocab_size: tokenizer.vocab_size() as u32,
            encode: &encode,
        };
        let options = DocumentOptions { eos_token_id: 0, bos_token_id: None, seed: 0, threads: 1 };
        let documents = texts.map(|text| Ok(Document { text: text.into(), ..Document::default() }));
        tokenize_documents(documents.into_iter(), &encoder, options, &path).unwrap();
        let layout = Layout {
            sequence_length: 8,
            vocab_size: tokenizer.vocab_size() as u32,
            document_masking: true,
            reset_positions: true,
        };
        let domain = Domain::open("held out", &path, layout, &tokenizer).unwrap();
        let bytes_of = |id: u32| tokenizer.token_bytes(id).len();
        let first = |text: &str| bytes_of(tokenizer.encode_ordinary(text)[0]);
        let predicted: usize = texts.iter().map(|text| text.len() - first(text)).sum();
        assert_eq!(domain.label_bytes, predicted as u64);
    }
}
