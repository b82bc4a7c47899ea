//! `smolt chat`

use crate::commands::generate::SamplingArgs;
use crate::device::DeviceArgs;
use crate::model_folder::{ModelFolder, RopeArgs};
use crate::{Outcome, output};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use smolt_infer::{Said, generate};
use smolt_run::error::Failure;
use smolt_tensor::gemm::Precision;
use smolt_text::template::Message;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    model: PathBuf,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    rope: RopeArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One line in, one answer out, until end of input. `/new` forgets the conversation.
pub(crate) fn run(args: Args) -> Outcome {
    let folder = ModelFolder::stretched(&args.model, &args.rope)?;
    let template = folder.template()?;
    let cpu = args.device.cpu()?;
    let capacity = folder.loaded.model.config().max_position_embeddings;
    let mut decoder = folder.decoder(&cpu, Precision::Fp32, 1, capacity);
    let settings = args.sampling.settings(folder.stop_tokens());
    let mut editor = DefaultEditor::new().map_err(|e| Failure::failed(format!("cannot read input: {e}")))?;
    if std::io::stdin().is_terminal() {
        output::line("Type a message. /new starts over, Ctrl-D ends.");
    }
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let text = match editor.readline("> ") {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => text,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(Failure::failed(format!("cannot read input: {error}"))),
        };
        if text.trim() == "/new" {
            messages.clear();
            continue;
        }
        let _ = editor.add_history_entry(&text);
        messages.push(Message::new("user", &text));
        let mut prompt = template.encode(&folder.tokenizer, &messages, true)?.ids;
        // The oldest exchange goes first when the conversation outgrows the context.
        while prompt.len() + settings.max_tokens > decoder.capacity() && messages.len() > 2 {
            messages.drain(..2);
            prompt = template.encode(&folder.tokenizer, &messages, true)?.ids;
        }
        let mut stream = folder.tokenizer.stream_decoder();
        let mut out = std::io::stdout().lock();
        let answer = generate(&mut decoder, &[prompt], &settings, |_, said| {
            if let Said::Token(token, _) = said {
                let _ = write!(out, "{}", stream.push(token));
                let _ = out.flush();
            }
            ControlFlow::Continue(())
        });
        drop(out);
        output::line(stream.finish());
        let answer = answer.map_err(|e| Failure::bad_input(e.to_string()))?;
        messages.push(Message::new("assistant", folder.tokenizer.decode(&answer[0].tokens, true)));
    }
}
