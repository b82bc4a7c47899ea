//! A small world to train on: a tokenizer, a shard and a recipe in a temporary folder.

use smolt_data::shard::{ShardInfo, ShardWriter};
use smolt_run::error::Failure;
use smolt_run::random::Stream;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_text::tokenizer::{SpecialRoles, Tokenizer, TrainSettings, save, train};
use smolt_train::recipe::Train;
use smolt_train::session::{self, Options, StepHook, Summary};
use std::path::{Path, PathBuf};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

/// What a session said.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Vec<String>);

impl StepHook for Notes {
    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn stories(seed: u64, count: u64) -> Vec<String> {
    let words =
        ["river", "stone", "walks", "sees", "the", "a", "old", "blue", "boat", "and", "sleeps", "12", "7"];
    let story = |i| {
        let mut stream = Stream::new(seed, "stories", i);
        let mut word = || words[(stream.uniform() * words.len() as f64) as usize];
        let length = 3 + i % 40;
        (0..length).map(|_| word()).collect::<Vec<_>>().join(" ") + "."
    };
    (0..count).map(story).collect()
}

impl World {
    pub(crate) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let settings = TrainSettings { vocab_size: 384, ..TrainSettings::default() };
        let trained = train(stories(1, 200).into_iter(), &settings).unwrap();
        let folder = dir.path().join("tokenizer");
        std::fs::create_dir(&folder).unwrap();
        save(&folder, &trained.tokenizer, &SpecialRoles::pretrained(), None).unwrap();
        let world = World { dir };
        world.write_shard("train", 1, 200);
        world.write_shard("held-out", 2, 20);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_shard(&self, name: &str, seed: u64, count: u64) {
        let tokenizer = Tokenizer::load(&self.path("tokenizer").join("tokenizer.json")).unwrap();
        let eos = tokenizer.token_to_id("<|endoftext|>").unwrap();
        let info = ShardInfo {
            tokenizer_hash: Some(tokenizer.hash().to_owned()),
            vocab_size: tokenizer.vocab_size() as u32,
            eos_token_id: Some(eos),
            bos_token_id: None,
            pad_token_id: None,
            chunk_length: None,
            with_loss: false,
        };
        let mut writer = ShardWriter::create(&self.path(&format!("{name}.ds")), info).unwrap();
        for story in stories(seed, count) {
            let mut ids = tokenizer.encode_ordinary(&story);
            ids.push(eos);
            writer.write_document(&ids, None).unwrap();
        }
        writer.finish(None).unwrap();
    }

    /// Twelve steps with a checkpoint after every third.
    pub(crate) fn recipe(&self, sets: &[&str]) -> Train {
        let text = r#"
            seed = 7
            [model]
            hidden_size = 32
            intermediate_size = 48
            num_hidden_layers = 2
            num_attention_heads = 4
            num_key_value_heads = 2
            no_rope_layer_interval = 2
            [data]
            tokenizer = "tokenizer"
            sources = [{ name = "stories", path = "train.ds" }]
            validation = [{ name = "held out", path = "held-out.ds" }]
            [schedule]
            warmup_steps = 2
            decay_steps = 4
            [train]
            train_steps = 12
            sequence_length = 32
            global_batch_size = 4
            micro_batch_size = 1
            precision = "fp32"
            z_loss = 1e-4
            checkpoint_interval = 3
            checkpoints_kept = 0
            validation_interval = 4
        "#;
        let path = self.path("recipe.toml");
        std::fs::write(&path, text).unwrap();
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        let mut recipe: Train = recipe::load(&path, &sets).unwrap();
        recipe.anchor(self.dir.path());
        recipe
    }

    /// Runs a recipe in the folder `out`; also what was noted.
    pub(crate) fn run(
        &self,
        recipe: Train,
        out: &str,
        resume: bool,
        cpu: Cpu,
    ) -> (Result<Summary, Failure>, Vec<String>) {
        self.run_with(recipe, out, resume, false, cpu)
    }

    /// The same; on resume, stages that have not begun may have changed.
    pub(crate) fn run_with(
        &self,
        recipe: Train,
        out: &str,
        resume: bool,
        change_stages: bool,
        cpu: Cpu,
    ) -> (Result<Summary, Failure>, Vec<String>) {
        let mut notes = Notes::default();
        let out = self.path(out);
        let options = Options { out: &out, resume, change_stages, cpu, version: "test", args: &[] };
        (session::run(recipe, options, &mut notes), notes.0)
    }

    /// The folder a kill would have left behind `run` after the checkpoint of `step`: metrics run ahead of it, and
    /// their last line is torn.
    pub(crate) fn killed(&self, run: &str, step: u64, to: &str) -> PathBuf {
        let to = self.path(to);
        let _ = std::fs::remove_dir_all(&to);
        copy(&self.path(run), &to);
        for later in (step + 1)..=12 {
            let _ = std::fs::remove_dir_all(to.join(format!("checkpoints/step-{later}")));
        }
        let metrics = std::fs::read_to_string(to.join("metrics.jsonl")).unwrap();
        let kept: Vec<&str> = metrics.lines().take(step as usize + 1).collect();
        std::fs::write(to.join("metrics.jsonl"), kept.join("\n") + "\n{\"format_version\":1,\"st").unwrap();
        to
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}
