//! The rows of a task: found in a folder or on the Hub, read, hashed.

use crate::task::Task;
use crate::task::pose::Row;
use serde::{Deserialize, Serialize};
use smolt_data::format::{Body, Format, Input, RandomAccess, ReadOptions, dataset, rows};
use smolt_run::error::{Exit, ExitKind};
use smolt_store::{Address, Environment, ReadAt, Settings, Store, Why};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of one split, at most: a benchmark, not a corpus.
const MAX_ROWS: usize = 2_000_000;

/// The most bytes of a card.
const MAX_CARD: u64 = 4 << 20;

/// Where data sets are looked for.
pub struct Sources {
    /// Folders that hold data sets by name (`NAME` or `OWNER/NAME`), looked into first.
    folders: Vec<PathBuf>,
    /// Whether the network is never touched.
    offline: bool,
    /// The store for what is not local: the Hub's cache alone when offline.
    store: Store,
}

/// What was read; stored with the score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// As the task names it.
    pub path: String,
    /// Where it was found.
    pub found: String,
    /// Revision on the Hub, pinned; none for local data.
    pub revision: Option<String>,
    /// Configuration.
    pub config: Option<String>,
    /// Split.
    pub split: String,
    /// BLAKE3 of the rows that were read.
    pub hash: String,
    /// Rows.
    pub rows: usize,
    /// BLAKE3 of the rows that examples come from, where there are examples and they come from another split.
    #[serde(default)]
    pub few_shot_hash: Option<String>,
}

impl Provenance {
    /// Whether the same rows were asked, with examples from the same. Older records do not say where examples are from.
    pub fn same_rows(&self, other: &Provenance) -> bool {
        self.hash == other.hash && self.same_examples(other)
    }

    /// Whether examples are from the same rows.
    pub fn same_examples(&self, other: &Provenance) -> bool {
        self.few_shot_hash.is_none()
            || other.few_shot_hash.is_none()
            || self.few_shot_hash == other.few_shot_hash
    }
}

/// A data set that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// Reading.
    #[error("task `{task}`: {source}")]
    Data {
        /// The task.
        task: String,
        /// What happened.
        source: smolt_data::Error,
    },
    /// Fetching.
    #[error("task `{task}`: {source}")]
    Store {
        /// The task.
        task: String,
        /// What happened.
        source: smolt_store::Error,
    },
    /// It is not where it should be.
    #[error("task `{task}`: {problem}")]
    Absent {
        /// The task.
        task: String,
        /// What is wrong, and the fix.
        problem: String,
    },
}

impl ExitKind for DatasetError {
    fn exit(&self) -> Exit {
        match self {
            DatasetError::Store { source, .. } => source.exit(),
            DatasetError::Data { source, .. } => source.exit(),
            DatasetError::Absent { .. } => Exit::BadInput,
        }
    }
}

/// The rows of the split that is evaluated, those that examples come from, and where the former came from.
pub struct Loaded {
    /// Rows of `dataset.split`.
    pub rows: Vec<Row>,
    /// Rows of `dataset.few_shot_split`, where it is another.
    pub few_shot: Option<Vec<Row>>,
    /// Of `rows`.
    pub provenance: Provenance,
}

/// Reads what a task needs.
pub fn load(task: &Task, sources: &Sources) -> Result<Loaded, DatasetError> {
    let found = sources.find(task)?;
    let (rows, hash) = read_split(task, sources, &found, &task.dataset.split)?;
    if rows.is_empty() {
        return Err(absent(
            task,
            format!("the split `{}` of {} is empty", task.dataset.split, found.shown()),
        ));
    }
    let other = task.dataset.few_shot_split.as_ref().filter(|split| **split != task.dataset.split);
    let own = task.few_shot.rows().map_err(|problem| absent(task, problem))?;
    let few_shot = match (own, other) {
        _ if task.few_shot.count == 0 => None,
        // The hash of the task is one of its examples, too.
        (Some(rows), _) => Some((rows, None)),
        (None, Some(split)) => {
            let (rows, hash) = read_split(task, sources, &found, split)?;
            Some((rows, Some(hash)))
        }
        (None, None) => None,
    };
    let (few_shot, few_shot_hash) = few_shot.unzip();
    let provenance = Provenance {
        path: task.dataset.path.clone(),
        found: found.shown(),
        revision: found.revision(),
        config: task.dataset.config.clone(),
        split: task.dataset.split.clone(),
        hash,
        rows: rows.len(),
        few_shot_hash: few_shot_hash.flatten(),
    };
    Ok(Loaded { rows, few_shot, provenance })
}

fn absent(task: &Task, problem: String) -> DatasetError {
    DatasetError::Absent { task: task.name.clone(), problem }
}

/// Where a data set lies.
enum Found {
    Folder(PathBuf),
    File(PathBuf),
    Hub(Address),
}

impl Found {
    fn shown(&self) -> String {
        match self {
            Found::Folder(path) | Found::File(path) => path.display().to_string(),
            Found::Hub(address) => address.shown(),
        }
    }

    /// The revision in a pinned address.
    fn revision(&self) -> Option<String> {
        let Found::Hub(address) = self else { return None };
        let shown = address.shown();
        let (_, after) = shown.split_once('@')?;
        Some(after.split('/').next().unwrap_or(after).to_owned())
    }
}

impl Sources {
    /// Folders first, then the Hub; `offline`, what lies in its cache.
    pub fn new(folders: Vec<PathBuf>, offline: bool) -> Sources {
        let environment = Environment::of_process();
        let environment = if offline { environment.offline() } else { environment };
        Sources { folders, offline, store: Store::new(Settings::default(), environment) }
    }

    fn find(&self, task: &Task) -> Result<Found, DatasetError> {
        let path = task.dataset.path.as_str();
        let Some(hub) = path.strip_prefix("hf://datasets/") else {
            if path.contains("://") {
                return Err(absent(
                    task,
                    format!("`{path}`: a data set is a folder, a file or hf://datasets/…"),
                ));
            }
            let local = PathBuf::from(path);
            let candidates = [Some(local.clone()), self.named(path)];
            return candidates.into_iter().flatten().find(|p| p.exists()).map(local_place).ok_or_else(|| {
                absent(
                    task,
                    format!("there is no {}; correct dataset.path, or give --datasets", local.display()),
                )
            });
        };
        if let Some(folder) = self.named(hub) {
            return Ok(local_place(folder));
        }
        let store = |source: smolt_store::Error| match source.why() {
            Some(Why::Offline) if self.offline => absent(task, self.nowhere(hub)),
            _ => DatasetError::Store { task: task.name.clone(), source },
        };
        let address: Address = format!("{path}@{}", task.dataset.revision).parse().map_err(store)?;
        Ok(Found::Hub(self.store.pin(&address).map_err(store)?))
    }

    fn nowhere(&self, hub: &str) -> String {
        let looked: Vec<String> = self.folders.iter().map(|f| f.display().to_string()).collect();
        format!(
            "offline, and `{hub}` is neither in the cache of the Hub nor in a folder of --datasets ({}); put it there as {}",
            if looked.is_empty() { "none given".into() } else { looked.join(", ") },
            hub.rsplit('/').next().unwrap_or(hub)
        )
    }

    /// A folder or file of that name below one of the folders: by the last part of the name, or all of it.
    fn named(&self, name: &str) -> Option<PathBuf> {
        let safe = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let last = name.rsplit('/').next().unwrap_or(name);
        let places = self.folders.iter().flat_map(|folder| [folder.join(name), folder.join(last)]);
        places.into_iter().find(|place| safe && place.exists())
    }
}

fn local_place(path: PathBuf) -> Found {
    if path.is_dir() { Found::Folder(path) } else { Found::File(path) }
}

fn read_split(
    task: &Task,
    sources: &Sources,
    found: &Found,
    split: &str,
) -> Result<(Vec<Row>, String), DatasetError> {
    let data = |source| DatasetError::Data { task: task.name.clone(), source };
    let config = task.dataset.config.as_deref();
    let inputs = match found {
        Found::File(path) => vec![Input::open(path).map_err(data)?],
        Found::Folder(folder) => {
            let files = dataset::files(folder, config, split).map_err(data)?;
            files.iter().map(|file| Input::open(file)).collect::<Result<_, _>>().map_err(data)?
        }
        Found::Hub(address) => hub_inputs(task, &sources.store, address, split)?,
    };
    let mut all = Vec::new();
    let mut hasher = blake3::Hasher::new();
    for input in inputs {
        let format = Format::of_name(&input.name).unwrap_or(Format::Jsonl);
        for row in rows(input, format, &ReadOptions::default()).map_err(data)? {
            let row = row.map_err(data)?;
            hasher.update(serde_json::to_string(&row).unwrap_or_default().as_bytes());
            all.push(row);
            if all.len() > MAX_ROWS {
                return Err(absent(task, format!("the split `{split}` has more than {MAX_ROWS} rows")));
            }
        }
    }
    Ok((all, hasher.finalize().to_hex()[..16].to_owned()))
}

/// The files of a split on the Hub; they lie in its cache when this returns.
fn hub_inputs(task: &Task, store: &Store, root: &Address, split: &str) -> Result<Vec<Input>, DatasetError> {
    let failed = |source| DatasetError::Store { task: task.name.clone(), source };
    let names: Vec<String> = store
        .list(root)
        .map_err(failed)?
        .iter()
        .map(|entry| {
            let shown = entry.address.shown();
            shown.strip_prefix(&root.shown()).unwrap_or(&shown).trim_start_matches('/').to_owned()
        })
        .collect();
    let card = match names.iter().any(|name| name == "README.md") {
        true => Some(read_card(store, &root.join("README.md").map_err(failed)?).map_err(failed)?),
        false => None,
    };
    let data: Vec<String> = names.into_iter().filter(|name| dataset::is_data(name)).collect();
    let chosen = dataset::choose(data, card.as_deref(), task.dataset.config.as_deref(), split)
        .map_err(|problem| absent(task, format!("{}: {problem}", root.shown())))?;
    let open = |name: &String| {
        let address = root.join(name)?;
        let bytes = store.open_at(&address)?;
        Ok(Input { name: address.shown().into(), body: Body::Random(Arc::new(Remote(bytes))) })
    };
    chosen.iter().map(|name| open(name).map_err(failed)).collect()
}

/// The text of a data set's card, or its beginning.
fn read_card(store: &Store, address: &Address) -> Result<String, smolt_store::Error> {
    let bytes = store.open_at(address)?;
    let mut card = vec![0; bytes.size().min(MAX_CARD) as usize];
    bytes.read_at(0, &mut card)?;
    Ok(String::from_utf8_lossy(&card).into_owned())
}

/// Bytes in the cache of the Hub.
struct Remote(Box<dyn ReadAt>);

impl RandomAccess for Remote {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, buffer).map_err(Into::into)
    }
}
