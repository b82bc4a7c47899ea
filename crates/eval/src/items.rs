//! Test items as JSONL, and the ways to put one to a model (spec EVL-03).

use serde::{Deserialize, Serialize};
use smolt_run::error::{Exit, ExitKind, FileError};
use smolt_text::template::Message;
use std::path::{Path, PathBuf};

/// Largest file of test items, bytes.
const MAX_FILE: u64 = 256 << 20;

/// A question with one right answer among candidates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Unique within its skill.
    pub id: String,
    /// The skill it tests.
    pub skill: String,
    /// Context and question, to be continued by the answer.
    pub prompt: String,
    /// Candidate answers.
    pub choices: Vec<String>,
    /// Index of the right one.
    pub answer: usize,
    /// The exact answer a chat model should give.
    pub answer_text: String,
    /// The same question as a conversation that awaits the assistant.
    pub chat: Vec<Message>,
}

/// How candidates are put to a model that scores text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// CF: each candidate as a continuation of the prompt; options not shown.
    Cloze,
    /// MCF: lettered options shown, the letters are the continuations.
    MultipleChoice,
}

impl Format {
    /// The text before the continuation, and the continuations.
    pub fn pose(self, item: &Item) -> (String, Vec<String>) {
        match self {
            Format::Cloze => (item.prompt.clone(), item.choices.iter().map(|c| format!(" {c}")).collect()),
            Format::MultipleChoice => {
                let stem = item.prompt.trim_end().trim_end_matches("Answer:").trim_end();
                let letters = item.choices.iter().zip('A'..);
                let options: String = letters.clone().map(|(c, letter)| format!("\n{letter}. {c}")).collect();
                (
                    format!("{stem}{options}\nAnswer:"),
                    letters.map(|(_, letter)| format!(" {letter}")).collect(),
                )
            }
        }
    }
}

/// A file of test items that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

/// Reads a JSONL file of items.
pub fn load(path: &Path) -> Result<Vec<Item>, Error> {
    let size = std::fs::metadata(path).map_err(|e| FileError::reading(path, e))?.len();
    let wrong = |line, reason: String| Error::Line { path: path.to_path_buf(), line, reason };
    if size > MAX_FILE {
        return Err(wrong(0, format!("{size} bytes are more than the {MAX_FILE} allowed; split the file")));
    }
    let text = std::fs::read(path).map_err(|e| FileError::reading(path, e))?;
    let text = String::from_utf8(text).map_err(|e| {
        wrong(0, format!("not UTF-8 at byte {}; convert the file", e.utf8_error().valid_up_to()))
    })?;
    parse(&text).map_err(|(line, reason)| wrong(line, reason))
}

/// Items of a JSONL text, or the line and reason of the first wrong one.
pub fn parse(text: &str) -> Result<Vec<Item>, (usize, String)> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let item: Item = serde_json::from_str(line).map_err(|e| (i + 1, e.to_string()))?;
            if item.choices.len() < 2 || item.choices.len() > 26 {
                return Err((i + 1, format!("{} choices; an item has 2 to 26", item.choices.len())));
            }
            if item.answer >= item.choices.len() {
                let reason =
                    format!("answer {} of {} choices; it counts from 0", item.answer, item.choices.len());
                return Err((i + 1, reason));
            }
            if item.choices.iter().any(String::is_empty) {
                return Err((i + 1, "an empty choice cannot be scored per character".into()));
            }
            Ok(item)
        })
        .collect()
}

/// Entry point for fuzzing: whatever the bytes, items or an error; what is accepted can be posed both ways, and
/// writes and reads back.
#[doc(hidden)]
pub fn fuzz_items(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(items) = parse(text) else { return };
    for item in &items {
        for format in [Format::Cloze, Format::MultipleChoice] {
            assert_eq!(format.pose(item).1.len(), item.choices.len());
        }
    }
    let lines: Result<Vec<String>, _> = items.iter().map(serde_json::to_string).collect();
    assert!(lines.is_ok_and(|lines| parse(&lines.join("\n")).as_ref() == Ok(&items)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item {
            id: "1".into(),
            skill: "s".into(),
            prompt: "Tom has a ball.\nQuestion: Who has it?\nAnswer:".into(),
            choices: vec!["Tom".into(), "Ann".into()],
            answer: 0,
            answer_text: "Tom".into(),
            chat: Vec::new(),
        }
    }

    #[test]
    fn one_item_in_both_formats() {
        let (stem, options) = Format::Cloze.pose(&item());
        assert!(stem.ends_with("Answer:"));
        assert_eq!(options, [" Tom", " Ann"]);
        let (stem, options) = Format::MultipleChoice.pose(&item());
        assert_eq!(stem, "Tom has a ball.\nQuestion: Who has it?\nA. Tom\nB. Ann\nAnswer:");
        assert_eq!(options, [" A", " B"]);
    }

    #[test]
    fn wrong_lines_are_named() {
        let good = serde_json::to_string(&item()).unwrap();
        let bad = serde_json::to_string(&Item { answer: 2, ..item() }).unwrap();
        assert_eq!(parse(&format!("{good}\n\n{good}")).unwrap().len(), 2);
        let (line, reason) = parse(&format!("{good}\n{bad}")).unwrap_err();
        assert!(line == 2 && reason.contains("answer 2 of 2"));
        assert_eq!(parse("{").unwrap_err().0, 1);
    }

    #[test]
    fn fuzz_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/items");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10);
        for file in files {
            fuzz_items(&std::fs::read(&file).unwrap());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_items_or_an_error(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
