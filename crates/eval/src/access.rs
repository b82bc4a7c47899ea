//! Held-out benchmarks: every opening is logged, and one opened while developing is a validation set from then on (spec
//! PEV-12).
//!
//! The log is a file of JSON lines, only ever appended to. Each line carries the hash of the one before it, so that a
//! line taken out or changed later is seen.

use crate::record::RecordError;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use smolt_run::error::FileError;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// The log within a run's folder, or where the command runs.
pub const LOG: &str = "evals/access.jsonl";

/// Largest log that is read, bytes: a hundred thousand openings.
const MAX_LOG: u64 = 64 << 20;

/// Longest reason, bytes.
pub const MAX_REASON: usize = 2000;

/// What a held-out benchmark is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The numbers of a final report.
    FinalReport,
    /// To decide something by it: it is a validation set from then on.
    Development,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// When, UTC.
    pub date: String,
    /// What for.
    pub purpose: Purpose,
    /// In the words of who opened it.
    pub reason: String,
    /// Name of the task.
    pub task: String,
    /// Of the resolved task.
    pub task_hash: String,
    /// Of the rows that were read.
    pub data_hash: String,
    /// Path of the model, empty where only prompts were looked at.
    pub model: String,
    /// Of its weights.
    pub model_hash: String,
    /// BLAKE3 of the line before, without its end; empty in the first.
    pub previous: String,
}

/// What a score may be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "as")]
pub enum Standing {
    /// Decisions are made by it.
    #[default]
    Validation,
    /// Held out, and opened for a final report only.
    HeldOut {
        /// Of the report.
        reason: String,
    },
    /// Was held out until it was opened while developing.
    Opened {
        /// When that was, UTC.
        date: String,
    },
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Standing::Validation => f.write_str("validation"),
            Standing::HeldOut { reason } => write!(f, "held out, final report: {reason}"),
            // The day is what a reader needs.
            Standing::Opened { date } => {
                write!(f, "validation (opened on {})", date.split('T').next().unwrap_or(date))
            }
        }
    }
}

/// What a score of `task` is good for after these openings, if it is opened for `purpose`, or not at all (`None`).
///
/// # Errors
/// A held-out task that nobody said to open.
pub fn standing(
    task: &Task,
    task_hash: &str,
    data_hash: &str,
    log: &[Opening],
    purpose: Option<(Purpose, &str)>,
    now: &str,
) -> Result<Standing, String> {
    if !task.held_out {
        return Ok(Standing::Validation);
    }
    // A task under another name, or with another prompt, is the same benchmark if its rows are.
    let same = |o: &&Opening| o.task == task.name || o.task_hash == task_hash || o.data_hash == data_hash;
    let opened = log.iter().filter(|o| o.purpose == Purpose::Development).find(same);
    match (opened, purpose) {
        (Some(opening), _) => Ok(Standing::Opened { date: opening.date.clone() }),
        (None, Some((Purpose::FinalReport, reason))) => Ok(Standing::HeldOut { reason: reason.to_owned() }),
        (None, Some((Purpose::Development, _))) => Ok(Standing::Opened { date: now.to_owned() }),
        (None, None) => Err(format!(
            "task `{}` is held out for final reports; give --final-report=REASON, or --open-held-out=REASON to make it \
             a validation set from now on",
            task.name
        )),
    }
}

/// The openings so far; none where there is no log.
///
/// # Errors
/// A file that cannot be read, a line that is no opening, a line that does not follow the one before it.
pub fn read(path: &Path) -> Result<Vec<Opening>, RecordError> {
    match File::open(path) {
        Ok(file) => parse(path, &load(path, file)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileError::reading(path, error).into()),
    }
}

fn load(path: &Path, file: File) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    file.take(MAX_LOG + 1).read_to_end(&mut bytes).map_err(|e| FileError::reading(path, e))?;
    if bytes.len() as u64 > MAX_LOG {
        return Err(content(path, format!("larger than {MAX_LOG} bytes; this is no access log")));
    }
    Ok(bytes)
}

fn content(path: &Path, problem: String) -> RecordError {
    RecordError::Content { path: path.to_owned(), problem }
}

/// The content of a log; `path` names it in errors.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Opening>, RecordError> {
    let mut openings: Vec<Opening> = Vec::new();
    let mut previous = String::new();
    let Some(whole) = bytes.strip_suffix(b"\n") else {
        return match bytes.is_empty() {
            true => Ok(openings),
            false => {
                Err(content(path, "its last line is cut short; end it or remove what is left of it".into()))
            }
        };
    };
    for (i, line) in whole.split(|&b| b == b'\n').enumerate() {
        let opening: Opening = serde_json::from_slice(line)
            .map_err(|e| content(path, format!("line {}: not an opening: {e}; restore the file", i + 1)))?;
        if opening.previous != previous {
            let problem = "does not follow the line before it, the log was changed by hand; restore the file";
            return Err(content(path, format!("line {}: {problem}", i + 1)));
        }
        previous = hash(line);
        openings.push(opening);
    }
    Ok(openings)
}

fn hash(line: &[u8]) -> String {
    blake3::hash(line).to_hex()[..32].to_owned()
}

/// Appends an opening, on disk when this returns; `previous` is filled in. Processes that open at once wait for each
/// other.
///
/// # Errors
/// A log that cannot be written or is damaged; a reason that is empty or too long.
pub fn append(path: &Path, mut opening: Opening) -> Result<(), RecordError> {
    if opening.reason.trim().is_empty() || opening.reason.len() > MAX_REASON {
        let problem =
            format!("an opening needs a reason of at most {MAX_REASON} bytes; say what the scores are for");
        return Err(content(path, problem));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| FileError::writing(folder, e))?;
    }
    let failed = |e| FileError::writing(path, e);
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
    file.lock().map_err(failed)?;
    let before = load(path, file.try_clone().map_err(failed)?)?;
    parse(path, &before)?;
    opening.previous = before
        .strip_suffix(b"\n")
        .map_or(String::new(), |lines| hash(lines.rsplit(|&b| b == b'\n').next().unwrap_or_default()));
    let line = serde_json::to_string(&opening).map_err(|e| content(path, e.to_string()))? + "\n";
    file.write_all(line.as_bytes()).map_err(failed)?;
    Ok(file.sync_all().map_err(failed)?)
}

/// Reads bytes as a log: errors are fine, panics are not; what was read is written and read again.
#[doc(hidden)]
pub fn fuzz_access_log(bytes: &[u8]) {
    let path = Path::new("access.jsonl");
    if let Ok(openings) = parse(path, bytes)
        && let Some(last) = openings.last()
    {
        let alone = Opening { previous: String::new(), ..last.clone() };
        let line = serde_json::to_string(&alone).unwrap_or_default() + "\n";
        assert_eq!(parse(path, line.as_bytes()).ok(), Some(vec![alone]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(held_out: bool) -> Task {
        let text = format!(
            "name = \"t\"\nheld_out = {held_out}\n[dataset]\npath = \".\"\n[item]\nprompt = \"q\"\n\
             [generation]\ntarget = \"a\"\n"
        );
        Task::parse("t.toml", text.as_bytes(), &[]).unwrap()
    }

    fn opening(task: &str, purpose: Purpose) -> Opening {
        Opening {
            date: "2026-03-01T10:00:00Z".into(),
            purpose,
            reason: "table 3".into(),
            task: task.into(),
            task_hash: format!("hash of {task}"),
            data_hash: "rows".into(),
            model: "runs/a".into(),
            model_hash: "weights".into(),
            previous: String::new(),
        }
    }

    #[test]
    fn a_held_out_task_opens_only_when_told_to() {
        let of = |log: &[Opening], purpose| {
            standing(&task(true), "th", "dh", log, purpose, "now").map(|standing| standing.to_string())
        };
        assert!(of(&[], None).unwrap_err().contains("--final-report"));
        assert_eq!(of(&[], Some((Purpose::FinalReport, "paper"))).unwrap(), "held out, final report: paper");
        assert_eq!(of(&[], Some((Purpose::Development, ""))).unwrap(), "validation (opened on now)");
        let opened = [opening("t", Purpose::FinalReport), opening("t", Purpose::Development)];
        assert!(of(&opened[..1], None).is_err(), "a final report does not open it for good");
        for purpose in [None, Some((Purpose::FinalReport, "paper"))] {
            assert_eq!(of(&opened, purpose).unwrap(), "validation (opened on 2026-03-01)");
        }
        // Under another name, the rows give it away.
        let other = Opening { data_hash: "dh".into(), ..opening("renamed", Purpose::Development) };
        assert!(of(&[other], None).unwrap().contains("opened on"));
        assert_eq!(standing(&task(false), "", "", &[], None, "").unwrap(), Standing::Validation);
    }

    #[test]
    fn the_log_is_only_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evals/access.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        for name in ["a", "b", "c"] {
            append(&path, opening(name, Purpose::FinalReport)).unwrap();
        }
        let openings = read(&path).unwrap();
        assert_eq!(openings.iter().map(|o| o.task.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (damaged, said) in [
            ([lines[0], lines[2], ""].join("\n"), "line 2"),
            (text.replacen("table 3", "table 4", 1), "line 2"),
            ([lines[1], lines[2], ""].join("\n"), "line 1"),
            (text.trim_end().to_owned(), "cut short"),
            (text.replacen("final_report", "fun", 1), "line 1"),
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains(said), "{said}");
            assert!(
                append(&path, opening("d", Purpose::Development)).is_err(),
                "a damaged log is not continued"
            );
        }
        std::fs::write(&path, &text).unwrap();
        for reason in ["", " ", &"x".repeat(MAX_REASON + 1)] {
            assert!(
                append(&path, Opening { reason: reason.into(), ..opening("d", Purpose::Development) })
                    .is_err()
            );
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn many_processes_may_open_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let path = &path;
                scope.spawn(move || {
                    (0..8).for_each(|_| append(path, opening(name, Purpose::Development)).unwrap())
                });
            }
        });
        assert_eq!(read(&path).unwrap().len(), 32);
    }

    #[test]
    fn hostile_logs_are_errors() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/access");
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            fuzz_access_log(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files >= 5);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            fuzz_access_log(&bytes);
        }
    }
}
