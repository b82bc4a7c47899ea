//! Evaluation between the steps of a training: on the same cores, its cost told, never in the way.

use crate::commands::eval::access::Opens;
use crate::commands::eval::plan::Plan;
use crate::commands::eval::server::ServerArgs;
use crate::commands::eval::watch;
use crate::evaluation::{self, Held, Job, Prepared};
use serde_json::{Value, json};
use smolt_eval::record::{self, Results};
use smolt_eval::stats::schedule::McfSignal;
use smolt_eval::task::Formulation;
use smolt_run::error::Failure;
use smolt_run::{metrics, signal};
use smolt_tensor::Cpu;
use smolt_train::recipe::{PrecisionSetting, Train};
use smolt_train::session::Event;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Events of a run: a checkpoint was evaluated, or could not be.
const EVALUATED: &str = "evaluation";
const FAILED: &str = "evaluation_failed";

/// What a run is evaluated by, and what that has cost.
pub(crate) struct DuringTraining {
    plan: Plan,
    tasks: Vec<Prepared>,
    /// The run's folder.
    run: PathBuf,
    /// Folder of results, one `step-N` for each checkpoint.
    out: PathBuf,
    threads: usize,
    train_steps: u64,
    tokens_per_step: u64,
    begun: Instant,
    seconds: f64,
    failures: usize,
}

impl DuringTraining {
    /// Reads the plan and the rows of its tasks, so that what is wrong with them is told before the first step.
    pub(crate) fn new(
        plan: &Path,
        recipe: &Train,
        run: &Path,
        threads: usize,
    ) -> Result<DuringTraining, Failure> {
        let loaded = Plan::load(plan)?;
        let tasks = evaluation::prepare(&loaded.asked())?;
        if let Some(prepared) = tasks.iter().find(|prepared| prepared.task.held_out) {
            return Err(Failure::bad_input(format!(
                "{}: `{}` is held out for the final report; take it out of `tasks`",
                plan.display(),
                prepared.task.name
            )));
        }
        let t = &recipe.train;
        Ok(DuringTraining {
            plan: loaded,
            tasks,
            run: run.to_owned(),
            out: run.join("evals"),
            threads,
            train_steps: t.train_steps,
            tokens_per_step: (t.global_batch_size * t.sequence_length) as u64,
            begun: Instant::now(),
            seconds: 0.0,
            failures: 0,
        })
    }

    /// Evaluates a checkpoint. What happened comes back as events and as a line for people; a failure is told, not returned.
    pub(crate) fn checkpoint(&mut self, step: u64, folder: &Path) -> (Vec<Event>, String) {
        if !step.is_multiple_of(self.plan.every) && step != self.train_steps {
            return (Vec::new(), String::new());
        }
        let started = Instant::now();
        // A panic is a bug of ours, but not one that may cost somebody a training.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.evaluate(step, folder)));
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::failed("the evaluation panicked")));
        let seconds = started.elapsed().as_secs_f64();
        self.seconds += seconds;
        if let Some(signal) = signal::requested() {
            let line =
                format!("step {step}: {} cut its evaluation short; --resume takes it up", signal.name());
            return (Vec::new(), line);
        }
        let share = self.share();
        match outcome {
            Ok((results, warnings)) => {
                let detail = json!({
                    "step": step, "seconds": seconds, "share_of_wall_time": share,
                    "scores": watch::scores(&results), "warnings": warnings,
                });
                let line = format!("step {step}: {} ({seconds:.1} s)", watch::shown(&results));
                (vec![Event { name: EVALUATED, detail }], line)
            }
            Err(failure) => {
                self.failures += 1;
                let detail = json!({
                    "step": step, "seconds": seconds, "share_of_wall_time": share, "reason": failure.message,
                });
                let line =
                    format!("step {step} could not be evaluated, training goes on: {}", failure.message);
                (vec![Event { name: FAILED, detail }], line)
            }
        }
    }

    /// Evaluates the checkpoint that a run goes on from, unless its events tell of that already: they come last.
    pub(crate) fn resumed(&mut self, step: u64, folder: &Path) -> (Vec<Event>, String) {
        // A log that cannot be read costs little: answers that are there are not asked for again.
        let events = metrics::read(&self.run.join("events.jsonl")).unwrap_or_default();
        let tells = |event: &Value| {
            (event["event"] == EVALUATED || event["event"] == FAILED) && event["detail"]["step"] == step
        };
        if events.iter().any(tells) { (Vec::new(), String::new()) } else { self.checkpoint(step, folder) }
    }

    /// What evaluation cost, for the end of the run.
    pub(crate) fn summary(&self) -> String {
        let failed = if self.failures > 0 { format!(", {} failed", self.failures) } else { String::new() };
        format!(
            "evaluation took {:.1} s, {:.1} % of the wall time{failed}",
            self.seconds,
            100.0 * self.share()
        )
    }

    /// The same for `--json`.
    pub(crate) fn cost(&self) -> serde_json::Value {
        json!({"seconds": self.seconds, "share_of_wall_time": self.share(), "failures": self.failures})
    }

    fn share(&self) -> f64 {
        self.seconds / self.begun.elapsed().as_secs_f64().max(self.seconds).max(1e-9)
    }

    fn evaluate(&mut self, step: u64, folder: &Path) -> Result<(Results, Vec<String>), Failure> {
        let tokens = step.saturating_mul(self.tokens_per_step);
        let held = Held::load(folder, false)?.after(Some(tokens));
        let mut warnings = Vec::new();
        let letters = earlier(&self.out, step);
        for prepared in &mut self.tasks {
            let letters = letters.get(&prepared.task.name).copied();
            let (formulations, against) =
                self.plan.schedule.formulations(&prepared.task, held.parameters(), tokens, letters);
            prepared.formulations = formulations;
            warnings.extend(against);
        }
        let cpu = Cpu::new(self.threads).map_err(|e| Failure::failed(e.to_string()))?;
        let job = Job {
            model: folder.to_owned(),
            server: ServerArgs::default(),
            asked: self.plan.asked(),
            out: Some(self.out.join(format!("step-{step}"))),
            contamination: None,
            opens: Opens::default(),
            precision: PrecisionSetting::Fp32,
            threads: self.threads,
            quiet: true,
        };
        Ok((held.ask(&job, &self.tasks, &cpu)?.whole()?, warnings))
    }
}

/// What lettered options scored.
fn letters(results: &Results) -> impl Iterator<Item = (String, McfSignal)> {
    results.tasks.iter().filter(|result| result.how.formulation == Formulation::MultipleChoice).filter_map(
        |result| {
            let score = result.scores.primary()?;
            let signal = McfSignal { score, chance: result.scores.random_baseline, signal_to_noise: None };
            Some((result.task.clone(), signal))
        },
    )
}

/// What lettered options scored before a step, the newest of each task. Read from the results, so that a resumed run, which
/// may hold some of later steps too, decides as the undisturbed one did.
fn earlier(out: &Path, before: u64) -> BTreeMap<String, McfSignal> {
    let results = folders(out, before).into_iter().filter_map(|path| record::read_results(&path).ok());
    results.flat_map(|results| letters(&results).collect::<Vec<_>>()).collect()
}

/// Folders of the results of steps before one, in their order.
fn folders(out: &Path, before: u64) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let step = |path: PathBuf| {
        let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        (step < before).then_some((step, path))
    };
    let mut folders: Vec<(u64, PathBuf)> = entries.filter_map(|entry| step(entry.path())).collect();
    folders.sort();
    folders.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_earlier_steps_decide_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["step-1000", "step-200", "step-30", "step-1001", "step-x", "watch"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let names = |before| {
            let all = super::folders(dir.path(), before);
            all.iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(1000), ["step-30", "step-200"]);
        assert_eq!(names(1001), ["step-30", "step-200", "step-1000"]);
        assert!(super::folders(&dir.path().join("none"), 9).is_empty());
    }
}
