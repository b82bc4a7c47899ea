//! Evaluation between the steps of a training: on the same cores, its cost told, never in the way.

use crate::commands::eval::access::Opens;
use crate::commands::eval::plan::{self, Plan, Point};
use crate::commands::eval::server::ServerArgs;
use crate::commands::eval::watch;
use crate::evaluation::{self, Held, Job, Overlap, Prepared};
use serde_json::{Value, json};
use smolt_eval::record::Results;
use smolt_run::error::Failure;
use smolt_run::{metrics, signal};
use smolt_tensor::Cpu;
use smolt_train::recipe::{PrecisionSetting, Train};
use smolt_train::session::Event;
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
    /// What of the items lies in the training data, once it was looked for.
    overlap: Overlap,
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
            overlap: Overlap::Unknown,
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
        let held = Held::load(folder, self.plan.chat)?.after(Some(tokens));
        let letters = plan::letters_before(&self.out, step);
        let at = Point { parameters: held.parameters(), tokens, letters: &letters };
        let warnings = self.plan.schedule(&mut self.tasks, at);
        if let (Overlap::Unknown, true) = (&self.overlap, self.plan.contamination) {
            self.overlap = Overlap::of_run(&self.run, &self.plan.asked(), self.threads, true)?;
        }
        let cpu = Cpu::new(self.threads).map_err(|e| Failure::failed(e.to_string()))?;
        let job = Job {
            model: folder.to_owned(),
            server: ServerArgs::default(),
            asked: self.plan.asked(),
            out: Some(self.out.join(format!("step-{step}"))),
            contamination: self.overlap.clone(),
            opens: Opens::default(),
            precision: PrecisionSetting::Fp32,
            threads: self.threads,
            quiet: true,
            tells_cost: false,
        };
        Ok((held.ask(&job, &self.tasks, &cpu)?.whole()?, warnings))
    }
}
