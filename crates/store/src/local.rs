//! Files of this machine: listing and reading.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use smolt_run::error::FileError;

use crate::glob::{self, Glob};
use crate::store::Entry;
use crate::{Address, Error, ReadAt};

/// Folders within folders beyond this are a mistake (or a loop of links).
const DEEPEST: usize = 64;

pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let reading = |source| Error::from(FileError::reading(path, source));
    let file = File::open(path).map_err(reading)?;
    if file.metadata().map_err(reading)?.is_dir() {
        return Err(reading(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, not a file")));
    }
    Ok(file)
}

pub(crate) fn size(path: &Path) -> Result<u64, Error> {
    Ok(open(path)?.metadata().map_err(|source| FileError::reading(path, source))?.len())
}

/// A local file read at offsets.
pub(crate) struct LocalAt {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
    path: PathBuf,
    size: u64,
}

impl LocalAt {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = open(path)?;
        let size = file.metadata().map_err(|source| FileError::reading(path, source))?.len();
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(Self { file, path: path.to_owned(), size })
    }

    #[cfg(unix)]
    fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.file.read_exact_at(out, offset)
    }

    #[cfg(not(unix))]
    fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(out)
    }
}

impl ReadAt for LocalAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.fill(offset, out).map_err(|source| FileError::reading(&self.path, source).into())
    }
}

/// The file itself, all files below a folder, or those that a pattern matches; unsorted.
pub(crate) fn list(path: &Path) -> Result<Vec<Entry>, Error> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => walk(path, None),
        Ok(found) => Ok(vec![Entry { address: Address::local(path), size: found.len() }]),
        Err(error) => {
            let pattern = path.to_str().filter(|text| glob::is_glob(text));
            let Some(pattern) = pattern else { return Err(FileError::reading(path, error).into()) };
            let (folder, rest) = glob::split(pattern);
            walk(Path::new(folder), Some(rest))
        }
    }
}

fn walk(folder: &Path, pattern: Option<&str>) -> Result<Vec<Entry>, Error> {
    let depth = pattern.and_then(glob::depth).unwrap_or(DEEPEST);
    let mut walk = Walk { glob: pattern.map(Glob::new), depth, above: Vec::new(), found: Vec::new() };
    walk.folder(folder, "")?;
    if walk.found.is_empty() {
        let shown = pattern.map_or_else(|| folder.to_owned(), |pattern| folder.join(pattern));
        let nothing = io::Error::new(io::ErrorKind::NotFound, "no file is there");
        return Err(FileError::reading(&shown, nothing).into());
    }
    Ok(walk.found)
}

struct Walk {
    glob: Option<Glob>,
    depth: usize,
    /// The real folders that the walk is in, so that a link to one of them does not go round for ever.
    above: Vec<PathBuf>,
    found: Vec<Entry>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, relative: &str) -> Result<(), Error> {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let reading = |source| Error::from(FileError::reading(here, source));
        let real = fs::canonicalize(here).map_err(reading)?;
        if self.above.contains(&real) {
            return Ok(());
        }
        if self.above.len() > DEEPEST {
            return Err(reading(io::Error::other(format!("more than {DEEPEST} folders deep"))));
        }
        self.above.push(real);
        for entry in fs::read_dir(here).map_err(reading)? {
            let name = entry.map_err(reading)?.file_name();
            let beneath = format!("{relative}{}", name.to_string_lossy());
            if glob::is_hidden(&beneath) {
                continue;
            }
            let path = folder.join(&name);
            let found =
                fs::metadata(&path).map_err(|source| Error::from(FileError::reading(&path, source)))?;
            self.entry(path, &beneath, &found)?;
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, relative: &str, found: &Metadata) -> Result<(), Error> {
        if found.is_dir() {
            if self.above.len() <= self.depth {
                self.folder(&path, &format!("{relative}/"))?;
            }
        } else if found.is_file() && self.glob.as_ref().is_none_or(|glob| glob.matches(relative)) {
            self.found.push(Entry { address: Address::local(path), size: found.len() });
        }
        Ok(())
    }
}
