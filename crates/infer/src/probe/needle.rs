//! Whether a model looks for what it was told far above (spec STB-03).

use super::attention::{FEW, Mass, seen};
use super::reading::Reading;
use super::{Error, Subject};
use smolt_model::transformer::Block;
use smolt_tensor::ops::attention::Weight;
use std::ops::Range;

/// Where the needle is planted, as shares of the haystack before it.
pub const NEEDLE_DEPTHS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Tokens of haystack that there must be for a depth to mean anything.
const FEWEST: usize = 32;

/// A sentence to be planted, and what asks for it at the end.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    /// What it is planted in.
    pub haystack: &'a [u32],
    /// What is planted.
    pub sentence: &'a [u32],
    /// What comes last: its last token is the one that has to look back.
    pub question: &'a [u32],
    /// Tokens of the whole sequence.
    pub tokens: usize,
}

/// A needle at one depth.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    /// Share of the haystack before it.
    pub depth: f64,
    /// The rows that it has.
    pub rows: Range<usize>,
    /// Each layer.
    pub layers: Vec<Found>,
}

/// How much of a layer's attention a needle has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Share of the last row's attention.
    pub mass: Mass,
    /// What it would be if the row attended to all that it sees alike; 0 where it does not see the needle.
    pub uniform: f64,
}

/// Plants the needle at each of [`NEEDLE_DEPTHS`] and measures how much of the last row's attention falls on it.
///
/// The first depth is behind the first [`FEW`] tokens: a needle among them would pass for found where they are a sink.
///
/// # Errors
/// A haystack too small for the sequence, a sequence longer than the model's, a token beyond the vocabulary, a model whose
/// values are no numbers.
pub fn needle(subject: Subject<'_>, needle: &Needle<'_>) -> Result<Vec<Planted>, Error> {
    let asked = needle.sentence.len() + needle.question.len();
    let (needed, tokens) = (asked + FEW + FEWEST, needle.tokens.min(needle.haystack.len() + asked));
    if tokens < needed {
        return Err(Error::NoHaystack { asked, tokens, needed });
    }
    let haystack = &needle.haystack[..tokens - asked];
    NEEDLE_DEPTHS.iter().map(|&depth| planted(subject, needle, haystack, depth)).collect()
}

fn planted(
    subject: Subject<'_>,
    needle: &Needle<'_>,
    haystack: &[u32],
    depth: f64,
) -> Result<Planted, Error> {
    let at = FEW + (depth * (haystack.len() - FEW) as f64).round() as usize;
    let (before, behind) = haystack.split_at(at);
    let sequence = [before, needle.sentence, behind, needle.question].concat();
    let (last, rows) = (sequence.len() - 1, at..at + needle.sentence.len());
    let reading = Reading::of(subject, &[sequence])?;
    let found = |block: &Block| {
        let heads = 0..block.attention.shape.heads;
        let seen: Vec<Vec<Weight>> = heads.map(|head| seen(&reading, block, last, head)).collect();
        let inside = |seen: &[Weight]| -> (usize, f64) {
            let inside = seen.iter().filter(|weight| rows.contains(&weight.row));
            (inside.clone().count(), inside.map(|weight| weight.share).sum())
        };
        let masses: Vec<f64> = seen.iter().map(|seen| inside(seen).1).collect();
        // Every head sees the same rows.
        let uniform = inside(&seen[0]).0 as f64 / seen[0].len() as f64;
        Found { mass: Mass::of(&masses), uniform }
    };
    let layers = reading.pass.blocks.iter().map(found).collect();
    Ok(Planted { depth, layers, rows })
}
