//! The text in which needles are hidden: any text, taken from one of its sentences on for as long as is needed.

use super::Error;

/// A longer run without space is cut into pieces, so that a text in a script without spaces can be cut to measure too.
const LONGEST_WORD: usize = 24;

/// Characters of such a piece.
const PIECE: usize = 8;

/// Words whose full stop ends no sentence.
const SHORTENED: [&str; 12] = ["Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Mt", "No", "vs", "etc", "viz", "cf"];

/// A text in pieces that can be counted off.
pub(super) struct Haystack<'t> {
    pieces: Vec<Piece<'t>>,
    /// The pieces with which sentences begin.
    starts: Vec<usize>,
}

struct Piece<'t> {
    text: &'t str,
    /// Whether a space is before it.
    spaced: bool,
    /// Whether a sentence ends with it.
    ends: bool,
}

impl<'t> Haystack<'t> {
    /// Cuts a text into words; white space is worth one space.
    pub(super) fn new(text: &'t str) -> Result<Self, Error> {
        let mut pieces = Vec::new();
        for word in text.split_whitespace() {
            let mut rest = word;
            let mut spaced = true;
            while let Some((at, _)) = rest.char_indices().nth(LONGEST_WORD) {
                let piece = rest.char_indices().nth(PIECE).map_or(at, |(at, _)| at);
                let stop = rest[..piece].char_indices().find(|&(_, c)| ideographic_stop(c));
                let (text, after) = rest.split_at(stop.map_or(piece, |(at, c)| at + c.len_utf8()));
                pieces.push(Piece { text, spaced, ends: ends_sentence(text) });
                (rest, spaced) = (after, false);
            }
            pieces.push(Piece { text: rest, spaced, ends: ends_sentence(rest) });
        }
        if pieces.is_empty() {
            return Err(Error::EmptyHaystack);
        }
        let starts = (0..pieces.len()).filter(|&at| at == 0 || pieces[at - 1].ends).collect();
        Ok(Self { pieces, starts })
    }

    /// `size` pieces from the sentence at `start` (a share of all sentences) on, over and over if the text is shorter, with
    /// each insertion before the sentence at its depth (0 = before all, 1 = behind all). Depths must ascend.
    pub(super) fn with(&self, start: f64, size: usize, insertions: &[(f64, &str)]) -> String {
        let start = (start.clamp(0.0, 1.0) * self.starts.len() as f64) as usize;
        let start = self.starts.get(start).copied().unwrap_or_default();
        let piece = |at: usize| &self.pieces[(start + at) % self.pieces.len()];
        let mut bounds = vec![0];
        bounds.extend((0..size).filter(|&at| at + 1 == size || piece(at).ends).map(|at| at + 1));
        let sentences = (bounds.len() - 1) as f64;
        let place = |depth: f64| bounds.get((sentences * depth) as usize).copied().unwrap_or(size);
        let mut waiting = insertions.iter().map(|&(depth, text)| (place(depth), text)).peekable();
        let mut text = String::new();
        for at in 0..=size {
            let mut apart = false;
            while let Some((_, needle)) = waiting.next_if(|&(place, _)| place <= at) {
                separate(&mut text);
                text.push_str(needle);
                apart = true;
            }
            if at < size {
                if apart || piece(at).spaced {
                    separate(&mut text);
                }
                text.push_str(piece(at).text);
            }
        }
        text
    }

    /// The distinct words of 4 to 12 letters that the text also has in small letters, so hardly any names, in their order.
    pub(super) fn words(text: &'t str) -> impl Iterator<Item = &'t str> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| {
            let mut letters = 0;
            word.chars().all(|c| {
                letters += 1;
                c.is_lowercase()
            }) && (4..=12).contains(&letters)
        })
    }
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push(' ');
    }
}

fn ideographic_stop(c: char) -> bool {
    matches!(c, '。' | '！' | '？')
}

fn ends_sentence(word: &str) -> bool {
    let word = word.trim_end_matches(['"', '\'', '”', '’', ')', ']', '»', '」', '』']);
    let Some(last) = word.chars().next_back() else { return false };
    if last != '.' {
        return matches!(last, '!' | '?') || ideographic_stop(last);
    }
    let stem = word.trim_end_matches('.').trim_start_matches(|c: char| !c.is_alphanumeric());
    !SHORTENED.contains(&stem) && (stem.chars().count() != 1 || stem == "I")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "One day Mr. Hill\n came home.  \"Who is there?\" he asked! Nobody was.";

    #[test]
    fn needles_go_between_sentences() {
        let hay = Haystack::new(TEXT).unwrap();
        assert_eq!(hay.starts.len(), 4);
        let all = "One day Mr. Hill came home. \"Who is there?\" he asked! Nobody was.";
        assert_eq!(hay.with(0.0, 13, &[]), all);
        let two = hay.with(0.0, 13, &[(0.0, "N0."), (0.5, "N5."), (1.0, "N9.")]);
        assert_eq!(two, "N0. One day Mr. Hill came home. \"Who is there?\" N5. he asked! Nobody was. N9.");
        assert_eq!(hay.with(0.0, 0, &[(0.5, "N.")]), "N.");
        assert_eq!(hay.with(0.9, 4, &[]), "Nobody was. One day", "it begins anew");
    }

    #[test]
    fn a_text_without_spaces_is_cut_and_not_changed() {
        let text = "道可道，非常道。名可名，非常名。無名天地之始，有名萬物之母。故常無欲，以觀其妙；常有欲，以觀其徼。";
        let hay = Haystack::new(text).unwrap();
        assert!(hay.pieces.len() >= 5 && hay.starts.len() >= 3, "{}", hay.pieces.len());
        assert_eq!(hay.with(0.0, hay.pieces.len(), &[]), text);
        assert!(hay.with(0.0, hay.pieces.len(), &[(0.5, "needle.")]).contains("。 needle. "));
        assert!(matches!(Haystack::new(" \n"), Err(Error::EmptyHaystack)));
    }

    #[test]
    fn words_are_no_names() {
        let words: Vec<&str> =
            Haystack::words("The house of Mary stood, silently; by-and-by R2D2 über").collect();
        assert_eq!(words, ["house", "stood", "silently", "über"]);
    }

    proptest! {
        #[test]
        fn any_text_and_size(text in "\\PC{1,80}", size in 0usize..200, start in 0.0f64..=1.0, depth in 0.0f64..=1.0) {
            if let Ok(hay) = Haystack::new(&text) {
                let with = hay.with(start, size, &[(depth, "NEEDLE")]);
                prop_assert!(with.contains("NEEDLE"));
                prop_assert_eq!(with.replacen("NEEDLE", "", 1).split_whitespace().collect::<String>(),
                    hay.with(start, size, &[]).split_whitespace().collect::<String>());
            }
        }
    }
}
