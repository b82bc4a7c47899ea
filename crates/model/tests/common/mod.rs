//! What the golden tests share: the fixtures of tests/golden and how to compare with them.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use smolt_arch::ModelConfig;
use smolt_arch::settings::Model;
use smolt_model::folder::Loaded;
use smolt_model::safetensors::File;
use smolt_model::transformer::LossPass;
use smolt_run::recipe::Document;
use smolt_tensor::Cpu;
use smolt_tensor::tape::Run;
use std::path::{Path, PathBuf};

pub const NO_LABEL: u32 = u32::MAX;

/// The recipes of recipes/toy, by name.
pub fn toy_recipes() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/toy");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml") && !file.ends_with("data.toml"));
    files.sort();
    assert!(files.len() > 35, "{files:?}");
    files.into_iter().map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), file)).collect()
}

/// A toy in small, with whatever makes it what it is.
pub fn shrink(toy: &mut Model) {
    (toy.hidden_size, toy.num_hidden_layers, toy.intermediate_size) = (48, 3, 64);
    if let Some(moe) = &mut toy.moe {
        // Where an expert is as wide as the MLP, the type has one field for both.
        moe.moe_intermediate_size = 64;
    }
    for window in [&mut toy.sliding_window, &mut toy.attention_chunk_size].into_iter().flatten() {
        *window = 7;
    }
    if let Some(scaling) = &mut toy.rope_scaling {
        scaling.original_max_position_embeddings = Some(16);
    }
}

/// Every toy, shrunk: its name and configuration, with `vocab_size` tokens and sequences of 64.
pub fn toys(vocab_size: usize) -> Vec<(String, ModelConfig)> {
    let read = |(name, file): (String, PathBuf)| {
        let mut toy: Model = Document::load(&file).unwrap().take("model").unwrap();
        shrink(&mut toy);
        (toy.vocab_size, toy.max_position_embeddings) = (Some(vocab_size), Some(64));
        toy.initializer_range = 0.2;
        let config = toy.config().unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, config)
    };
    toy_recipes().into_iter().map(read).collect()
}

/// `tests/golden/<name>`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A fixture file.
pub struct Fixture(File);

impl Fixture {
    pub fn open(name: &str) -> Fixture {
        Fixture(File::open(&golden(name).join("fixture.safetensors")).unwrap())
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let shape = self.0.shapes().remove(name).expect(name);
        let mut out = vec![0.0; shape.iter().product()];
        self.0.read_f32(name, &shape, &mut out).unwrap();
        out
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.0.read_i64(name).unwrap().into_iter().map(|id| id as u32).collect()
    }
}

/// Rows of a packed batch: documents laid one after another.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub tokens: Vec<u32>,
    pub labels: Vec<u32>,
    pub segments: Vec<u32>,
    pub positions: Vec<u32>,
}

impl Rows {
    /// Appends a document: `tokens` with the label of each.
    pub fn push(&mut self, tokens: &[u32], labels: &[u32]) {
        let start = self.tokens.len() as u32;
        self.tokens.extend_from_slice(tokens);
        self.labels.extend_from_slice(labels);
        self.segments.extend(tokens.iter().map(|_| start));
        self.positions.extend(0..tokens.len() as u32);
    }

    /// Appends a document whose tokens each predict the next one of it; the last predicts nothing.
    pub fn push_document(&mut self, tokens: &[u32]) {
        let labels: Vec<u32> = tokens[1..].iter().copied().chain([NO_LABEL]).collect();
        self.push(tokens, &labels);
    }

    pub fn label_count(&self) -> usize {
        self.labels.iter().filter(|&&l| l != NO_LABEL).count()
    }

    /// Fills the inputs of a pass; the scale makes gradients those of the mean loss.
    pub fn fill(&self, pass: &mut LossPass) {
        let p = &mut pass.program;
        p.input_mut::<u32>(pass.tokens).copy_from_slice(&self.tokens);
        p.input_mut::<u32>(pass.labels).copy_from_slice(&self.labels);
        p.input_mut::<u32>(pass.segments).copy_from_slice(&self.segments);
        p.input_mut::<u32>(pass.positions).copy_from_slice(&self.positions);
        p.input_mut::<f32>(pass.scale)[0] = 1.0 / self.label_count() as f32;
        p.input_mut::<f32>(pass.share)[0] = 0.0;
    }

    /// Runs a pass on these rows; returns the mean loss.
    pub fn run(&self, pass: &mut LossPass, cpu: &Cpu, loaded: &Loaded, grads: Option<&mut [f32]>) -> f64 {
        self.fill(pass);
        let layout = loaded.model.layout();
        pass.program.run(Run { cpu, layout, weights: &loaded.weights, grads, cache: None });
        let totals = pass.loss.totals(&pass.program);
        assert_eq!(totals.label_tokens as usize, self.label_count());
        totals.nll_sum / totals.label_tokens as f64
    }
}

/// Numbers that look random and are the same everywhere, below `below`.
pub fn some_ids(seed: u64, len: usize, below: u32) -> Vec<u32> {
    let mut stream = smolt_run::random::Stream::new(seed, "test ids", 0);
    (0..len).map(|_| (stream.uniform() * f64::from(below)) as u32).collect()
}

/// max|a − b| / max|b|.
pub fn max_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let max = |x: f64, y: f64| if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) };
    let off = got.iter().zip(want).map(|(g, w)| f64::from((g - w).abs())).fold(0.0, max);
    off / want.iter().map(|w| f64::from(w.abs())).fold(1e-30, max)
}

/// ‖a − b‖ / ‖b‖.
pub fn l2_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |x: f64| x * x;
    let off: f64 = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - f64::from(w))).sum();
    (off / want.iter().map(|&w| square(w.into())).sum::<f64>().max(1e-30)).sqrt()
}

pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
