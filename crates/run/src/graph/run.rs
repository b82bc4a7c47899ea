//! Runs what is not up to date; a killed step is entered again, a changed one starts over.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::{GraphError, Step, keys, order};
use crate::error::FileError;
use crate::{atomic, hash};

/// Of the two state files.
const FORMAT_VERSION: u32 = 1;

const DONE: &str = ".step.json";
const RUNNING: &str = ".step-running.json";

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to its end now.
    Ran,
    /// Its result was there already.
    UpToDate,
}

/// One step's part in a run of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The step.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What it took: now when it ran (since its last interruption), else when it ran.
    pub seconds: f64,
    /// Hash of everything in its folder when it ended.
    pub output: String,
}

/// Brings every step up to date, inputs first; stops at the first error.
///
/// `execute(step, folder, resume)` fills `folder` = `out_dir/<name>`, which exists; `resume` is true when an earlier
/// try with the same key was interrupted and left its work there. `done` hears of each step as it ends. The caller
/// holds the lock on `out_dir` (see [`crate::folder::RunFolder`]).
pub fn run<E: From<GraphError>>(
    steps: &[Step],
    out_dir: &Path,
    mut execute: impl FnMut(&Step, &Path, bool) -> Result<(), E>,
    mut done: impl FnMut(&Report),
) -> Result<Vec<Report>, E> {
    let keys = keys(steps)?;
    let mut reports = Vec::with_capacity(steps.len());
    for index in order(steps)? {
        let (step, key) = (&steps[index], &keys[index]);
        let folder = out_dir.join(&step.name);
        let report = match completed(&folder, key) {
            Some((seconds, output)) => {
                Report { name: step.name.clone(), outcome: Outcome::UpToDate, seconds, output }
            }
            None => {
                let resume = prepare(out_dir, &folder, key)?;
                let start = Instant::now();
                execute(step, &folder, resume)?;
                let seconds = start.elapsed().as_secs_f64();
                let output = complete(&folder, key, seconds)?;
                Report { name: step.name.clone(), outcome: Outcome::Ran, seconds, output }
            }
        };
        done(&report);
        reports.push(report);
    }
    Ok(reports)
}

/// Seconds and output hash of a finished step with this key.
fn completed(folder: &Path, key: &str) -> Option<(f64, String)> {
    let state = state(&folder.join(DONE), key)?;
    Some((state["seconds"].as_f64().unwrap_or(0.0), state["output"].as_str()?.to_owned()))
}

/// A state file that holds `key`; anything else, damaged files too, counts as not there.
fn state(path: &Path, key: &str) -> Option<Value> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(1 << 16).read_to_end(&mut bytes).ok()?;
    let state: Value = serde_json::from_slice(&bytes).ok()?;
    (state["format_version"] == FORMAT_VERSION && state["key"] == key).then_some(state)
}

/// Makes the folder ready; true when the step goes on where it was interrupted.
fn prepare(out_dir: &Path, folder: &Path, key: &str) -> Result<bool, GraphError> {
    let aside = aside(out_dir, folder);
    if aside.exists() {
        remove(&aside)?;
    }
    if state(&folder.join(RUNNING), key).is_some() {
        atomic::remove_temporary(folder)?;
        return Ok(true);
    }
    if folder.exists() {
        let ours = folder.join(DONE).exists() || folder.join(RUNNING).exists();
        let reading = |source| FileError::reading(folder, source);
        // A kill while the step began may have left a temporary file.
        let counts = |entry: &std::io::Result<fs::DirEntry>| {
            !entry.as_ref().is_ok_and(|entry| atomic::is_temporary(&entry.file_name()))
        };
        if !ours && fs::read_dir(folder).map_err(reading)?.any(|entry| counts(&entry)) {
            return Err(GraphError::Foreign(folder.to_owned()));
        }
        // Moved first: a kill while removing must not leave a folder that no longer looks like ours.
        fs::rename(folder, &aside).map_err(|source| FileError::new("move aside", folder, source))?;
        remove(&aside)?;
    }
    fs::create_dir_all(folder).map_err(|source| FileError::new("create folder", folder, source))?;
    let running = json!({ "format_version": FORMAT_VERSION, "key": key });
    atomic::write(&folder.join(RUNNING), format!("{running}\n").as_bytes())?;
    Ok(false)
}

fn complete(folder: &Path, key: &str, seconds: f64) -> Result<String, GraphError> {
    let output = hash::folder_except(folder, &[DONE, RUNNING, ".lock"])?;
    let state = json!({ "format_version": FORMAT_VERSION, "key": key, "output": output, "seconds": seconds });
    atomic::write(&folder.join(DONE), format!("{state:#}\n").as_bytes())?;
    let running = folder.join(RUNNING);
    fs::remove_file(&running).map_err(|source| FileError::new("remove", &running, source))?;
    Ok(output)
}

fn aside(out_dir: &Path, folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    out_dir.join(format!(".old-{name}"))
}

fn remove(folder: &Path) -> Result<(), GraphError> {
    fs::remove_dir_all(folder).map_err(|source| FileError::new("remove", folder, source).into())
}

#[cfg(test)]
mod tests {
    use super::super::step;
    use super::*;

    #[derive(Debug)]
    enum Stop {
        Graph(GraphError),
        Killed,
    }

    impl From<GraphError> for Stop {
        fn from(error: GraphError) -> Self {
            Self::Graph(error)
        }
    }

    fn pipeline(train: i64) -> Vec<Step> {
        vec![
            step("report", json!({}), &["train", "other"]),
            step("data", json!({ "n": 3 }), &[]),
            step("train", json!({ "steps": train }), &["data"]),
            step("other", json!({}), &["data"]),
        ]
    }

    /// Runs the pipeline and tells which steps ran, a `+` for resumed ones.
    fn go(steps: &[Step], out: &Path, kill: Option<&str>) -> (Vec<String>, Result<Vec<Report>, Stop>) {
        let mut ran = Vec::new();
        let result = run(
            steps,
            out,
            |step, folder, resume| {
                assert_eq!(folder, out.join(&step.name));
                ran.push(format!("{}{}", step.name, if resume { "+" } else { "" }));
                fs::write(folder.join("result"), step.settings.to_string()).unwrap();
                if kill == Some(step.name.as_str()) { Err(Stop::Killed) } else { Ok(()) }
            },
            |_| {},
        );
        (ran, result)
    }

    #[test]
    fn only_what_changed_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let (ran, first) = go(&pipeline(5), dir.path(), None);
        assert_eq!(ran, ["data", "train", "other", "report"]);
        let (ran, second) = go(&pipeline(5), dir.path(), None);
        assert!(ran.is_empty());
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(second.iter().all(|report| report.outcome == Outcome::UpToDate));
        assert!(first.iter().zip(&second).all(|(a, b)| (a.seconds, &a.output) == (b.seconds, &b.output)));
        fs::write(dir.path().join("train/stale"), "x").unwrap();
        assert_eq!(go(&pipeline(6), dir.path(), None).0, ["train", "report"]);
        assert!(!dir.path().join("train/stale").exists(), "a changed step starts over");
    }

    #[test]
    fn an_interrupted_step_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (ran, result) = go(&pipeline(5), dir.path(), Some("train"));
        assert!(matches!(result, Err(Stop::Killed)));
        assert_eq!(ran, ["data", "train"]);
        assert_eq!(go(&pipeline(5), dir.path(), Some("train")).0, ["train+"]);
        assert_eq!(go(&pipeline(6), dir.path(), Some("train")).0, ["train"], "other settings start over");
        assert_eq!(go(&pipeline(6), dir.path(), None).0, ["train+", "other", "report"]);
    }

    #[test]
    fn what_a_kill_left_unfinished_is_gone() {
        let (killed, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        go(&pipeline(5), killed.path(), Some("train")).1.unwrap_err();
        let folder = killed.path().join("train");
        fs::create_dir_all(folder.join(".tmp-tokenize-1")).unwrap();
        fs::create_dir_all(folder.join("shards")).unwrap();
        for left in [".tmp-1", ".tmp-tokenize-1/encoded.ds", "shards/.tmp-2"] {
            fs::write(folder.join(left), "half").unwrap();
        }
        let (ran, reports) = go(&pipeline(5), killed.path(), None);
        assert_eq!(ran, ["train+", "other", "report"]);
        for left in [".tmp-1", ".tmp-tokenize-1", "shards/.tmp-2"] {
            assert!(!folder.join(left).exists(), "{left}");
        }
        let outputs = |reports: Vec<Report>| reports.into_iter().map(|r| r.output).collect::<Vec<_>>();
        let same = go(&pipeline(5), whole.path(), None).1.unwrap();
        assert_eq!(outputs(reports.unwrap()), outputs(same));
    }

    #[test]
    fn damaged_state_reruns_and_foreign_folders_are_safe() {
        let dir = tempfile::tempdir().unwrap();
        go(&pipeline(5), dir.path(), None).1.unwrap();
        fs::write(dir.path().join("other/.step.json"), b"\xff{").unwrap();
        assert_eq!(go(&pipeline(5), dir.path(), None).0, ["other"]);
        let foreign = tempfile::tempdir().unwrap();
        fs::create_dir(foreign.path().join("data")).unwrap();
        fs::write(foreign.path().join("data/thesis"), "x").unwrap();
        let (ran, result) = go(&pipeline(5), foreign.path(), None);
        assert!(ran.is_empty() && matches!(result, Err(Stop::Graph(GraphError::Foreign(_)))));
        assert!(foreign.path().join("data/thesis").exists());
        // A kill before the step's own mark was there.
        let killed = tempfile::tempdir().unwrap();
        fs::create_dir(killed.path().join("data")).unwrap();
        fs::write(killed.path().join("data/.tmp-x1y2"), "{").unwrap();
        go(&pipeline(5), killed.path(), None).1.unwrap();
        assert!(!killed.path().join("data/.tmp-x1y2").exists());
    }
}
