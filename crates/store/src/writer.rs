//! Files that appear whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use smolt_run::atomic::{self, AtomicFile};
use smolt_run::error::FileError;

use crate::Error;

/// A file being written; see [`crate::Store::create`]. Dropped before [`Writer::finish`], it leaves nothing behind.
pub struct Writer(Target);

enum Target {
    Local(AtomicFile),
    #[cfg(feature = "network")]
    Upload(crate::network::Upload),
}

impl Writer {
    pub(crate) fn local(path: &Path) -> Result<Self, Error> {
        let writing = |source| Error::from(FileError::writing(path, source));
        fs::create_dir_all(atomic::parent(path)).map_err(writing)?;
        Ok(Self(Target::Local(AtomicFile::create(path)?)))
    }

    #[cfg(feature = "network")]
    pub(crate) fn upload(upload: crate::network::Upload) -> Self {
        Self(Target::Upload(upload))
    }

    /// Makes the file appear: local files are fsynced and renamed, uploads completed.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {
            Target::Local(file) => Ok(file.commit()?),
            #[cfg(feature = "network")]
            Target::Upload(upload) => upload.finish(),
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Target::Local(file) => file
                .write(bytes)
                .map_err(|source| Error::from(FileError::writing(file.path(), source)).into()),
            #[cfg(feature = "network")]
            Target::Upload(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Local(file) => file.flush(),
            #[cfg(feature = "network")]
            Target::Upload(_) => Ok(()),
        }
    }
}
