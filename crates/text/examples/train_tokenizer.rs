//! Trains a 32k byte-level BPE on text files, one document a line; for `bench/peers/tokenizer.py`.
//!
//! usage: train_tokenizer OUT.json VOCAB DIGITS FILE…

use smolt_text::tokenizer::{TrainSettings, train};
use std::io::{BufRead, BufReader};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: train_tokenizer OUT.json VOCAB DIGITS FILE…");
    let (out, vocab_size, digits) = (next()?, next()?.parse()?, next()?.parse()?);
    let settings = TrainSettings {
        vocab_size,
        digits,
        special_tokens: vec!["<|endoftext|>".into()],
        ..TrainSettings::default()
    };
    let files: Vec<String> = std::iter::from_fn(|| next().ok()).collect();
    let lines =
        files.iter().flat_map(|file| std::fs::File::open(file).map(BufReader::new)).flat_map(BufRead::lines);
    let trained = train(lines.map_while(Result::ok), &settings)?;
    println!("{}", trained.report);
    Ok(std::fs::write(out, trained.tokenizer.json())?)
}
