//! `smolt eval watch`: every checkpoint of a run, evaluated beside the training that writes them.

use super::access::Opens;
use super::plan::{self, Plan, Point};
use super::server::ServerArgs;
use super::{Asked, Precision, report};
use crate::device::DeviceArgs;
use crate::evaluation::{self, Held, Job, Overlap, Prepared};
use crate::output::note;
use crate::{Outcome, output};
use serde_json::json;
use smolt_eval::cost;
use smolt_eval::record::{self, Results};
use smolt_run::error::Failure;
use smolt_run::folder::{RunFolder, in_use};
use smolt_run::metrics::JsonlWriter;
use smolt_run::{recipe, signal};
use smolt_tensor::Cpu;
use smolt_train::checkpoint;
use smolt_train::recipe::{PrecisionSetting, Train};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A folder may take a while to vanish once its removal began: so many looks, so far apart. Counted, since a busy machine that
/// holds up the watcher holds up the removal too.
const LOOKS: usize = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// How much of the time between checkpoints an evaluation may take that is proposed.
const ROOM: f64 = 0.8;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run's folder
    run: PathBuf,
    #[command(flatten)]
    asked: Asked,
    /// What to ask and when, as `smolt train --evaluate` takes it, instead of --task and --text
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "text", "every"])]
    plan: Option<PathBuf>,
    /// Look for the items in the data that the run trains on, once
    #[arg(long)]
    contamination: bool,
    #[command(flatten)]
    opens: Opens,
    /// Folder of results, one step-N for each checkpoint [default: RUN/evals]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// End when the checkpoints that are there are done
    #[arg(long, conflicts_with = "stay")]
    once: bool,
    /// Go on waiting when the run has ended
    #[arg(long)]
    stay: bool,
    /// Only steps divisible by N, and the last of a run that has ended
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: u64,
    /// Between looks for new checkpoints
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    interval: f64,
    /// Which of several checkpoints that wait
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    order: Order,
    /// fp32, bf16, or the faster one here
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Print a line of JSON for each checkpoint
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Newest,
    Oldest,
}

/// How long an evaluation took.
#[derive(Clone, Copy)]
struct Took {
    /// Until the first question.
    loading: Duration,
    all: Duration,
}

/// A run and how far its evaluation is.
struct Watcher<'a> {
    args: &'a Args,
    asked: Asked,
    /// When which formulation is asked, where a plan says it.
    plan: Option<Plan>,
    every: u64,
    out: PathBuf,
    tasks: Vec<Prepared>,
    overlap: Overlap,
    cpu: Cpu,
    log: JsonlWriter,
    /// Steps that are done, or cannot be.
    settled: BTreeSet<u64>,
    /// Steps that waited at the last look.
    waiting: BTreeSet<u64>,
    /// Checkpoints that waited after the last evaluation.
    backlog: usize,
}

pub(super) fn run(args: &Args) -> Outcome {
    let plan = args.plan.as_deref().map(Plan::load).transpose()?;
    let asked = plan.as_ref().map_or_else(|| args.asked.clone(), Plan::asked);
    if asked.task.is_empty() && asked.text.is_empty() {
        return Err(Failure::bad_input(
            "nothing to ask: give --task NAME, a suite or a file, --text FILE, or --plan FILE",
        ));
    }
    if args.every == 0 || !(0.01..=86_400.0).contains(&args.interval) {
        return Err(Failure::bad_input("--every is at least 1, --interval between 0.01 and 86400 seconds"));
    }
    if !args.run.is_dir() {
        return Err(Failure::bad_input(format!(
            "{}: there is no such run; start it first",
            args.run.display()
        )));
    }
    signal::install().map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
    let out = args.out.clone().unwrap_or_else(|| args.run.join("evals"));
    let tasks = evaluation::prepare(&asked)?;
    let cpu = args.device.cpu()?;
    let wanted = args.contamination || plan.as_ref().is_some_and(|plan| plan.contamination);
    let overlap = Overlap::of_run(&args.run, &asked, cpu.pool.threads(), wanted)?;
    // Held until the end: two watchers would write the same results.
    let folder = RunFolder::create_or_resume(&out, true)?;
    let log = JsonlWriter::append(&folder.join("watch.jsonl"))?;
    let (settled, waiting) = (BTreeSet::new(), BTreeSet::new());
    let every = plan.as_ref().map_or(args.every, |plan| plan.every);
    let watcher =
        Watcher { args, asked, plan, every, out, tasks, overlap, cpu, log, settled, waiting, backlog: 0 };
    let ended = watcher.watch();
    drop(folder);
    ended
}

impl Watcher<'_> {
    fn watch(mut self) -> Outcome {
        loop {
            if let Some(signal) = signal::requested() {
                return Ok(ExitCode::from(signal.exit_code()));
            }
            // Asked before the look: a run that ends in between is found to have ended at the next one.
            let running = in_use(&self.args.run);
            let pending = self.pending(running)?;
            let next = match self.args.order {
                Order::Newest => pending.last(),
                Order::Oldest => pending.first(),
            };
            match next {
                Some((step, path)) => self.evaluate(*step, path, running)?,
                None if self.args.once || !(running || self.args.stay) => return Ok(ExitCode::SUCCESS),
                None => wait(Duration::from_secs_f64(self.args.interval)),
            }
        }
    }

    /// Checkpoints that count and are not settled, in order of step. Those that were pruned meanwhile are told.
    fn pending(&mut self, running: bool) -> Result<Vec<(u64, PathBuf)>, Failure> {
        let all = self.list()?;
        let last = all.last().map(|(step, _)| *step);
        let every = self.every;
        let counts = |step: u64| step.is_multiple_of(every) || (!running && Some(step) == last);
        let mut pending = Vec::new();
        for (step, path) in all.into_iter().filter(|(step, _)| counts(*step)) {
            if !self.settled.contains(&step) && self.is_done(step, &path) {
                self.settled.insert(step);
            }
            if !self.settled.contains(&step) {
                pending.push((step, path));
            }
        }
        let now: BTreeSet<u64> = pending.iter().map(|(step, _)| *step).collect();
        let pruned: Vec<u64> =
            self.waiting.difference(&now).filter(|s| !self.settled.contains(s)).copied().collect();
        for step in pruned {
            self.pass_over(step, "it was pruned before its turn came");
        }
        self.waiting = now;
        Ok(pending)
    }

    fn list(&self) -> Result<Vec<(u64, PathBuf)>, Failure> {
        checkpoint::list(&self.args.run).map_err(|e| Failure::bad_input(e.to_string()))
    }

    fn results(&self, step: u64) -> PathBuf {
        self.out.join(format!("step-{step}"))
    }

    /// Whether the results of a step answer everything that is asked, to the end of their report. Results of weights that
    /// lay elsewhere may be another run's: that is found out where they are gone on with.
    fn is_done(&self, step: u64, path: &Path) -> bool {
        let folder = self.results(step);
        let Ok(results) = record::read_results(&folder) else { return false };
        let precision = PrecisionSetting::from(self.args.precision).resolve(self.cpu.isa);
        if Path::new(&results.model.path) != path
            || results.model.precision != evaluation::name_of(precision)
            || !folder.join(report::FILE).exists()
        {
            return false;
        }
        let asked = &self.asked;
        let letters = plan::letters_before(&self.out, step);
        let answered = |prepared: &Prepared| {
            let hash = record::task_hash(&prepared.task);
            let (parameters, tokens) = (results.model.parameters, results.model.tokens_seen);
            let at =
                Point { parameters: parameters.unwrap_or(0), tokens: tokens.unwrap_or(0), letters: &letters };
            let planned = self.plan.as_ref().map(|plan| plan.formulations(&prepared.task, at).0);
            let formulations = planned.unwrap_or_else(|| prepared.formulations.clone());
            formulations.iter().all(|&formulation| {
                results.tasks.iter().any(|result| {
                    result.task_hash == hash
                        && result.dataset.same_rows(&prepared.loaded.provenance)
                        && result.how == asked.how(formulation)
                        && result.few_shot == prepared.task.few_shot.count
                        && result.limit == asked.limit()
                })
            })
        };
        let read = |path: &PathBuf| results.texts.iter().any(|text| Path::new(&text.path) == path);
        self.tasks.iter().all(answered) && asked.texts().iter().all(read)
    }

    fn evaluate(&mut self, step: u64, path: &Path, running: bool) -> Result<(), Failure> {
        let started = Instant::now();
        // All of it is in memory before anything is asked: training may remove the folder at any time.
        let held = match self.load(path) {
            Ok(held) => held,
            Err(_) if vanishes(LOOKS, || Ok(self.list()?.iter().any(|(there, _)| *there == step)))? => {
                self.pass_over(step, "it was pruned while it was read");
                return Ok(());
            }
            Err(failure) => {
                self.pass_over(step, &failure.message);
                return Ok(());
            }
        };
        if let Some(plan) = &self.plan {
            let letters = plan::letters_before(&self.out, step);
            let at = Point { parameters: held.parameters(), tokens: held.tokens(), letters: &letters };
            plan.schedule(&mut self.tasks, at).iter().for_each(|warning| note!("step {step}: {warning}"));
        }
        let loading = started.elapsed();
        let job = Job {
            model: path.to_owned(),
            server: ServerArgs::default(),
            asked: self.asked.clone(),
            out: Some(self.results(step)),
            contamination: self.overlap.clone(),
            opens: self.args.opens.clone(),
            precision: self.args.precision.into(),
            threads: self.cpu.pool.threads(),
            quiet: self.args.json,
            tells_cost: false,
        };
        let results = held.ask(&job, &self.tasks, &self.cpu)?.whole()?;
        if signal::requested().is_some() && !self.is_done(step, path) {
            // The rest is asked when the watcher is started again.
            return Ok(());
        }
        self.settled.insert(step);
        self.tell(step, &results, Took { loading, all: started.elapsed() }, running)
    }

    fn load(&self, path: &Path) -> Result<Held, Failure> {
        let state = checkpoint::verify(path).map_err(|e| Failure::bad_input(e.to_string()))?;
        let held = Held::load(path, self.asked.chat)?;
        held.check(&self.cpu)?;
        let recipe = recipe::load::<Train>(&self.args.run.join("recipe.lock.toml"), &[]).ok();
        let tokens = recipe.and_then(|r| state.next_sample.checked_mul(r.train.sequence_length as u64));
        Ok(held.after(tokens))
    }

    fn pass_over(&mut self, step: u64, why: &str) {
        self.settled.insert(step);
        note!("step {step} is passed over: {why}");
    }

    /// Logs what an evaluation cost and scored, and warns when checkpoints come faster than they are evaluated.
    fn tell(&mut self, step: u64, results: &Results, took: Took, running: bool) -> Result<(), Failure> {
        let gap = self.gap()?;
        let backlog = self.pending(running)?.len();
        let limit = gap.and_then(|gap| limit(results, took, gap));
        let took = took.all;
        let late = || overtaken(took.as_secs_f64(), gap, backlog, self.backlog, limit);
        let warning = running.then(late).flatten();
        self.backlog = backlog;
        if let Some(warning) = &warning {
            note!("{warning}");
        }
        let line = json!({
            "time": evaluation::now(), "step": step, "seconds": took.as_secs_f64(), "backlog": backlog,
            "scores": scores(results), "warning": warning,
        });
        self.log.write(&line)?;
        match self.args.json {
            true => output::line(&line),
            false => output::line(format_args!(
                "step {step}: {} ({:.1} s, {backlog} waiting)",
                shown(results),
                took.as_secs_f64()
            )),
        }
        Ok(())
    }

    /// Seconds between the two newest checkpoints that count.
    fn gap(&self) -> Result<Option<f64>, Failure> {
        let all = self.list()?;
        let counted = all.iter().rev().filter(|(step, _)| step.is_multiple_of(self.every)).take(2);
        let times: Option<Vec<_>> =
            counted.map(|(_, path)| path.metadata().and_then(|data| data.modified()).ok()).collect();
        Ok(match times.as_deref() {
            Some([newest, before]) => newest.duration_since(*before).ok().map(|gap| gap.as_secs_f64()),
            _ => None,
        })
    }
}

/// Whether a checkpoint is being removed, or gone: a folder is emptied before it goes.
fn vanishes(looks: usize, mut is_there: impl FnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
    for _ in 0..looks {
        if !is_there()? {
            return Ok(true);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(false)
}

/// Primary scores by task and formulation, and bits per byte of texts.
pub(crate) fn scores(results: &Results) -> serde_json::Map<String, serde_json::Value> {
    let tasks = results.tasks.iter().filter_map(|result| {
        let score = result.scores.primary()?;
        Some((
            result.name(),
            json!({"metric": result.scores.primary, "value": score.value, "stderr": score.stderr}),
        ))
    });
    let texts = results.texts.iter().map(|text| {
        (
            text.path.clone(),
            json!({"metric": "bits_per_byte", "value": text.bits_per_byte, "stderr": text.stderr}),
        )
    });
    tasks.chain(texts).collect()
}

/// The same for people.
pub(crate) fn shown(results: &Results) -> String {
    let tasks = results.tasks.iter().filter_map(|result| {
        let score = result.scores.primary()?;
        Some(format!("{} {:.1} ± {:.1}", result.name(), 100.0 * score.value, 100.0 * score.stderr))
    });
    let texts =
        results.texts.iter().map(|text| format!("{} {:.4} bits per byte", text.path, text.bits_per_byte));
    tasks.chain(texts).collect::<Vec<_>>().join(", ")
}

/// The most items of each task with which an evaluation takes no more than [`ROOM`] of the time between checkpoints, by what each
/// task took (spec PEV-20). Questions and records are made beside the asking, of as many items.
fn limit(results: &Results, took: Took, gap: f64) -> Option<usize> {
    let asking: f64 = results.tasks.iter().map(|task| task.seconds).sum();
    let (loading, rest) = (took.loading.as_secs_f64(), (took.all - took.loading).as_secs_f64());
    let share = (rest / asking).max(1.0);
    let tasks = results.tasks.iter().map(|task| (task.scores.items, share * task.seconds));
    cost::fitting(&tasks.collect::<Vec<_>>(), loading, ROOM * gap)
}

/// What to say when evaluation falls behind the training (spec REF-02): it takes longer than the checkpoints are apart, and
/// more of them wait than before. `limit`: items per task that would not.
fn overtaken(
    seconds: f64,
    gap: Option<f64>,
    backlog: usize,
    before: usize,
    limit: Option<usize>,
) -> Option<String> {
    let gap = gap.filter(|&gap| seconds > gap && backlog > before)?;
    let fewer = match limit {
        // The binomial error where it is largest, at one half.
        Some(limit) => format!(
            "--limit {limit} would take about {:.1} s, each score with an error of up to {:.1} points",
            ROOM * gap,
            50.0 / (limit as f64).sqrt()
        ),
        None => "--limit".into(),
    };
    Some(format!(
        "evaluation falls behind: it takes {seconds:.1} s, checkpoints come every {gap:.1} s, {backlog} wait; ask fewer \
         items ({fewer}), give it more cores (--threads), or leave checkpoints out (--every)"
    ))
}

/// Waits, but not on after a signal.
fn wait(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time && signal::requested().is_none() {
        std::thread::sleep(Duration::from_millis(100).min(time));
    }
}

#[cfg(test)]
mod tests {
    use super::{overtaken, vanishes};

    #[test]
    fn what_is_half_removed_is_looked_at_again() {
        let mut looks = 0;
        let mut there_until = |last: usize| {
            looks = 0;
            vanishes(3, || {
                looks += 1;
                Ok(looks <= last)
            })
            .unwrap()
        };
        assert!(there_until(0) && there_until(2));
        assert!(!there_until(3));
        assert!(vanishes(3, || Err(smolt_run::error::Failure::failed("x"))).is_err());
    }

    #[test]
    fn falling_behind_is_told_with_advice() {
        let late = |seconds, gap, backlog| overtaken(seconds, gap, backlog, 1, Some(400));
        let said = late(12.0, Some(5.0), 3).unwrap();
        assert!(
            [
                "12.0 s",
                "5.0 s",
                "3 wait",
                "--limit 400 would take about 4.0 s",
                "2.5 points",
                "--threads",
                "--every"
            ]
            .iter()
            .all(|part| said.contains(part)),
            "{said}"
        );
        assert!(overtaken(12.0, Some(5.0), 3, 1, None).unwrap().contains("items (--limit)"));
        assert_eq!(late(4.0, Some(5.0), 3), None, "fast enough");
        assert_eq!(late(12.0, Some(5.0), 1), None, "the backlog does not grow");
        assert_eq!(late(12.0, None, 3), None, "nothing is known of the rhythm");
    }
}
