//! What the end-to-end tests share: running the binary and looking at what it left.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The binary.
pub fn smolt() -> Command {
    Command::new(env!("CARGO_BIN_EXE_smolt"))
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap().join(path)
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(mut command: Command) -> Ran {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Standard output of a success.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }
}

/// A folder that the tests of a file share, made by the first that needs it.
pub struct Place(OnceLock<tempfile::TempDir>, fn(&Path));

impl Place {
    pub const fn new(make: fn(&Path)) -> Place {
        Place(OnceLock::new(), make)
    }

    pub fn path(&'static self) -> &'static Path {
        let made = self.0.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            (self.1)(dir.path());
            dir
        });
        made.path()
    }
}

/// Runs `smolt ARGS`.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let mut command = smolt();
    command.args(args);
    Ran::of(command)
}

/// `--set a=b` for each.
pub fn sets(settings: &[&str]) -> Vec<String> {
    settings.iter().flat_map(|s| ["--set".to_string(), (*s).to_string()]).collect()
}

/// Every file of a folder by name.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.extend(self::files(&path).into_iter().map(|(n, b)| (format!("{name}/{n}"), b)));
        } else {
            files.insert(
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            );
        }
    }
    files
}

/// Steps that have a checkpoint, in order.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let mut steps: Vec<u64> = entries
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Changes one bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}
