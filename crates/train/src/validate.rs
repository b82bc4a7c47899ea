//! Validation: bits per byte of held-out text, per domain.

use crate::trainer::fill_inputs;
use smolt_data::Error;
use smolt_data::batch::Batch;
use smolt_data::validation::Validation;
use smolt_model::Transformer;
use smolt_model::transformer::LossPass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::Run;

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
    /// UTF-8 bytes of the tokens that are labels.
    pub label_bytes: u64,
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
