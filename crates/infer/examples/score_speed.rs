//! How fast questions are scored, with what their prompts share computed once and without, beside a full forward pass
//! over packed sequences of the same model.
//!
//! `cargo run --release -p smolt-infer --example score_speed -- --questions 200 --prefix 600 --question 60`
//!
//! Options, each with a number: `--questions`, `--prefix` (tokens that all prompts begin with), `--question` (tokens of
//! each prompt after them), `--choices`, `--choice` (tokens of each), `--slots`, `--threads`, `--bf16` (0 or 1),
//! `--rolling` (tokens of a text to score by windows), and of the model `--dim`, `--layers`, `--ffn`, `--heads`,
//! `--kv-heads`, `--vocab`; or `--model FOLDER`.
//!
//! Examples are built with the checks of tests: scratch memory is filled before each use, which all figures pay alike.

use smolt_arch::{ModelConfig, ModelType};
use smolt_infer::{Choice, Decoder, Question, Reuse, rolling, score};
use smolt_model::folder::Loaded;
use smolt_run::random::Stream;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::Run;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// Numbers by option.
struct Options {
    values: BTreeMap<&'static str, usize>,
    model: Option<String>,
}

impl Options {
    fn read(args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
        let defaults = [
            ("--questions", 200),
            ("--prefix", 600),
            ("--question", 60),
            ("--choices", 4),
            ("--choice", 1),
            ("--slots", 64),
            ("--threads", std::thread::available_parallelism().map_or(1, usize::from)),
            ("--bf16", 0),
            ("--rolling", 0),
            ("--dim", 256),
            ("--layers", 6),
            ("--ffn", 704),
            ("--heads", 4),
            ("--kv-heads", 2),
            ("--vocab", 16384),
        ];
        let mut options = Options { values: defaults.into(), model: None };
        let mut args = args;
        while let Some(name) = args.next() {
            let value = args.next().ok_or(format!("{name} needs a value"))?;
            if name == "--model" {
                options.model = Some(value);
                continue;
            }
            let known = options.values.iter_mut().find(|(known, _)| **known == name);
            *known.ok_or(format!("{name} is no option; see the head of this example"))?.1 =
                value.parse().map_err(|e| format!("{name} {value}: {e}"))?;
        }
        Ok(options)
    }

    fn get(&self, name: &str) -> usize {
        self.values.get(name).copied().unwrap_or(0)
    }

    fn model(&self) -> Result<Loaded, Box<dyn Error>> {
        if let Some(folder) = &self.model {
            return Ok(Loaded::load(Path::new(folder))?);
        }
        let mut config = ModelConfig {
            hidden_size: self.get("--dim"),
            intermediate_size: self.get("--ffn"),
            num_hidden_layers: self.get("--layers"),
            num_attention_heads: self.get("--heads"),
            num_key_value_heads: self.get("--kv-heads"),
            head_dim: self.get("--dim") / self.get("--heads").max(1),
            vocab_size: self.get("--vocab"),
            max_position_embeddings: 8192,
            tie_word_embeddings: true,
            ..ModelConfig::of(ModelType::Llama)
        };
        config.set_no_rope_layer_interval(0);
        config.validate()?;
        Ok(Loaded::fresh(config, 0))
    }

    fn questions(&self, vocab: usize) -> Vec<Question> {
        let ids = |name: &str, i: usize, len: usize| -> Vec<u32> {
            let mut stream = Stream::new(0, name, i as u64);
            (0..len).map(|_| stream.below(vocab as u64) as u32).collect()
        };
        let prefix = ids("prefix", 0, self.get("--prefix"));
        let (choices, choice) = (self.get("--choices"), self.get("--choice"));
        let question = |i: usize| Question {
            prompt: [prefix.as_slice(), &ids("question", i, self.get("--question").max(1))].concat(),
            choices: (0..choices).map(|c| ids("choice", i * choices + c, choice.max(1))).collect(),
        };
        (0..self.get("--questions")).map(question).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::read(std::env::args().skip(1))?;
    let loaded = options.model()?;
    let cpu = Cpu::new(options.get("--threads"))?;
    let precision = if options.get("--bf16") == 0 { Precision::Fp32 } else { Precision::Bf16 };
    let vocab = loaded.model.config().vocab_size;
    println!(
        "{} parameters, {precision:?}, {} threads, {}",
        loaded.model.layout().count(),
        cpu.pool.threads(),
        cpu.isa
    );
    let questions = options.questions(vocab);
    let room = questions.iter().map(Question::room).max().unwrap_or(1);
    full_pass(&loaded, &cpu, precision, room.clamp(64, 1024));
    let mut answers = Vec::new();
    for reuse in [Reuse::Prefix, Reuse::None] {
        let mut decoder =
            Decoder::new(&cpu, &loaded.model, &loaded.weights, precision, options.get("--slots"), room);
        decoder.reuse = reuse;
        answers.push(timed(&mut decoder, &questions)?);
    }
    let same = answers[0].iter().flatten().zip(answers[1].iter().flatten());
    println!(
        "the same bits: {}",
        same.clone().all(|(a, b)| a.log_likelihood.to_bits() == b.log_likelihood.to_bits())
    );
    let length = options.get("--rolling");
    if length > 0 {
        let slots = options.get("--slots").min(8);
        let mut decoder = Decoder::new(&cpu, &loaded.model, &loaded.weights, precision, slots, 1024);
        let mut stream = Stream::new(0, "text", 0);
        let text = (0..length).map(|_| stream.below(vocab as u64) as u32).collect();
        let start = Instant::now();
        rolling(&mut decoder, 0, &[text], |_| {})?;
        println!("rolling: {length} tokens at {:.0} tokens/s", length as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn timed(decoder: &mut Decoder<'_>, questions: &[Question]) -> Result<Vec<Vec<Choice>>, Box<dyn Error>> {
    let start = Instant::now();
    let answers = score(decoder, questions, |_, _| {})?;
    let seconds = start.elapsed().as_secs_f64();
    let asked: usize =
        questions.iter().map(|q| q.prompt.len() + q.choices.iter().map(|c| c.len() - 1).sum::<usize>()).sum();
    println!(
        "{:?}: {seconds:.2} s, {:.1} questions/s, {:.0} tokens/s asked, {} computed at {:.0} tokens/s",
        decoder.reuse,
        questions.len() as f64 / seconds,
        asked as f64 / seconds,
        decoder.rows_fed(),
        decoder.rows_fed() as f64 / seconds
    );
    Ok(answers)
}

/// The pass that validation runs, loss of every token included, over sequences of `length`.
fn full_pass(loaded: &Loaded, cpu: &Cpu, precision: Precision, length: usize) {
    let n = 4096 / length * length;
    let mut pass = loaded.model.loss_pass(n, precision, 0.0, false);
    let program = &mut pass.program;
    let mut stream = Stream::new(0, "full pass", 0);
    for var in [pass.tokens, pass.labels] {
        let vocab = loaded.model.config().vocab_size as u64;
        program.input_mut::<u32>(var).iter_mut().for_each(|t| *t = stream.below(vocab) as u32);
    }
    for row in 0..n {
        program.input_mut::<u32>(pass.segments)[row] = (row / length * length) as u32;
        program.input_mut::<u32>(pass.positions)[row] = (row % length) as u32;
    }
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        let (layout, weights) = (loaded.model.layout(), loaded.weights.as_slice());
        program.run(Run { cpu, layout, weights, grads: None, cache: None });
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("full pass: {:.0} tokens/s, {n} in sequences of {length}, every token's loss", n as f64 / best);
}
