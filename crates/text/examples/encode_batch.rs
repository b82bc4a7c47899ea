//! Encodes the paragraphs of text files in one batch; for `bench/peers/tokenizer.py`.
//!
//! usage: encode_batch TOKENIZER.json FILE…    prints seconds (the best of three), a checksum of the ids, tokens

use smolt_text::tokenizer::Tokenizer;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: encode_batch TOKENIZER.json FILE…")?;
    let tokenizer = Tokenizer::load(Path::new(&path))?;
    let files: Vec<String> = args.map(std::fs::read_to_string).collect::<Result<_, _>>()?;
    let texts: Vec<&str> = files.iter().flat_map(|text| text.split("\n\n")).collect();
    let mut best = f64::INFINITY;
    let mut all = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        all = tokenizer.encode_batch(&texts, false);
        best = best.min(start.elapsed().as_secs_f64());
    }
    // A checksum that Python computes as fast: each id times its place, modulo 2⁶⁴.
    let ids = || all.iter().flatten();
    let place = |i: usize| (i % 65_521 + 1) as u64;
    let sum = ids().enumerate().fold(0u64, |sum, (i, &id)| sum.wrapping_add(u64::from(id) * place(i)));
    println!("{best} {sum} {}", ids().count());
    Ok(())
}
