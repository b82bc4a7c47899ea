//! The loop over a run's folder: start or resume, train, validate, checkpoint, stop.

use crate::checkpoint::{self, Contents, State};
use crate::optimizer::{AdamW, Group};
use crate::recipe::{PrecisionSetting, Recompute, Train};
use crate::routing::LayerRouting;
use crate::trainer::{StepReport, Trainer};
use crate::validate::{Domain, DomainLoss, Validator};
use serde_json::{Map, Value, json};
use smolt_arch::ModelConfig;
use smolt_arch::parameters::Slot;
use smolt_data::batch::Loader;
use smolt_data::order::Plan;
use smolt_data::prefetch::Prefetcher;
use smolt_model::folder::Loaded;
use smolt_run::error::{Failure, FileError};
use smolt_run::folder::RunFolder;
use smolt_run::metrics::JsonlWriter;
use smolt_run::resources;
use smolt_run::signal::{self, Signal};
use smolt_run::tensorboard::EventWriter;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

mod data;
mod lock;

pub use data::open_loader;
use data::{layout, open_domains, open_sources};
use lock::{check_lock, keep_origin, keep_precision, write_lock};

/// Hears what happens; the command line draws it.
pub trait StepHook {
    /// Before the first step: what will be trained and from where.
    fn start(&mut self, _start: &Start) {}
    /// After each step.
    fn step(&mut self, _report: &StepReport) {}
    /// After each validation.
    fn validation(&mut self, _step: u64, _losses: &[DomainLoss]) {}
    /// After each checkpoint, before the next step; what it returns goes into the run's events. Nothing that happens here
    /// can change the training.
    fn checkpoint(&mut self, _step: u64, _folder: &Path) -> Vec<Event> {
        Vec::new()
    }
    /// On resume, before the next step: the checkpoint that is gone on from. The run may have been killed before
    /// [`StepHook::checkpoint`] had dealt with it, or even heard of it.
    fn resumed(&mut self, _step: u64, _folder: &Path) -> Vec<Event> {
        Vec::new()
    }
    /// Anything else worth a line.
    fn note(&mut self, _text: &str) {}
}

/// A line for `events.jsonl`.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened, in a word.
    pub name: &'static str,
    /// What there is to say about it.
    pub detail: Value,
}

/// What a run starts from.
#[derive(Clone, Debug)]
pub struct Start {
    /// Parameters.
    pub parameters: usize,
    /// Steps in all.
    pub train_steps: u64,
    /// Steps done already.
    pub step: u64,
    /// Parameter groups.
    pub groups: Vec<Group>,
    /// Predicted peak memory, bytes.
    pub predicted_memory: u64,
    /// Precision policy in words (spec MT-07).
    pub precision: &'static str,
    /// Instruction-set path.
    pub isa: String,
    /// Threads.
    pub threads: usize,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Steps done.
    pub step: u64,
    /// The signal that stopped it before its end, if one did.
    pub stopped: Option<Signal>,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// The last validation.
    pub validation: Vec<DomainLoss>,
    /// Tokens per second over the steps of this session.
    pub tokens_per_second: f64,
}

/// Where and how a recipe is run.
pub struct Options<'a> {
    /// The run's folder.
    pub out: &'a Path,
    /// Continue what the folder holds.
    pub resume: bool,
    /// On resume, stages that have not begun may differ from those the run was started with.
    pub change_stages: bool,
    /// Threads and instruction set.
    pub cpu: Cpu,
    /// The program's version and arguments, for `environment.json`.
    pub version: &'a str,
    /// See `version`.
    pub args: &'a [String],
}

struct Session<'a> {
    folder: RunFolder,
    recipe: Train,
    trainer: Trainer,
    loader: Arc<Loader>,
    domains: Vec<Domain>,
    validator: Option<Validator>,
    extras: Vec<PathBuf>,
    metrics: JsonlWriter,
    events: JsonlWriter,
    board: EventWriter,
    hook: &'a mut dyn StepHook,
}

/// Runs `recipe` (its paths absolute or relative to the working directory) in `options.out`.
pub fn run(mut recipe: Train, options: Options<'_>, hook: &mut dyn StepHook) -> Result<Summary, Failure> {
    let (isa, threads) = (options.cpu.isa, options.cpu.pool.threads());
    if recipe.model.from.is_none() && recipe.model.vocab_size.is_some() {
        // A shape the recipe gives in full is judged before any file is asked for.
        let mut planned = recipe.clone();
        planned.resolve(isa, 0);
        check_memory(&planned, &planned.model_config()?, threads)?;
    }
    let tokenizer_dir = PathBuf::from(&recipe.data.tokenizer);
    let tokenizer = Tokenizer::load(&tokenizer_dir.join("tokenizer.json"))?;
    let folder = RunFolder::create_or_resume(options.out, options.resume)?;
    keep_precision(&folder, &mut recipe)?;
    keep_origin(&folder, &mut recipe)?;
    recipe.resolve(isa, tokenizer.vocab_size());
    let changed = check_lock(&folder, &recipe, options.change_stages)?;

    // Nothing the size of the model is allocated before the model, its memory and its data were found fit.
    let begun = begun_model(&folder)?;
    let config = model_config(&recipe, &tokenizer, begun.as_ref())?;
    let predicted_memory = check_memory(&recipe, &config, threads)?;
    let layout = layout(&recipe, &config)?;
    let loader = Arc::new(open_sources(&recipe, layout, &tokenizer)?);
    let domains = open_domains(&recipe, layout, &tokenizer)?;
    let precision = recipe.train.precision.resolve(isa);
    let policy = recipe.policy(precision)?;
    let loaded = match begun {
        // Its own checkpoint has the weights; what it came from may be gone.
        Some(_) => Loaded::blank(config),
        None => load_model(&recipe, config)?,
    };
    let optimizer = AdamW::new(recipe.optimizer.clone(), &loaded.model);
    let trainer = Trainer::new(options.cpu, loaded.model, loaded.weights, optimizer, policy);
    let validator = (!domains.is_empty()).then(|| {
        let t = &recipe.train;
        Validator::new(&trainer.model, t.micro_batch_size, t.sequence_length, precision)
    });
    let extras = companions(&tokenizer_dir);
    // Not before everything was found fit, so that a recipe that was refused can be mended and run in the same folder.
    // One that changes stages is written once the checkpoint was found to agree with what has begun.
    write_lock(&folder, &recipe, false)?;
    folder.write_environment(options.version, options.args)?;
    let change = options.change_stages.then_some(changed);
    let (trainer, metrics, events) = restore(&folder, &recipe, trainer, &loader, change, hook)?;
    if trainer.step == 0 {
        let samples = recipe.train.train_steps.saturating_mul(recipe.train.global_batch_size as u64);
        Plan::of(loader.mixture(), samples).warnings().iter().for_each(|warning| hook.note(warning));
    }
    let board = EventWriter::create(&folder.join("tensorboard"), trainer.step + 1, now())?;
    hook.start(&Start {
        parameters: trainer.model.layout().count(),
        train_steps: recipe.train.train_steps,
        step: trainer.step,
        groups: trainer.optimizer.table(&trainer.model),
        predicted_memory,
        precision: precision_policy(precision),
        isa: trainer.cpu.isa.to_string(),
        threads: trainer.cpu.pool.threads(),
    });
    Session { folder, recipe, trainer, loader, domains, validator, extras, metrics, events, board, hook }
        .train()
}

impl Session<'_> {
    fn train(mut self) -> Result<Summary, Failure> {
        let last = self.recipe.train.train_steps;
        let (mut tokens, mut seconds) = (0, 0.0);
        let mut validation = Vec::new();
        let mut checkpoint = None;
        self.tell_resumed()?;
        let mut stopped = signal::requested();
        let mut batches = self.prefetch()?;
        while self.trainer.step < last && stopped.is_none() {
            self.tell_stage()?;
            let (batch, wait) = batches.next_batch()?;
            let mut report = self.trainer.train_step(batch).map_err(|e| Failure::failed(e.to_string()))?;
            report.data_wait_seconds = wait.as_secs_f64();
            report.seconds += report.data_wait_seconds;
            tokens += report.tokens;
            seconds += report.seconds;
            let step = report.step;
            let mut losses = Vec::new();
            if step == last || every(step, self.recipe.train.validation_interval) {
                losses = self.validate()?;
            }
            self.record(&report, &losses)?;
            if !losses.is_empty() {
                validation = losses;
            }
            stopped = signal::requested();
            if stopped.is_some() || self.is_due(step) {
                let path = self.checkpoint()?;
                // Whoever asked to stop wants the machine back.
                if stopped.is_none() {
                    for event in self.hook.checkpoint(step, &path) {
                        self.event(event.name, event.detail)?;
                    }
                }
                checkpoint = Some(path);
                stopped = stopped.or_else(signal::requested);
            }
        }
        if let Some(signal) = stopped {
            self.event("stop", json!({"signal": signal.name()}))?;
        }
        let checkpoint = match checkpoint {
            Some(path) => path,
            // Nothing was left to do: the newest checkpoint is the result; a run stopped before its first step has none.
            None => match checkpoint::newest(self.folder.path()).map_err(failed)?.0 {
                Some((path, _)) => path,
                None => self.checkpoint()?,
            },
        };
        let tokens_per_second = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        Ok(Summary { step: self.trainer.step, stopped, checkpoint, validation, tokens_per_second })
    }

    /// Whether a run that nobody stops writes a checkpoint after this step.
    fn is_due(&self, step: u64) -> bool {
        let t = &self.recipe.train;
        step == t.train_steps || every(step, t.checkpoint_interval)
    }

    /// Tells of the checkpoint that is gone on from, unless only a signal made it: of that an undisturbed run never tells.
    fn tell_resumed(&mut self) -> Result<(), Failure> {
        let step = self.trainer.step;
        if step > 0 && self.is_due(step) {
            let path = checkpoint::folder_of(self.folder.path(), step);
            for event in self.hook.resumed(step, &path) {
                self.event(event.name, event.detail)?;
            }
        }
        Ok(())
    }

    /// Reads the batches of the steps that are left, one step ahead.
    fn prefetch(&self) -> Result<Prefetcher, Failure> {
        let t = &self.recipe.train;
        let (rows, leaves) = (t.micro_batch_size, t.global_batch_size / t.micro_batch_size);
        let steps = t.train_steps.saturating_sub(self.trainer.step);
        Ok(Prefetcher::start(Arc::clone(&self.loader), leaves, rows, self.trainer.next_sample(), steps)?)
    }

    /// At the first step of a stage after the first, says so.
    fn tell_stage(&mut self) -> Result<(), Failure> {
        let (loader, first) = (Arc::clone(&self.loader), self.trainer.next_sample());
        match loader.mixture().stages().skip(1).find(|stage| stage.first_sample == first) {
            Some(stage) => {
                let step = self.trainer.step + 1;
                self.hook.note(&format!("step {step}: stage \"{}\" begins", stage.name));
                self.event("stage", json!({"step": step, "name": stage.name}))
            }
            None => Ok(()),
        }
    }

    fn validate(&mut self) -> Result<Vec<DomainLoss>, Failure> {
        let Some(validator) = &mut self.validator else { return Ok(Vec::new()) };
        let t = &self.trainer;
        let losses: Result<Vec<_>, _> =
            self.domains.iter().map(|d| validator.run(&t.cpu, &t.model, &t.weights, d)).collect();
        let losses = losses?;
        self.hook.validation(self.trainer.step, &losses);
        Ok(losses)
    }

    fn record(&mut self, r: &StepReport, losses: &[DomainLoss]) -> Result<(), Failure> {
        let tokens_per_second = r.tokens as f64 / r.seconds.max(1e-9);
        let mut line = Map::new();
        let mut scalars: Vec<(String, f64)> = Vec::new();
        line.insert("step".into(), r.step.into());
        line.insert("tokens".into(), (r.tokens * r.step).into());
        line.insert("label_tokens".into(), r.label_tokens.into());
        for (name, value) in [
            ("loss", r.loss),
            ("grad_norm", r.grad_norm),
            ("learning_rate", r.learning_rate),
            ("accuracy", r.accuracy),
            ("log_z", r.log_z),
            ("log_z_squared", r.z),
            ("tokens_per_second", tokens_per_second),
            ("data_wait_ms", 1e3 * r.data_wait_seconds),
        ] {
            line.insert(name.into(), value.into());
            scalars.push((format!("train/{name}"), value));
        }
        if let Some(routing) = r.routing {
            let of = [
                ("max_load", routing.max_load),
                ("dead_experts", routing.dead_experts as f64),
                ("entropy", routing.entropy),
                ("aux_loss", routing.aux_loss),
                ("z_loss", routing.z_loss),
            ];
            let mut map: Map<String, Value> =
                of.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect();
            map.insert("layers".into(), by_layer(self.trainer.routing()));
            line.insert("routing".into(), Value::Object(map));
            scalars.extend(of.iter().map(|(name, value)| (format!("routing/{name}"), *value)));
        }
        if !losses.is_empty() {
            for (name, slot) in [("embedding_rms", Slot::Embedding), ("head_rms", Slot::Head)] {
                let Some(rms) = self.trainer.rms(slot) else { continue };
                line.insert(name.into(), rms.into());
                scalars.push((format!("train/{name}"), rms));
            }
            let map: Map<String, Value> =
                losses.iter().map(|l| (l.name.clone(), l.bits_per_byte.into())).collect();
            line.insert("validation_bits_per_byte".into(), Value::Object(map));
            scalars.extend(losses.iter().map(|l| (format!("bits_per_byte/{}", l.name), l.bits_per_byte)));
        }
        self.metrics.write(&line)?;
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.board.scalars(r.step, now(), &scalars)?;
        self.hook.step(r);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<PathBuf, Failure> {
        // A step in a checkpoint must be in the log: the log reaches the disk first.
        self.metrics.sync()?;
        self.board.sync()?;
        let t = &self.trainer;
        let data_manifest = self.loader.manifest_hash(u64::MAX);
        let begun = self.loader.manifest_hash(t.next_sample());
        let state = State {
            format_version: checkpoint::FORMAT_VERSION,
            step: t.step,
            next_sample: t.next_sample(),
            seed: self.recipe.seed,
            data_begun: (begun != data_manifest).then_some(begun),
            data_manifest,
            precision: self.recipe.train.precision.to_string(),
            isa: t.cpu.isa.to_string(),
        };
        let contents = Contents {
            model: &t.model,
            weights: &t.weights,
            m: &t.optimizer.m,
            v: &t.optimizer.v,
            state: &state,
            extras: &self.extras,
        };
        let path = checkpoint::save(self.folder.path(), &contents).map_err(failed)?;
        self.event("checkpoint", json!({"step": state.step}))?;
        let detail = data::consumption(&self.loader, state.next_sample);
        self.event("data", json!({"step": state.step, "consumed": detail}))?;
        checkpoint::prune(self.folder.path(), self.recipe.train.checkpoints_kept, state.step)
            .map_err(failed)?;
        Ok(path)
    }

    fn event(&mut self, name: &str, detail: Value) -> Result<(), Failure> {
        Ok(write_event(&mut self.events, name, detail)?)
    }
}

/// How experts were used, one list per figure.
fn by_layer(layers: impl Iterator<Item = LayerRouting>) -> Value {
    let layers: Vec<LayerRouting> = layers.collect();
    let each = |of: fn(&LayerRouting) -> Value| layers.iter().map(of).collect::<Vec<_>>();
    json!({
        "layer": each(|l| l.layer.into()),
        "max_load": each(|l| l.max_load.into()),
        "dead_experts": each(|l| l.dead_experts.into()),
        "entropy": each(|l| l.entropy.into()),
    })
}

fn every(step: u64, interval: u64) -> bool {
    interval > 0 && step.is_multiple_of(interval)
}

fn write_event(events: &mut JsonlWriter, name: &str, detail: Value) -> Result<(), FileError> {
    events.write(&json!({"time": now(), "event": name, "detail": detail}))
}

fn failed(error: checkpoint::Error) -> Failure {
    Failure::failed(error.to_string())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64()).unwrap_or_default()
}

/// The configuration in the newest checkpoint of a run that has begun.
fn begun_model(folder: &RunFolder) -> Result<Option<ModelConfig>, Failure> {
    let found = checkpoint::list(folder.path()).map_err(failed)?;
    Ok(found.iter().rev().find_map(|(_, path)| ModelConfig::load(&path.join("config.json")).ok()))
}

/// The configuration to train; tokens that end texts and fill batches are the tokenizer's. A model that the run came from
/// is asked only before it has `begun`.
fn model_config(
    recipe: &Train,
    tokenizer: &Tokenizer,
    begun: Option<&ModelConfig>,
) -> Result<ModelConfig, Failure> {
    let mut config = match begun {
        Some(config) if recipe.model.from.is_some() => config.clone(),
        _ => recipe.model_config()?,
    };
    let (model, tokens) = (config.vocab_size, tokenizer.vocab_size());
    if tokens > model {
        return Err(Failure::bad_input(format!(
            "{}: the tokenizer has {tokens} tokens, the model {model}; leave model.vocab_size out, or continue a \
             model with its own tokenizer",
            recipe.data.tokenizer
        )));
    }
    let role = |name: &str| tokenizer.special_tokens_map().get(name).and_then(|t| tokenizer.token_to_id(t));
    config.eos_token_id = role("eos_token").into_iter().collect();
    config.pad_token_id = role("pad_token");
    config.bos_token_id = role("bos_token");
    Ok(config)
}

/// The weights to start from.
fn load_model(recipe: &Train, config: ModelConfig) -> Result<Loaded, Failure> {
    let Some(dir) = &recipe.model.from else { return Ok(Loaded::fresh(config, recipe.seed)) };
    let mut loaded = Loaded::load(Path::new(dir)).map_err(|e| Failure::bad_input(e.to_string()))?;
    loaded.model.set_config(|c| *c = config);
    Ok(loaded)
}

/// Files that make a checkpoint a complete Hugging Face folder.
fn companions(tokenizer_dir: &Path) -> Vec<PathBuf> {
    let names = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "generation_config.json",
    ];
    names.iter().map(|name| tokenizer_dir.join(name)).filter(|path| path.exists()).collect()
}

/// Predicted peak memory; a run that cannot fit this machine's or its cgroup's limit is refused.
fn check_memory(recipe: &Train, config: &ModelConfig, threads: usize) -> Result<u64, Failure> {
    let t = &recipe.train;
    let predicted = smolt_arch::memory::training(config, &recipe.memory(threads)?).total();
    match resources::memory_limit() {
        Some(limit) if predicted > limit => Err(Failure::bad_input(format!(
            "this run needs about {:.1} GiB and {:.1} GiB are available; lower train.micro_batch_size ({}) or \
             train.sequence_length ({}), {}or choose a smaller model",
            predicted as f64 / (1u64 << 30) as f64,
            limit as f64 / (1u64 << 30) as f64,
            t.micro_batch_size,
            t.sequence_length,
            if t.recompute == Recompute::Block { "" } else { "set train.recompute = \"block\", " },
        ))),
        _ => Ok(predicted),
    }
}

fn precision_policy(precision: Precision) -> &'static str {
    match precision {
        Precision::Fp32 => "fp32 throughout",
        Precision::Bf16 => {
            "bf16 operands of products and saved activations; fp32 weights, gradients, optimiser state, \
             residual stream, statistics, softmax and loss"
        }
    }
}

/// Refuses other data than the run was started with; with `change_stages`, other data than it has seen.
fn check_data(loader: &Loader, state: &State, change_stages: bool) -> Result<(), Failure> {
    let Err(changed) = loader.check_manifest(&state.data_manifest, u64::MAX) else { return Ok(()) };
    let begun = state.data_begun.as_ref().unwrap_or(&state.data_manifest);
    match loader.check_manifest(begun, state.next_sample) {
        Ok(()) if change_stages => Ok(()),
        Ok(()) => Err(Failure::bad_input(format!(
            "{changed}; only data of stages that have not begun differ: if that is meant, say --change-stages"
        ))),
        Err(_) => Err(changed.into()),
    }
}

/// Brings the trainer to the newest whole checkpoint of a resumed run, and the logs to the same step.
fn restore(
    folder: &RunFolder,
    recipe: &Train,
    mut trainer: Trainer,
    loader: &Loader,
    change_stages: Option<Option<Value>>,
    hook: &mut dyn StepHook,
) -> Result<(Trainer, JsonlWriter, JsonlWriter), Failure> {
    let mut events = JsonlWriter::append(&folder.join("events.jsonl"))?;
    let (found, damaged) = checkpoint::newest(folder.path()).map_err(failed)?;
    for damage in &damaged {
        let text = format!("passed over a damaged checkpoint: {damage}");
        hook.note(&text);
        write_event(&mut events, "damaged", json!({"reason": damage.to_string()}))?;
    }
    if let Some((path, state)) = found {
        check_data(loader, &state, change_stages.is_some())?;
        let precision: Result<PrecisionSetting, _> = state.precision.parse();
        if precision.ok() != Some(recipe.train.precision) {
            return Err(Failure::bad_input(format!(
                "{}: written with precision {}, the recipe now says {}; set train.precision back",
                path.display(),
                state.precision,
                recipe.train.precision
            )));
        }
        if state.isa != trainer.cpu.isa.to_string() {
            hook.note(&format!(
                "the checkpoint was computed on {}, this machine runs {}: the run goes on, its bits will differ",
                state.isa, trainer.cpu.isa
            ));
        }
        let (m, v) = (&mut trainer.optimizer.m, &mut trainer.optimizer.v);
        checkpoint::restore(&path, &trainer.model, &mut trainer.weights, m, v).map_err(failed)?;
        trainer.step = state.step;
        hook.note(&format!("resumed from {}", path.display()));
        write_event(&mut events, "resume", json!({"step": state.step}))?;
        if let Some(was) = change_stages.flatten() {
            write_event(&mut events, "stages", json!({"step": state.step, "was": was}))?;
            write_lock(folder, recipe, true)?;
        }
    } else {
        if !damaged.is_empty() {
            return Err(Failure::bad_input(format!(
                "{}: no whole checkpoint is left to resume from; choose another --out to start over",
                folder.path().display()
            )));
        }
        write_event(&mut events, "start", json!({"parameters": trainer.model.layout().count()}))?;
        if change_stages.flatten().is_some() {
            write_lock(folder, recipe, true)?;
        }
    }
    let metrics = JsonlWriter::open_at(&folder.join("metrics.jsonl"), "step", trainer.step)?;
    Ok((trainer, metrics, events))
}
