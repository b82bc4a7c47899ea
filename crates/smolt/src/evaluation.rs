//! Asks tasks of a model folder and keeps what came of it.

pub(crate) mod cost;
mod describe;
mod keep;
mod table;

pub(crate) use table::table;

use crate::commands::eval::Asked;
use crate::commands::eval::access::{Opener, Opens};
use crate::commands::eval::server::ServerArgs;
use crate::contamination::{Corpus, Search, measure};
use crate::model_folder::{ModelFolder, RopeArgs};
use describe::describe;
use keep::keep;
use smolt_eval::access::Standing;
use smolt_eval::contamination::Contamination;
use smolt_eval::dataset::{self, Loaded};
use smolt_eval::evaluate::{self, EvaluateError, How, evaluate, summarise};
use smolt_eval::model::Model;
use smolt_eval::model::encoder::Encoder;
use smolt_eval::model::journal::Journal;
use smolt_eval::model::local::LocalModel;
use smolt_eval::reading::{self, Reading};
use smolt_eval::record::{self, ModelRecord, Results, TaskResult};
use smolt_eval::stats::subset;
use smolt_eval::task::pose::{Item, pose};
use smolt_eval::task::{Formulation, Task};
use smolt_run::error::{Exit, Failure, FileError};
use smolt_run::folder::RunFolder;
use smolt_run::progress::Progress;
use smolt_run::{hash, resources, signal};
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::template::ChatTemplate;
use smolt_train::recipe::PrecisionSetting;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Words of the n-grams by which contamination is told: FineMath's and open-r1's.
const LENGTHS: [u32; 2] = [13, 8];

/// An evaluation.
pub(crate) struct Job {
    /// A folder; empty where a server is asked.
    pub(crate) model: PathBuf,
    pub(crate) server: ServerArgs,
    pub(crate) asked: Asked,
    pub(crate) out: Option<PathBuf>,
    /// What of the items lies in training data.
    pub(crate) contamination: Overlap,
    /// Whether held-out benchmarks may be opened.
    pub(crate) opens: Opens,
    pub(crate) precision: PrecisionSetting,
    pub(crate) threads: usize,
    pub(crate) quiet: bool,
    /// Say what it takes before the first question.
    pub(crate) tells_cost: bool,
}

/// What of the items lies in training data, by task.
pub(crate) type Found = BTreeMap<String, Contamination>;

/// Whether anyone looks for the items in training data.
#[derive(Clone)]
pub(crate) enum Overlap {
    /// Nobody does.
    Unknown,
    /// In that of a run.
    Of(PathBuf),
    /// It was found before: one search serves all checkpoints of a run.
    Known(Arc<Found>),
}

impl Overlap {
    /// Looks once for what is asked in a run's training data, if `wanted`.
    pub(crate) fn of_run(
        run: &Path,
        asked: &Asked,
        threads: usize,
        wanted: bool,
    ) -> Result<Overlap, Failure> {
        if !wanted {
            return Ok(Overlap::Unknown);
        }
        Ok(Overlap::Known(Arc::new(Overlap::Of(run.to_owned()).found(asked, threads, true)?)))
    }

    fn found(&self, asked: &Asked, threads: usize, quiet: bool) -> Result<Found, Failure> {
        match self {
            Overlap::Unknown => Ok(Found::new()),
            Overlap::Known(found) => Ok(Found::clone(found)),
            Overlap::Of(run) => {
                measure(&Corpus::of_run(run)?, &Search { asked, lengths: &LENGTHS, threads, quiet })
            }
        }
    }
}

/// A task with its rows, which are read once, however many models are asked.
pub(crate) struct Prepared {
    pub(crate) task: Task,
    pub(crate) formulations: Vec<Formulation>,
    pub(crate) loaded: Loaded,
}

/// A task with its questions in one formulation.
pub(crate) struct Posed<'t> {
    prepared: &'t Prepared,
    formulation: Formulation,
    items: Vec<Item>,
}

impl<'t> Posed<'t> {
    /// Every task in each of its formulations, and why those cannot be posed that cannot.
    fn all(job: &Job, tasks: &'t [Prepared]) -> Result<(Vec<Posed<'t>>, Vec<Failure>), Failure> {
        let (mut all, mut failed) = (Vec::new(), Vec::new());
        for prepared in tasks {
            for &formulation in &prepared.formulations {
                match items(&prepared.task, formulation, &prepared.loaded, job.asked.limit()) {
                    Ok(items) => all.push(Posed { prepared, formulation, items }),
                    Err(failure) if failure.exit == Exit::BadInput => failed.push(failure),
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok((all, failed))
    }

    /// What will be recorded of it, without scores.
    fn result(&self, job: &Job) -> TaskResult {
        let Posed { prepared: Prepared { task, loaded, .. }, formulation, items } = self;
        TaskResult {
            task: task.name.clone(),
            task_hash: record::task_hash(task),
            held_out: task.held_out,
            few_shot: task.few_shot.count,
            how: job.asked.how(*formulation),
            dataset: loaded.provenance.clone(),
            limit: job.asked.limit(),
            scores: summarise(task, *formulation, items, &[]),
            contamination: None,
            standing: Standing::default(),
            seconds: 0.0,
        }
    }
}

/// Why something has no result.
enum Trouble {
    /// It cannot be asked of this model; others may be.
    This(Failure),
    /// No question will be answered any more, such as by a server that is gone.
    All(Failure),
}

impl<E: Into<Failure>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::This(error.into())
    }
}

/// Who is asked.
pub(crate) struct Subject<'m> {
    pub(crate) model: &'m mut dyn Model,
    pub(crate) record: ModelRecord,
    /// What computes.
    pub(crate) machine: String,
}

/// What came of an evaluation.
pub(crate) struct Evaluated {
    pub(crate) results: Results,
    /// Why each task that could not be asked could not.
    failed: Vec<Failure>,
}

impl Evaluated {
    /// The results, if all that was wanted is among them.
    pub(crate) fn whole(self) -> Result<Results, Failure> {
        let Some(first) = self.failed.first() else { return Ok(self.results) };
        // What is wrong with a task's rows is wrong in each of its formulations.
        let mut all: Vec<&str> = self.failed.iter().map(|failure| failure.message.as_str()).collect();
        all.dedup();
        Err(Failure { exit: first.exit, message: all.join("; ") })
    }
}

/// The time, UTC.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Asks everything; what the folder of results already holds is not asked again.
pub(crate) fn run(job: &Job, rope: &RopeArgs) -> Result<Evaluated, Failure> {
    with_subject(job, rope, |tasks, subject| ask_all(job, tasks, subject))
}

/// Says what everything would take, and asks next to nothing.
pub(crate) fn plan(job: &Job, rope: &RopeArgs) -> Result<cost::Suite, Failure> {
    with_subject(job, rope, |tasks, subject| {
        let results = begun(job, subject.record, subject.machine)?;
        let (posed, failed) = Posed::all(job, tasks)?;
        let suite = cost::Suite::new(job, &posed, &results, subject.model);
        Evaluated { results, failed }.whole().map(|_| suite)
    })
}

/// Does something with the tasks and whom they are asked.
fn with_subject<T>(
    job: &Job,
    rope: &RopeArgs,
    work: impl FnOnce(&[Prepared], Subject<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    rope.check(&job.server)?;
    let tasks = prepare(&job.asked)?;
    if let Some(mut model) = job.server.connect()? {
        let (record, machine) = (job.server.describe(&model), "a server's".to_owned());
        return work(&tasks, Subject { model: &mut model, record, machine });
    }
    let held = Held::stretched(&job.model, job.asked.how(Formulation::Cloze).chat, rope)?;
    let cpu = Cpu::new(job.threads).map_err(|e| Failure::bad_input(e.to_string()))?;
    held.lend(job.precision, &cpu, |subject| work(&tasks, subject))
}

/// Reads the rows of every task that is asked.
pub(crate) fn prepare(asked: &Asked) -> Result<Vec<Prepared>, Failure> {
    let prepared = |(task, formulations): (Task, Vec<Formulation>)| {
        let loaded = dataset::load(&task, &asked.sources())?;
        Ok(Prepared { task, formulations, loaded })
    };
    asked.tasks()?.into_iter().map(prepared).collect()
}

/// A model in memory with all that a record says of it, so that its folder may vanish.
pub(crate) struct Held {
    folder: ModelFolder,
    template: Option<ChatTemplate>,
    record: ModelRecord,
    /// Most tokens of a sequence.
    context: usize,
}

impl Held {
    pub(crate) fn load(path: &Path, chat: bool) -> Result<Held, Failure> {
        Held::stretched(path, chat, &RopeArgs::default())
    }

    /// With its RoPE stretched, which makes it another model in the records.
    pub(crate) fn stretched(path: &Path, chat: bool, rope: &RopeArgs) -> Result<Held, Failure> {
        let folder = ModelFolder::stretched(path, rope)?;
        let template = if chat { Some(folder.template()?) } else { None };
        let mut record = describe(&folder)?;
        if let (Some(hash), Some(scaling)) = (&mut record.config_hash, &rope.rope_scaling) {
            *hash = hash::bytes(format!("{hash} {scaling}").as_bytes());
        }
        let context = record.context_length;
        Ok(Held { folder, template, record, context })
    }

    /// Also where it was never trained, as far as it has positions; returns how far that is.
    pub(crate) fn at_any_length(&mut self) -> usize {
        self.context = self.folder.loaded.model.config().longest_sequence();
        self.context
    }

    /// With how many tokens the model has seen.
    pub(crate) fn after(mut self, tokens: Option<u64>) -> Held {
        self.record.tokens_seen = tokens;
        self
    }

    /// Whether it gives a text a likelihood at all: one that diverged does not.
    pub(crate) fn check(&self, cpu: &Cpu) -> Result<(), Failure> {
        let mut model = local(&self.folder, cpu, Precision::Fp32, None);
        reading::read("", &["The sea is calm.".to_owned()], &mut model, &mut |_, _| {})?;
        Ok(())
    }

    pub(crate) fn parameters(&self) -> u64 {
        self.record.parameters.unwrap_or(0)
    }

    /// Tokens it was trained on, where that is known.
    pub(crate) fn tokens(&self) -> u64 {
        self.record.tokens_seen.unwrap_or(0)
    }

    /// From text to its tokens.
    pub(crate) fn encoder(&self) -> Encoder<'_> {
        self.folder.encoder(self.template.as_ref())
    }

    /// Asks everything of it.
    pub(crate) fn ask(&self, job: &Job, tasks: &[Prepared], cpu: &Cpu) -> Result<Evaluated, Failure> {
        self.lend(job.precision, cpu, |subject| ask_all(job, tasks, subject))
    }

    /// Has something asked of it.
    pub(crate) fn lend<T>(
        &self,
        precision: PrecisionSetting,
        cpu: &Cpu,
        ask: impl FnOnce(Subject<'_>) -> T,
    ) -> T {
        let precision = precision.resolve(cpu.isa);
        let model = local(&self.folder, cpu, precision, self.template.as_ref());
        let mut model = LocalModel { context: self.context, ..model };
        let machine =
            format!("{} ({})", resources::cpu_model().unwrap_or_else(|| "unknown CPU".into()), cpu.isa);
        let record = ModelRecord { precision: name_of(precision).into(), ..self.record.clone() };
        ask(Subject { model: &mut model, record, machine })
    }
}

/// A precision as records spell it.
pub(crate) fn name_of(precision: Precision) -> &'static str {
    if precision == Precision::Fp32 { "fp32" } else { "bf16" }
}

/// Asks everything of one model. A signal ends it after the task in hand, a kill at once; what was answered until then is
/// kept. A task that cannot be asked of this model, such as one with answers longer than its context, does not keep the others
/// from it; a server that is gone, or wants nothing of us, does.
pub(crate) fn ask_all(job: &Job, tasks: &[Prepared], subject: Subject<'_>) -> Result<Evaluated, Failure> {
    let Subject { model, record, machine } = subject;
    // Two that write the same results would lose each other's.
    let _folder = job.out.as_deref().map(|out| RunFolder::create_or_resume(out, true)).transpose()?;
    let mut results = begun(job, record, machine)?;
    let found = job.contamination.found(&job.asked, job.threads, job.quiet)?;
    let (posed, mut failed) = Posed::all(job, tasks)?;
    if job.tells_cost && !job.quiet {
        cost::tell(job, &posed, &results, model);
    }
    let mut standings: BTreeMap<&str, Standing> = BTreeMap::new();
    let mut ended = false;
    for posed in &posed {
        if signal::requested().is_some() {
            return Ok(Evaluated { results, failed });
        }
        let name = posed.prepared.task.name.as_str();
        if !standings.contains_key(name) {
            let path = job.server.given().is_none().then_some(job.model.as_path());
            let opener = Opener { path, model: Some(&results.model) };
            standings.insert(name, job.opens.open(&posed.prepared.task, &posed.prepared.loaded, opener)?);
        }
        match ask_task(job, posed, found.get(name), &standings[name], model, &mut results) {
            Ok(()) => {}
            Err(trouble) => ended = trouble.among(&mut failed)?,
        }
        if ended {
            break;
        }
    }
    for path in job.asked.texts().iter().filter(|_| !ended) {
        match read_text(path, model, job.quiet) {
            Ok(text) => {
                results.texts.retain(|known| known.path != text.path);
                results.texts.push(text);
            }
            Err(trouble) => {
                if trouble.among(&mut failed)? {
                    break;
                }
            }
        }
    }
    let nothing = results.tasks.is_empty() && results.texts.is_empty();
    let evaluated = Evaluated { results, failed };
    match &job.out {
        _ if nothing => evaluated.whole().map(|results| Evaluated { results, failed: Vec::new() }),
        Some(out) => keep(out, &evaluated.results).map(|()| evaluated),
        None => Ok(evaluated),
    }
}

impl Trouble {
    /// Puts it among what failed; whether it ends everything. What is nobody's question, such as a full disk, comes back.
    fn among(self, failed: &mut Vec<Failure>) -> Result<bool, Failure> {
        match self {
            Trouble::This(failure) if failure.exit != Exit::BadInput => Err(failure),
            Trouble::This(failure) => {
                failed.push(failure);
                Ok(false)
            }
            Trouble::All(failure) => {
                failed.push(failure);
                Ok(true)
            }
        }
    }
}

/// Results before the first question: what the folder holds of the same model stays there until it is asked anew.
fn begun(job: &Job, model: ModelRecord, machine: String) -> Result<Results, Failure> {
    let before = job.out.as_deref().map(|out| kept(out, &model)).transpose()?.flatten();
    let (tasks, texts) = before.map(|before| (before.tasks, before.texts)).unwrap_or_default();
    Ok(Results {
        format_version: record::FORMAT_VERSION,
        smolt: env!("CARGO_PKG_VERSION").into(),
        date: now(),
        model,
        machine,
        tasks,
        texts,
    })
}

/// Asks a task in one formulation, unless the results hold it already as it is asked now.
fn ask_task(
    job: &Job,
    posed: &Posed<'_>,
    found: Option<&Contamination>,
    standing: &Standing,
    model: &mut dyn Model,
    results: &mut Results,
) -> Result<(), Trouble> {
    let Posed { prepared: Prepared { task, .. }, formulation, items } = posed;
    let mut result = TaskResult { standing: standing.clone(), ..posed.result(job) };
    let place = results.tasks.iter().position(|known| known.name() == result.name());
    let known = place.filter(|&at| results.tasks[at].comparable(&result).is_ok());
    if let (Some(at), Some(out)) = (known, &job.out) {
        let known = &mut results.tasks[at];
        known.standing = standing.clone();
        if let Some(found) = found {
            let samples = record::read_samples(&record::samples_path(out, &task.name, *formulation))?;
            known.contamination = Some(found.clone().with_effect(&known.scores.primary, &samples));
        }
        return Ok(());
    }
    let started = Instant::now();
    let answers = Answers::in_results(job.out.as_deref(), &result.name());
    let asked =
        answers.heard(&results.model, model, |model| Ok(ask(task, items, &result.how, model, job.quiet)))?;
    let samples = match asked {
        Err(error) if error.is_final() => return Err(Trouble::All(error.into())),
        asked => asked?,
    };
    result.scores = summarise(task, *formulation, items, &samples);
    result.seconds = started.elapsed().as_secs_f64();
    let primary = &result.scores.primary;
    result.contamination = found.map(|found| found.clone().with_effect(primary, &samples));
    match place {
        Some(at) => results.tasks[at] = result,
        None => results.tasks.push(result),
    }
    if let Some(out) = &job.out {
        record::write_samples(&record::samples_path(out, &task.name, *formulation), &samples)?;
        record::write_results(out, results)?;
    }
    Ok(answers.forget()?)
}

/// The file that answers go to as they come, where results are kept: a task that was killed goes on with them.
pub(crate) struct Answers(Option<PathBuf>);

impl Answers {
    /// Of a task in a folder of results.
    pub(crate) fn in_results(out: Option<&Path>, task: &str) -> Answers {
        Answers(out.map(|out| record::answers_path(out, task)))
    }

    /// Has something asked of a model, or taken from the file where it holds it.
    pub(crate) fn heard<T>(
        &self,
        record: &ModelRecord,
        model: &mut dyn Model,
        ask: impl FnOnce(&mut dyn Model) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match &self.0 {
            Some(path) => ask(&mut Journal::open(path, record.identity(), model)?),
            None => ask(model),
        }
    }

    /// What was heard stands elsewhere now.
    pub(crate) fn forget(&self) -> Result<(), FileError> {
        let Some(path) = &self.0 else { return Ok(()) };
        std::fs::remove_file(path).map_err(|e| FileError::writing(path, e))?;
        // Gone with the last of them.
        let _ = path.parent().map(std::fs::remove_dir);
        Ok(())
    }
}

fn read_text(path: &Path, model: &mut dyn Model, quiet: bool) -> Result<Reading, Trouble> {
    let documents = smolt_data::format::open(path, &smolt_data::format::ReadOptions::default())?;
    let texts =
        documents.map(|document| Ok(document?.text)).collect::<Result<Vec<_>, smolt_data::Error>>()?;
    let shown = path.display().to_string();
    let mut progress = if quiet { Progress::hidden() } else { Progress::new(texts.len() as u64, &shown) };
    let reading = reading::read(&shown, &texts, model, &mut |done, _| progress.set(done as u64, ""));
    progress.finish();
    match reading {
        Err(error) if error.is_final() => Err(Trouble::All(error.into())),
        reading => Ok(reading?),
    }
}

pub(crate) fn ask(
    task: &Task,
    items: &[Item],
    how: &How,
    model: &mut dyn Model,
    quiet: bool,
) -> Result<Vec<evaluate::Sample>, EvaluateError> {
    let label = format!("{} {}", task.name, how.formulation.name());
    let mut progress: Option<Progress> = None;
    let samples = evaluate(task, items, how, model, &mut |done, total, so_far| {
        let new = || if quiet { Progress::hidden() } else { Progress::new(total as u64, &label) };
        let so_far = so_far.map_or(String::new(), |score| format!("{:.1} % so far", 100.0 * score));
        progress.get_or_insert_with(new).set(done as u64, &so_far);
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(samples)
}

/// The items of a task, or a fixed part of them: nested, so that 100 are among the 1,000 (spec EVL-07).
pub(crate) fn items(
    task: &Task,
    formulation: Formulation,
    loaded: &Loaded,
    limit: Option<usize>,
) -> Result<Vec<Item>, Failure> {
    let mut items = pose(task, formulation, &loaded.rows, loaded.few_shot.as_deref())?;
    if let Some(limit) = limit.filter(|&limit| limit < items.len()) {
        let of = |item: &Item| (item.subset.clone().unwrap_or_default(), item.id.clone());
        let all: Vec<(String, String)> = items.iter().map(of).collect();
        let chosen: BTreeSet<usize> = subset::fixed(&all, limit)?.into_iter().collect();
        let mut at = 0..;
        items.retain(|_| at.next().is_some_and(|at| chosen.contains(&at)));
    }
    Ok(items)
}

pub(crate) fn local<'a>(
    folder: &'a ModelFolder,
    cpu: &'a Cpu,
    precision: Precision,
    template: Option<&'a ChatTemplate>,
) -> LocalModel<'a> {
    LocalModel {
        cpu,
        model: &folder.loaded.model,
        weights: &folder.loaded.weights,
        precision,
        encoder: folder.encoder(template),
        context: folder.loaded.model.config().max_position_embeddings,
    }
}

/// The prompt of the right candidate as it is read, or as it is written where there is no model.
pub(crate) fn shown(folder: Option<&ModelFolder>, item: &Item, how: &How) -> Result<String, Failure> {
    let right = item.answer.unwrap_or(0);
    let Some(folder) = folder else { return Ok(item.prompt(right)) };
    let template = if how.chat { Some(folder.template()?) } else { None };
    let cpu = Cpu::new(1).map_err(|e| Failure::bad_input(e.to_string()))?;
    let model = local(folder, &cpu, Precision::Fp32, template.as_ref());
    Ok(model.shown(&evaluate::prompt(item, how, right), 0)?)
}

/// Results that a folder holds for the same model.
fn kept(out: &Path, model: &ModelRecord) -> Result<Option<Results>, Failure> {
    if !out.join(record::RESULTS).exists() {
        return Ok(None);
    }
    let mut results = record::read_results(out)?;
    if !results.model.is(model) {
        return Err(Failure::bad_input(format!(
            "{} holds results of another model ({}, {}); give another --out",
            out.display(),
            results.model.path,
            results.model.precision
        )));
    }
    if results.model.template_hash != model.template_hash {
        results.tasks.retain(|task| !task.how.chat);
    }
    Ok(Some(results))
}
