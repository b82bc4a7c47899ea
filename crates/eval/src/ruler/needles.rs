//! Needles in a haystack: facts hidden in text, some of them asked for (RULER's eight NIAH tasks).

use smolt_run::random::Stream;

use super::draw::{Draw, Sort};
use super::fit::Draft;
use super::haystack::Haystack;
use super::{Error, Kind};

/// Text that says nothing, again and again.
pub(super) const NOISE: &str =
    "The road is long. The hill is steep. The lamp is lit. We walk on. We rest a while.";

/// What a needle lies in.
enum Hay<'t> {
    /// Lines of [`NOISE`].
    Noise,
    /// A text.
    Text(Haystack<'t>),
    /// Other needles, a line each.
    Needles,
}

/// How a task is made.
pub(super) struct Shape<'t> {
    hay: Hay<'t>,
    key: Sort,
    value: Sort,
    keys: usize,
    values: usize,
    asked: usize,
}

impl<'t> Shape<'t> {
    /// The shape of a NIAH task. RULER's four keys, values or questions are one for every 128
    /// tokens below 512, and at least two.
    pub(super) fn new(kind: Kind, length: usize, text: &'t str) -> Result<Self, Error> {
        let many = (length / 128).clamp(2, 4);
        let hay = match kind {
            Kind::NiahSingle1 => Hay::Noise,
            Kind::NiahMultikey2 | Kind::NiahMultikey3 => Hay::Needles,
            _ => Hay::Text(Haystack::new(text)?),
        };
        let mut shape = Self { hay, key: Sort::Word, value: Sort::Number, keys: 1, values: 1, asked: 1 };
        match kind {
            Kind::NiahSingle3 => shape.value = Sort::Uuid,
            Kind::NiahMultikey1 => shape.keys = many,
            Kind::NiahMultikey3 => (shape.key, shape.value) = (Sort::Uuid, Sort::Uuid),
            Kind::NiahMultivalue => shape.values = many,
            Kind::NiahMultiquery => (shape.keys, shape.asked) = (many, many),
            _ => {}
        }
        Ok(shape)
    }

    /// An item in `size` pieces or lines of hay, its needles at random depths, or all at `depth`.
    pub(super) fn draft(&self, stream: Stream, depth: Option<f64>, size: usize) -> Draft {
        let mut draw = Draw::new(stream);
        let facts: Vec<(String, Vec<String>)> = (0..self.keys)
            .map(|_| (draw.one(self.key), (0..self.values).map(|_| draw.one(self.value)).collect()))
            .collect();
        let mut needles: Vec<(usize, String)> = Vec::new();
        for (key, (name, values)) in facts.iter().enumerate() {
            needles.extend(values.iter().map(|value| (key, self.fact(name, value))));
        }
        draw.stream.shuffle(&mut needles);
        let mut asked: Vec<usize> = (0..self.keys).collect();
        draw.stream.shuffle(&mut asked);
        asked.truncate(self.asked);
        let drawn = draw.depths(needles.len());
        let depths = depth.map_or(drawn, |depth| vec![depth.clamp(0.0, 1.0); needles.len()]);
        let start = draw.stream.uniform();
        let placed: Vec<(f64, &str)> =
            depths.iter().zip(&needles).map(|(&depth, (_, needle))| (depth, needle.as_str())).collect();
        let context = match &self.hay {
            Hay::Text(hay) => hay.with(start, size, &placed),
            Hay::Noise => among(&vec![NOISE.to_owned(); size], &placed),
            Hay::Needles => {
                let others: Vec<String> = (0..size)
                    .map(|_| {
                        let name = draw.one(self.key);
                        self.fact(&name, &draw.one(self.value))
                    })
                    .collect();
                among(&others, &placed)
            }
        };
        let one = self.asked * self.values == 1;
        let depth = needles.iter().zip(&depths).find(|((key, _), _)| one && *key == asked[0]);
        let names: Vec<&str> = asked.iter().map(|&key| facts[key].0.as_str()).collect();
        let answers: Vec<String> = asked.iter().flat_map(|&key| facts[key].1.clone()).collect();
        self.pose(&context, &listed(&names), answers, depth.map(|(_, &depth)| depth))
    }

    fn fact(&self, name: &str, value: &str) -> String {
        format!("A secret {} for {name} is {value}.", self.value.name(false))
    }

    fn pose(&self, context: &str, names: &str, answers: Vec<String>, depth: Option<f64>) -> Draft {
        let plural = answers.len() > 1;
        let what = self.value.name(plural);
        let (hidden, it, verb) = match plural {
            true => (format!("Secret {what} are hidden"), "them", "are"),
            false => (format!("A secret {what} is hidden"), "it", "is"),
        };
        Draft {
            prompt: format!(
                "{hidden} in the text below. Read it with care and remember the {what}; a question about {it} follows.\n\
                 {context}\n\
                 Which secret {what} does the text give for {names}?"
            ),
            answer_prefix: format!(" The secret {what} that the text gives for {names} {verb}"),
            said: answers.join(", "),
            answers,
            depth,
        }
    }
}

/// Lines, with others among them at their depths; depths must ascend.
pub(super) fn among(lines: &[String], others: &[(f64, &str)]) -> String {
    let mut all: Vec<&str> = Vec::with_capacity(lines.len() + others.len());
    let mut others = others.iter().peekable();
    for at in 0..=lines.len() {
        while let Some((_, other)) =
            others.next_if(|&&(depth, _)| (lines.len() as f64 * depth) as usize <= at)
        {
            all.push(other);
        }
        if let Some(line) = lines.get(at) {
            all.push(line);
        }
    }
    all.join("\n")
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_stand_at_their_depths() {
        let lines = ["a", "b", "c", "d"].map(String::from);
        assert_eq!(among(&lines, &[(0.0, "X"), (0.5, "Y"), (1.0, "Z")]), "X\na\nb\nY\nc\nd\nZ");
        assert_eq!(among(&[], &[(0.7, "X")]), "X");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }
}
