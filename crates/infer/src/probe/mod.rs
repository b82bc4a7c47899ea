//! What goes on inside a model while it reads: sizes of its values (spec STB-01, STB-02, STB-04), where attention goes (SCP-05,
//! STB-03), how experts share the work (MOE-09). For diagnosis: fp32, every attention weight by its definition, and a pass
//! that keeps its inner values, all of it away from what trains and generates.

mod attention;
mod experts;
mod needle;
mod reading;
mod statistics;
mod warnings;

pub use attention::{FEW, Looks, Mass};
pub use experts::{Experts, OverActivated};
pub use needle::{Found, NEEDLE_DEPTHS, Needle, Planted, needle};
pub use statistics::{Norms, Spread};
pub use warnings::warnings;

use attention::Tally;
use reading::Reading;
use smolt_arch::parameters::Slot;
use smolt_model::Transformer;
use smolt_tensor::Cpu;
use statistics::Rms;

/// Tokens that a text must have for its figures to say anything.
pub const FEWEST: usize = 16;

/// What is looked into.
#[derive(Clone, Copy)]
pub struct Subject<'m> {
    /// Threads and instruction set.
    pub cpu: &'m Cpu,
    /// The architecture.
    pub model: &'m Transformer,
    /// Flat weights.
    pub weights: &'m [f32],
}

/// Tokens of one kind of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// What reports call it.
    pub name: String,
    /// Documents, none empty; tokens see only their own.
    pub documents: Vec<Vec<u32>>,
}

impl Text {
    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(Vec::len).sum()
    }
}

/// Why a model cannot be looked into.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Too little to read.
    #[error("text {name:?} has {tokens} tokens; give at least {FEWEST}")]
    TooShort {
        /// Which.
        name: String,
        /// What it has.
        tokens: usize,
    },
    /// More than the model has positions for.
    #[error("a sequence of {needed} tokens is longer than the model's {longest}; ask for fewer tokens")]
    TooLong {
        /// Tokens of the sequence.
        needed: usize,
        /// Tokens there are positions for.
        longest: usize,
    },
    /// A token the model has no embedding for.
    #[error(
        "token {token} is beyond the model's vocabulary of {vocab_size}; model and tokenizer do not belong together"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// The vocabulary.
        vocab_size: usize,
    },
    /// Too little around the needle.
    #[error(
        "needle and question take {asked} of {tokens} tokens; give a text, and a number of tokens, of at least {needed}"
    )]
    NoHaystack {
        /// Tokens of needle and question.
        asked: usize,
        /// Tokens there are.
        tokens: usize,
        /// Tokens there should be.
        needed: usize,
    },
    /// Values that say nothing.
    #[error("{place} puts out what is not a number; the model's weights are damaged or it diverged")]
    NotANumber {
        /// Where it was first seen.
        place: String,
    },
}

/// All that was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each text.
    pub texts: Vec<TextReport>,
    /// log Z of all texts' labels, nats (STB-01).
    pub log_z: Spread,
    /// Rows of the embedding (STB-02, STB-04).
    pub embedding: Norms,
    /// Rows of the output head, where it is not the embedding.
    pub head: Option<Norms>,
    /// Root mean square of the residual stream before the first layer.
    pub embedded_rms: f64,
    /// Each layer, over all texts.
    pub layers: Vec<Layer>,
}

/// What was seen of a text.
#[derive(Clone, Debug)]
pub struct TextReport {
    /// Its name.
    pub name: String,
    /// Documents read.
    pub documents: usize,
    /// Tokens read.
    pub tokens: usize,
    /// Mean cross-entropy of each token after those of its document before it, nats.
    pub loss: f64,
    /// log Z of the same rows, nats.
    pub log_z: Spread,
}

/// What was seen of a layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Root mean square of the residual stream behind it (STB-04).
    pub stream_rms: f64,
    /// Of what its attention adds to the stream.
    pub attention_rms: f64,
    /// Of what its MLP or experts add to it.
    pub mlp_rms: f64,
    /// What its heads attend to.
    pub looks: Looks,
    /// Its experts, if it has any.
    pub experts: Option<Experts>,
}

/// Runs the model over the texts and says what it saw (spec STB-01, STB-02, STB-04, SCP-05, MOE-09).
///
/// # Errors
/// A text too short or too long, a token beyond the vocabulary, a model whose values are no numbers.
pub fn probe(subject: Subject<'_>, texts: &[Text]) -> Result<Report, Error> {
    let mut layers: Vec<LayerTally> =
        (0..subject.model.config().num_hidden_layers).map(|_| LayerTally::default()).collect();
    let (mut reports, mut log_z, mut embedded) = (Vec::new(), Vec::new(), Rms::default());
    for text in texts {
        if text.tokens() < FEWEST {
            return Err(Error::TooShort { name: text.name.clone(), tokens: text.tokens() });
        }
        let reading = Reading::of(subject, &text.documents)?;
        embedded.add(reading.values(reading.pass.embedded));
        for (layer, tally) in layers.iter_mut().enumerate() {
            tally.add(&reading, layer);
        }
        let predicted = reading.predictions()?;
        let losses: f64 = predicted.iter().map(|row| row.loss).sum();
        let of_text: Vec<f64> = predicted.iter().map(|row| row.log_z).collect();
        reports.push(TextReport {
            name: text.name.clone(),
            documents: text.documents.len(),
            tokens: text.tokens(),
            loss: losses / predicted.len().max(1) as f64,
            log_z: Spread::of(&of_text),
        });
        log_z.extend(of_text);
    }
    let rows = |slot: Slot| {
        let range = subject.model.range(slot)?;
        Some(Norms::of(&subject.weights[range], subject.model.config().hidden_size))
    };
    Ok(Report {
        texts: reports,
        log_z: Spread::of(&log_z),
        embedding: rows(Slot::Embedding).unwrap_or_default(),
        head: rows(Slot::Head),
        embedded_rms: embedded.value(),
        layers: layers.into_iter().map(LayerTally::report).collect(),
    })
}

/// What a probe of `n` tokens keeps of the decoder's inner values, in bytes.
pub fn kept_bytes(model: &Transformer, n: usize) -> u64 {
    let c = model.config();
    let (keys, values) = match &c.latent {
        Some(latent) => (
            2 * c.num_attention_heads * (latent.qk_nope_head_dim + latent.qk_rope_head_dim),
            latent.v_head_dim,
        ),
        None => ((c.num_attention_heads + c.num_key_value_heads) * c.head_dim, c.head_dim),
    };
    let qkv = keys + c.num_key_value_heads * values;
    4 * (c.num_hidden_layers as u64).saturating_mul(n as u64).saturating_mul((3 * c.hidden_size + qkv) as u64)
}

#[derive(Default)]
struct LayerTally {
    stream: Rms,
    attention: Rms,
    mlp: Rms,
    looks: Tally,
    experts: Option<Experts>,
}

impl LayerTally {
    fn add(&mut self, reading: &Reading<'_>, layer: usize) {
        let block = &reading.pass.blocks[layer];
        self.stream.add(reading.values(block.stream));
        self.attention.add(reading.values(block.attention_out));
        self.mlp.add(reading.values(block.mlp_out));
        self.looks.add(reading, block);
        if let Some(router) = reading.pass.routers.iter().find(|router| router.layer == layer) {
            self.experts.get_or_insert_with(Experts::default).add(reading, router);
        }
    }

    fn report(self) -> Layer {
        Layer {
            stream_rms: self.stream.value(),
            attention_rms: self.attention.value(),
            mlp_rms: self.mlp.value(),
            looks: self.looks.report(),
            experts: self.experts,
        }
    }
}
