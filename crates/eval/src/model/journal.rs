//! Answers are kept on the disk as they come: an evaluation that was killed asks only what it had not heard.

use super::{Generated, Heard, Model, ModelError, OnDone, Prompt, Request, Scored, TextScore, Writing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use smolt_run::error::FileError;
use smolt_run::metrics::{self, JsonlWriter};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A model whose answers are kept in a file; what the file holds already is not asked again.
pub struct Journal<'m> {
    model: &'m mut dyn Model,
    /// All of the model that decides what it answers.
    identity: String,
    log: JsonlWriter,
    known: HashMap<String, Value>,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a, A> {
    /// Hash of model and question.
    key: &'a str,
    answer: &'a A,
}

impl<'m> Journal<'m> {
    /// Goes on with the file at `path`, of which answers of another `identity` do not count.
    ///
    /// # Errors
    /// A file that cannot be written or read.
    pub fn open(path: &Path, identity: String, model: &'m mut dyn Model) -> Result<Journal<'m>, FileError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| FileError::writing(folder, e))?;
        }
        let log = JsonlWriter::append(path)?;
        let line = |mut line: Value| Some((line["key"].as_str()?.to_owned(), line["answer"].take()));
        let known = metrics::read(path)?.into_iter().filter_map(line).collect();
        Ok(Journal { model, identity, log, known })
    }

    fn key(&self, question: &impl Serialize) -> Result<String, ModelError> {
        let json = serde_json::to_vec(&(&self.identity, question));
        Ok(smolt_run::hash::bytes(&json.map_err(|e| ModelError::Request(e.to_string()))?))
    }

    fn known<A: DeserializeOwned>(&self, key: &str) -> Option<A> {
        self.known.get(key).and_then(|answer| A::deserialize(answer).ok())
    }
}

impl Model for Journal<'_> {
    fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        let key = |request: &Request| self.key(&("score", &request.prompt, &request.continuations));
        let keys = requests.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let known = |(key, request): (&String, &Request)| {
            let all = |scored: &Scored| scored.continuations.len() == request.continuations.len();
            self.known(key).filter(all)
        };
        let mut answers: Vec<Option<Scored>> = keys.iter().zip(requests).map(known).collect();
        let asked: Vec<usize> = (0..requests.len()).filter(|&at| answers[at].is_none()).collect();
        let heard = (0..requests.len()).filter_map(|at| Some((at, answers[at].as_ref()?)));
        heard.enumerate().for_each(|(done, (at, answer))| on_done(done + 1, Heard::Scored(at, answer)));
        if asked.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let (before, log) = (requests.len() - asked.len(), &mut self.log);
        let some: Vec<Request> = asked.iter().map(|&at| requests[at].clone()).collect();
        let scored = self.model.score(&some, &mut |done, heard| match heard {
            Heard::Scored(i, answer) => {
                keep(log, &keys[asked[i]], answer);
                on_done(before + done, Heard::Scored(asked[i], answer));
            }
            _ => on_done(before + done, Heard::Nothing),
        })?;
        asked.iter().zip(scored).for_each(|(&at, answer)| answers[at] = Some(answer));
        Ok(answers.into_iter().flatten().collect())
    }

    fn write(
        &mut self,
        prompts: &[Prompt],
        writing: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError> {
        let key = |prompt: &Prompt| self.key(&("write", prompt, writing));
        let questions = prompts.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let keys = numbered(&questions, writing.samples.max(1));
        let known = |keys: &Vec<String>| keys.iter().map(|key| self.known(key)).collect();
        let mut answers: Vec<Option<Vec<Generated>>> = keys.iter().map(known).collect();
        // Equal prompts draw one after another, so where one is asked all are.
        let open = |(question, answer): (_, &Option<_>)| answer.is_none().then_some(question);
        let open: HashSet<&String> = questions.iter().zip(&answers).filter_map(open).collect();
        let asked: Vec<usize> = (0..prompts.len()).filter(|&at| open.contains(&questions[at])).collect();
        asked.iter().for_each(|&at| answers[at] = None);
        let heard = (0..prompts.len()).filter_map(|at| Some((at, answers[at].as_ref()?)));
        for (done, (at, samples)) in heard.enumerate() {
            samples
                .iter()
                .enumerate()
                .for_each(|(i, sample)| on_done(done + 1, Heard::Written(at, i, sample)));
        }
        if asked.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let (before, log) = (prompts.len() - asked.len(), &mut self.log);
        let some: Vec<Prompt> = asked.iter().map(|&at| prompts[at].clone()).collect();
        let written = self.model.write(&some, writing, &mut |done, heard| match heard {
            Heard::Written(i, sample, answer) => {
                keep(log, &keys[asked[i]][sample], answer);
                on_done(before + done, Heard::Written(asked[i], sample, answer));
            }
            _ => on_done(before + done, Heard::Nothing),
        })?;
        asked.iter().zip(written).for_each(|(&at, answer)| answers[at] = Some(answer));
        Ok(answers.into_iter().flatten().collect())
    }

    fn read(&mut self, texts: &[String], on_done: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        self.model.read(texts, on_done)
    }

    fn shown(&self, prompt: &Prompt, dropped: usize) -> Result<String, ModelError> {
        self.model.shown(prompt, dropped)
    }

    fn tokens(&self, text: &str) -> Option<usize> {
        self.model.tokens(text)
    }
}

/// A key per sample of each question: equal questions go on counting.
fn numbered(questions: &[String], samples: usize) -> Vec<Vec<String>> {
    let mut met: HashMap<&str, usize> = HashMap::new();
    let mut all = Vec::with_capacity(questions.len());
    for question in questions {
        let first = met.entry(question).or_default();
        all.push((*first..*first + samples).map(|number| format!("{question}-{number}")).collect());
        *first += samples;
    }
    all
}

/// A line that cannot be written costs only what a kill would lose now; that a disk is full is said where the samples are
/// written.
fn keep(log: &mut JsonlWriter, key: &str, answer: &impl Serialize) {
    let _ = log.write(&Line { key, answer });
}

#[cfg(test)]
mod tests {
    use super::super::{Continuation, Finish};
    use super::*;

    /// Answers with what it is asked, as often as it may, and tells in reverse order.
    struct Echo {
        patience: usize,
        asked: usize,
    }

    impl Echo {
        fn ask(&mut self) -> Result<(), ModelError> {
            if self.asked == self.patience {
                return Err(ModelError::Unreachable("gone".into()));
            }
            self.asked += 1;
            Ok(())
        }
    }

    fn text(prompt: &Prompt) -> String {
        let Prompt::Text(text) = prompt else { panic!("a conversation") };
        text.clone()
    }

    impl Model for Echo {
        fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
            let mut all = vec![Scored::default(); requests.len()];
            for (done, at) in (0..requests.len()).rev().enumerate() {
                self.ask()?;
                let long = |text: &String| Continuation {
                    log_likelihood: -(text.len() as f64) / 3.0,
                    tokens: text.len(),
                    greedy: false,
                };
                let continuations = requests[at].continuations.iter().map(long).collect();
                all[at] = Scored { continuations, dropped_tokens: text(&requests[at].prompt).len() };
                on_done(done + 1, Heard::Scored(at, &all[at]));
            }
            Ok(all)
        }

        fn write(
            &mut self,
            prompts: &[Prompt],
            writing: &Writing,
            on_done: OnDone<'_>,
        ) -> Result<Vec<Vec<Generated>>, ModelError> {
            let mut met: HashMap<String, usize> = HashMap::new();
            let mut all = Vec::new();
            for (at, prompt) in prompts.iter().enumerate() {
                let mut samples = Vec::new();
                for sample in 0..writing.samples {
                    self.ask()?;
                    let number = met.entry(text(prompt)).or_default();
                    let text = format!("{} {number}", text(prompt));
                    *number += 1;
                    samples.push(Generated {
                        text,
                        finish: Finish::EndToken,
                        tokens: 1,
                        log_likelihood: None,
                        dropped_tokens: 0,
                    });
                    on_done(at, Heard::Written(at, sample, &samples[sample]));
                }
                all.push(samples);
            }
            Ok(all)
        }

        fn read(&mut self, _: &[String], _: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
            Err(ModelError::Request("does not read".into()))
        }

        fn shown(&self, prompt: &Prompt, _: usize) -> Result<String, ModelError> {
            Ok(text(prompt))
        }
    }

    fn prompts(texts: &[&str]) -> Vec<Prompt> {
        texts.iter().map(|text| Prompt::Text((*text).into())).collect()
    }

    /// Asks through a journal in `folder`; what came of it, how much the model was asked, and what was heard.
    fn through<T>(
        folder: &Path,
        who: &str,
        patience: usize,
        ask: impl FnOnce(&mut Journal<'_>, OnDone<'_>) -> Result<T, ModelError>,
    ) -> (Option<T>, usize, Vec<String>) {
        let mut model = Echo { patience, asked: 0 };
        let mut heard = Vec::new();
        let mut journal = Journal::open(&folder.join("answers/a.jsonl"), who.into(), &mut model).unwrap();
        let answer = ask(&mut journal, &mut |_, what| heard.push(format!("{what:?}"))).ok();
        heard.sort();
        (answer, model.asked, heard)
    }

    #[test]
    fn scores_that_were_heard_are_not_asked_again_and_another_model_is() {
        let folder = tempfile::tempdir().unwrap();
        let requests: Vec<Request> = prompts(&["a", "b", "a", "c"])
            .into_iter()
            .map(|prompt| Request { prompt, continuations: vec!["x".into(), "yy".into()] })
            .collect();
        let ask = |journal: &mut Journal<'_>, hear: OnDone<'_>| journal.score(&requests, hear);
        let elsewhere = tempfile::tempdir().unwrap();
        let (want, 4, all) = through(elsewhere.path(), "m", 9, ask) else { panic!("not asked") };
        assert_eq!(through(folder.path(), "m", 3, ask).0, None, "killed");
        // All but the first were heard, and the third is equal to it.
        assert_eq!(through(folder.path(), "m", 9, ask), (want, 0, all));
        assert_eq!(through(folder.path(), "other", 9, ask).1, 4);
        let cut = |journal: &mut Journal<'_>, hear: OnDone<'_>| {
            let fewer = Request { continuations: vec!["x".into()], ..requests[0].clone() };
            journal.score(&[fewer], hear)
        };
        assert_eq!(through(folder.path(), "m", 9, cut).1, 1, "another question");
    }

    #[test]
    fn written_answers_are_those_of_one_go_whenever_it_was_cut() {
        let writing = Writing {
            max_tokens: 4,
            stop: vec![],
            stop_after_reasoning: false,
            temperature: 1.0,
            top_p: 1.0,
            samples: 2,
            seed: 0,
        };
        let asked = prompts(&["a", "b", "a", "c"]);
        let ask = |journal: &mut Journal<'_>, hear: OnDone<'_>| journal.write(&asked, &writing, hear);
        let whole = tempfile::tempdir().unwrap();
        let (want, 8, all) = through(whole.path(), "m", 9, ask) else { panic!("not asked") };
        assert_eq!(want.as_ref().unwrap()[2][1].text, "a 3");
        for killed in 0..8 {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(through(folder.path(), "m", killed, ask).0, None);
            let (got, asked, heard) = through(folder.path(), "m", 9, ask);
            assert_eq!((&got, &heard), (&want, &all), "killed after {killed}");
            // b from its second sample on, the equal prompts when both are whole.
            assert_eq!(8 - asked, [0, 0, 0, 0, 2, 2, 6, 6][killed], "killed after {killed}");
            let other = Writing { seed: 1, ..writing.clone() };
            let again =
                |journal: &mut Journal<'_>, hear: OnDone<'_>| journal.write(&prompts(&["a"]), &other, hear);
            assert_eq!(through(folder.path(), "m", 9, again).1, 2, "another seed draws anew");
        }
    }

    #[test]
    fn a_torn_or_damaged_line_costs_itself() {
        let folder = tempfile::tempdir().unwrap();
        let request =
            |text: &str| Request { prompt: Prompt::Text(text.into()), continuations: vec!["x".into()] };
        let requests = [request("a"), request("b"), request("c")];
        let ask = |journal: &mut Journal<'_>, hear: OnDone<'_>| journal.score(&requests, hear);
        let (want, ..) = through(folder.path(), "m", 9, ask);
        let path = folder.path().join("answers/a.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let damaged = lines[1].replace("log_likelihood", "likelihood");
        std::fs::write(&path, format!("{}\n{damaged}\n{}", lines[0], &lines[2][..40])).unwrap();
        let (got, asked, _) = through(folder.path(), "m", 9, ask);
        assert_eq!((got, asked), (want, 2));
    }
}
