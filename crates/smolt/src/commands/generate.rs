//! `smolt generate`

use crate::device::DeviceArgs;
use crate::model_folder::{ModelFolder, RopeArgs};
use crate::{Outcome, args, output};
use serde_json::json;
use smolt_infer::sampling::Sampling;
use smolt_infer::{Decoder, Finish, Row, Said, Settings, generate};
use smolt_model::safetensors::{self, Store};
use smolt_run::error::Failure;
use smolt_tensor::gemm::Precision;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    #[arg(long)]
    model: PathBuf,
    /// Text to continue
    #[arg(long)]
    prompt: String,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Write the prompt's logits, `logits` [seq, vocab], as safetensors
    #[arg(long, value_name = "FILE")]
    dump_logits: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rope: RopeArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Flags of every command that samples.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SamplingArgs {
    /// Most tokens to generate
    #[arg(long, default_value_t = 128)]
    pub(crate) max_tokens: u32,
    /// 0 picks the likeliest token each time
    #[arg(long, default_value_t = 0.0, value_parser = args::temperature)]
    pub(crate) temperature: f64,
    /// Sample among the K likeliest tokens; 0 = all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Sample among the likeliest tokens with this total probability
    #[arg(long, default_value_t = 1.0, value_parser = args::share)]
    pub(crate) top_p: f64,
    /// Key of the random draws
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl SamplingArgs {
    pub(crate) fn settings(&self, stop: Vec<u32>) -> Settings {
        let sampling = Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p };
        Settings { max_tokens: self.max_tokens as usize, stop, sampling, seed: self.seed }
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    let folder = ModelFolder::stretched(&args.model, &args.rope)?;
    let cpu = args.device.cpu()?;
    let prompt = folder.tokenizer.encode(&args.prompt, true);
    if prompt.is_empty() {
        return Err(Failure::bad_input("--prompt: the text has no tokens; give at least one character"));
    }
    let capacity = prompt.len() + args.sampling.max_tokens as usize;
    let mut decoder = folder.decoder(&cpu, Precision::Fp32, 1, capacity);
    let bad = |e: smolt_infer::decoder::Error| Failure::bad_input(e.to_string());
    if let Some(file) = &args.dump_logits {
        dump_logits(&mut decoder, &prompt, file)?;
    }
    let settings = args.sampling.settings(folder.stop_tokens());
    let mut stream = folder.tokenizer.stream_decoder();
    let mut out = std::io::stdout().lock();
    let answer = generate(&mut decoder, std::slice::from_ref(&prompt), &settings, |_, said| {
        if let (Said::Token(token, _), false) = (said, args.json) {
            let _ = write!(out, "{}", stream.push(token));
            let _ = out.flush();
        }
        ControlFlow::Continue(())
    })
    .map_err(bad)?;
    drop(out);
    let tokens = &answer[0].tokens;
    if args.json {
        output::json(&json!({
            "prompt": args.prompt,
            "text": folder.tokenizer.decode(tokens, true),
            "prompt_tokens": prompt,
            "tokens": tokens,
            "stopped": answer[0].finish == Finish::Stop,
        }));
    } else {
        output::line(stream.finish());
    }
    Ok(ExitCode::SUCCESS)
}

fn dump_logits(decoder: &mut Decoder<'_>, prompt: &[u32], file: &Path) -> Result<(), Failure> {
    let rows: Vec<Row> = (0u32..)
        .zip(prompt)
        .map(|(position, &token)| Row { slot: 0, position, token, wanted: true })
        .collect();
    let vocab = decoder.vocab_size();
    let mut logits = vec![0.0; rows.len() * vocab];
    decoder
        .feed(&rows, |i, row| logits[i * vocab..][..vocab].copy_from_slice(row))
        .map_err(|e| Failure::bad_input(e.to_string()))?;
    safetensors::write(file, &[("logits", &[rows.len(), vocab], &logits, Store::F32)])
        .map_err(|e| Failure::failed(e.to_string()))
}
