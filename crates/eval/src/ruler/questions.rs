//! Questions about documents: a file of SQuAD or HotpotQA, its answer in one document among many (RULER's QA).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use smolt_run::error::FileError;
use smolt_run::random::Stream;

use super::fit::Draft;
use super::{Error, Kind};

/// The largest file of questions, bytes.
const MAX_FILE: u64 = 256 << 20;

/// Questions and the documents of their file.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    kind: Kind,
    /// In the order of their text, none twice.
    documents: Vec<String>,
    /// Documents that belong together: an article's paragraphs, or what a question came with.
    groups: Vec<Vec<usize>>,
    questions: Vec<Question>,
}

#[derive(Clone, Debug, PartialEq)]
struct Question {
    text: String,
    /// Any of them is right.
    answers: Vec<String>,
    /// The documents that it is answered from.
    gold: Vec<usize>,
    group: usize,
}

/// SQuAD's file, as far as it is read.
#[derive(Deserialize)]
struct Squad {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(default)]
    is_impossible: bool,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

/// An item of HotpotQA's file, as far as it is read.
#[derive(Deserialize)]
struct Hotpot {
    question: String,
    answer: String,
    /// Titles and their sentences.
    context: Vec<(String, Vec<String>)>,
    /// Titles and the number of a sentence.
    #[serde(default)]
    supporting_facts: Vec<(String, i64)>,
}

impl Questions {
    /// Reads a file as SQuAD (an object with `data`) or HotpotQA (a list) publishes it.
    ///
    /// # Errors
    /// A file that cannot be read, is larger than 256 MiB, is neither or has no question with an answer.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let size = std::fs::metadata(path).map_err(|e| FileError::reading(path, e))?.len();
        let wrong = |problem: String| Error::Questions { path: path.to_path_buf(), problem };
        if size > MAX_FILE {
            return Err(wrong(format!(
                "{size} bytes are more than the {MAX_FILE} allowed; give a part of it"
            )));
        }
        let bytes = std::fs::read(path).map_err(|e| FileError::reading(path, e))?;
        Self::parse(&bytes).map_err(wrong)
    }

    /// The questions of such a file's bytes, or what is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let shape =
            "expected SQuAD's {\"data\": […]} or HotpotQA's [{\"question\", \"answer\", \"context\"}, …]";
        let wrong = |source: serde_json::Error| format!("{source}; {shape}");
        let read = match bytes.trim_ascii_start().first() {
            Some(b'[') => Self::of_hotpot(serde_json::from_slice(bytes).map_err(wrong)?),
            _ => Self::of_squad(serde_json::from_slice(bytes).map_err(wrong)?),
        };
        match read.questions.is_empty() {
            true => Err("no question has an answer; give another file".to_owned()),
            false => Ok(read),
        }
    }

    fn of_squad(squad: Squad) -> Self {
        let texts = squad.data.iter().flat_map(|article| &article.paragraphs).map(|p| p.context.clone());
        let mut read = Self::of_documents(Kind::Qa1, texts);
        let places = places(&read.documents);
        let (mut groups, mut questions) = (Vec::new(), Vec::new());
        for article in &squad.data {
            let group: BTreeSet<usize> =
                article.paragraphs.iter().filter_map(|p| places.get(p.context.as_str()).copied()).collect();
            for paragraph in &article.paragraphs {
                for asked in paragraph.qas.iter().filter(|asked| !asked.is_impossible) {
                    let answers = asked.answers.iter().map(|answer| answer.text.as_str());
                    let gold = places.get(paragraph.context.as_str()).copied();
                    questions.extend(question(
                        &asked.question,
                        answers,
                        gold.into_iter().collect(),
                        groups.len(),
                    ));
                }
            }
            groups.push(group.into_iter().collect());
        }
        (read.groups, read.questions) = (groups, questions);
        read
    }

    fn of_hotpot(items: Vec<Hotpot>) -> Self {
        let document =
            |(title, sentences): &(String, Vec<String>)| format!("{title}\n{}", sentences.concat());
        let texts = items.iter().flat_map(|item| item.context.iter().map(document));
        let mut read = Self::of_documents(Kind::Qa2, texts);
        let places = places(&read.documents);
        let (mut groups, mut questions) = (Vec::new(), Vec::new());
        for item in &items {
            let facts: BTreeSet<&str> =
                item.supporting_facts.iter().map(|(title, _)| title.as_str()).collect();
            let (mut gold, mut group) = (BTreeSet::new(), BTreeSet::new());
            for entry in &item.context {
                if let Some(&at) = places.get(document(entry).as_str()) {
                    group.insert(at);
                    if facts.contains(entry.0.as_str()) {
                        gold.insert(at);
                    }
                }
            }
            // Where the file does not say what is needed, everything may be.
            let gold = if gold.is_empty() { group.clone() } else { gold };
            let answers = [item.answer.as_str()].into_iter();
            questions.extend(question(&item.question, answers, gold.into_iter().collect(), groups.len()));
            groups.push(group.into_iter().collect());
        }
        (read.groups, read.questions) = (groups, questions);
        read
    }

    fn of_documents(kind: Kind, texts: impl Iterator<Item = String>) -> Self {
        let documents: BTreeSet<String> = texts.collect();
        Self { kind, documents: documents.into_iter().collect(), groups: Vec::new(), questions: Vec::new() }
    }

    /// [`Kind::Qa1`] for a file of SQuAD's, [`Kind::Qa2`] for one of HotpotQA's.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Questions that can be asked; at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// The questions in the order in which a seed asks them.
    pub(super) fn order(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.questions.len()).collect();
        Stream::new(seed, "ruler qa order", 0).shuffle(&mut order);
        order
    }

    /// The fewest documents with a question, and more than fit into `length` tokens.
    pub(super) fn sizes(&self, question: usize, length: usize) -> RangeInclusive<usize> {
        let gold = self.questions[question].gold.len();
        gold..=gold.saturating_add(length)
    }

    /// A question among `size` documents: those that answer it, then others of its group, then any, then the same again.
    pub(super) fn draft(&self, question: usize, mut stream: Stream, size: usize) -> Draft {
        let Question { text, answers, gold, group } = &self.questions[question];
        let mut chosen = gold.clone();
        let mut related: Vec<usize> =
            self.groups[*group].iter().copied().filter(|document| !gold.contains(document)).collect();
        stream.shuffle(&mut related);
        chosen.extend(related.into_iter().take(size.saturating_sub(gold.len())));
        if chosen.len() < size {
            let taken: BTreeSet<usize> = chosen.iter().copied().collect();
            let mut others: Vec<usize> =
                (0..self.documents.len()).filter(|document| !taken.contains(document)).collect();
            stream.shuffle(&mut others);
            others.truncate(size - chosen.len());
            chosen.extend(others);
        }
        chosen = chosen.iter().copied().cycle().take(size).collect();
        stream.shuffle(&mut chosen);
        let documents: Vec<String> = chosen
            .iter()
            .enumerate()
            .map(|(at, &document)| format!("Document {}:\n{}", at + 1, self.documents[document]))
            .collect();
        let rule = "Give the answer alone, without other words.";
        Draft {
            prompt: format!(
                "Answer the question from the documents below. {rule}\n\n{}\n\n\
                 Answer the question from the documents above. {rule}\n\nQuestion: {text}",
                documents.join("\n\n")
            ),
            answer_prefix: " Answer:".to_owned(),
            said: answers.iter().max_by_key(|answer| answer.len()).cloned().unwrap_or_default(),
            answers: answers.clone(),
            depth: None,
        }
    }
}

fn places(documents: &[String]) -> BTreeMap<&str, usize> {
    documents.iter().enumerate().map(|(at, text)| (text.as_str(), at)).collect()
}

/// A question that has an answer and a document.
fn question<'a>(
    text: &str,
    answers: impl Iterator<Item = &'a str>,
    gold: Vec<usize>,
    group: usize,
) -> Option<Question> {
    let mut seen = BTreeSet::new();
    let answers: Vec<String> = answers
        .map(str::trim)
        .filter(|answer| !answer.is_empty() && seen.insert(*answer))
        .map(str::to_owned)
        .collect();
    (!answers.is_empty() && !gold.is_empty()).then(|| Question {
        text: text.to_owned(),
        answers,
        gold,
        group,
    })
}

/// Entry point for fuzzing: whatever the bytes, questions or an error; what is read can be asked.
#[doc(hidden)]
pub fn fuzz_questions(bytes: &[u8]) {
    let Ok(questions) = Questions::parse(bytes) else { return };
    for question in questions.order(1).into_iter().take(8) {
        let least = *questions.sizes(question, 4).start();
        for size in least..least.saturating_add(4) {
            let draft = questions.draft(question, Stream::new(1, "fuzz", 0), size);
            assert!(!draft.answers.is_empty() && draft.prompt.contains(&format!("Document {size}:\n")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUAD: &str = r#"{"version":"2","data":[
        {"title":"A","paragraphs":[
            {"context":"The mill is old.","qas":[{"question":"How is the mill?","answers":[{"text":"old"},{"text":"old"},{"text":" "}]}]},
            {"context":"The road is long.","qas":[{"question":"Why?","is_impossible":true,"answers":[]}]}]},
        {"title":"B","paragraphs":[{"context":"The lamp is lit.","qas":[{"question":"Is it lit?","answers":[{"text":"lit"}]}]}]}]}"#;
    const HOTPOT: &str = r#"[{"question":"Who?","answer":"Ann","supporting_facts":[["Ann",0]],
        "context":[["Ann",["She won."," Then she slept."]],["Ben",["He lost."]]]},
        {"question":"Both?","answer":"no","context":[["Ben",["He lost."]]]}]"#;

    #[test]
    fn both_formats_are_read() {
        let squad = Questions::parse(SQUAD.as_bytes()).unwrap();
        assert_eq!((squad.kind(), squad.len(), squad.documents.len()), (Kind::Qa1, 2, 3));
        assert_eq!(squad.questions[0].answers, ["old"]);
        let hotpot = Questions::parse(HOTPOT.as_bytes()).unwrap();
        assert_eq!((hotpot.kind(), hotpot.len(), hotpot.documents.len()), (Kind::Qa2, 2, 2));
        assert_eq!(hotpot.documents[0], "Ann\nShe won. Then she slept.");
        assert_eq!(
            (hotpot.questions[0].gold.as_slice(), hotpot.questions[1].gold.as_slice()),
            (&[0][..], &[1][..])
        );
    }

    #[test]
    fn the_answer_is_among_the_documents_and_its_article_comes_first() {
        let squad = Questions::parse(SQUAD.as_bytes()).unwrap();
        for seed in 0..20 {
            let of = |size| squad.draft(0, Stream::new(seed, "test", 0), size).prompt;
            assert!(of(1).contains("mill is old") && !of(1).contains("Document 2:"));
            assert!(of(2).contains("mill is old") && of(2).contains("road is long"));
            assert!(of(3).contains("lamp is lit"));
            assert!(of(7).contains("Document 7:") && of(7).contains("mill is old"), "documents come again");
        }
        assert_eq!(squad.sizes(0, 10), 1..=11);
    }

    #[test]
    fn other_files_are_refused() {
        for (bytes, word) in [
            ("", "SQuAD"),
            ("[1]", "HotpotQA"),
            ("{\"data\":[]}", "no question"),
            (
                "{\"data\":[{\"paragraphs\":[{\"context\":\"a\",\"qas\":[{\"question\":\"b\"}]}]}]}",
                "no question",
            ),
            ("{\"rows\":[]}", "`data`"),
        ] {
            assert!(Questions::parse(bytes.as_bytes()).unwrap_err().contains(word), "{bytes}");
        }
        let gone = Questions::load(Path::new("gone.json")).unwrap_err().to_string();
        assert!(gone.contains("gone.json"), "{gone}");
    }

    #[test]
    fn fuzz_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/questions");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10);
        for file in files {
            fuzz_questions(&std::fs::read(&file).unwrap());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_questions_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            fuzz_questions(&bytes);
        }
    }
}
