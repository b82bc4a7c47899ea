//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use smolt_run::atomic;
use smolt_run::error::FileError;
use tempfile::NamedTempFile;

use crate::Error;

/// A file being written; see [`crate::Store::create`]. Dropped before [`Writer::finish`], it leaves nothing behind.
pub struct Writer(Target);

enum Target {
    Local(LocalFile),
    #[cfg(feature = "network")]
    Upload(crate::network::Upload),
}

struct LocalFile {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Writer {
    pub(crate) fn local(path: &Path) -> Result<Self, Error> {
        let writing = |source| Error::from(FileError::writing(path, source));
        let folder = folder_of(path);
        fs::create_dir_all(folder).map_err(writing)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tmp-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // The umask applies, as for any new file; tempfile's own default (0600) would lock out the user's group.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let out = BufWriter::with_capacity(1 << 16, builder.tempfile_in(folder).map_err(writing)?);
        Ok(Self(Target::Local(LocalFile { out, path: path.to_owned() })))
    }

    #[cfg(feature = "network")]
    pub(crate) fn upload(upload: crate::network::Upload) -> Self {
        Self(Target::Upload(upload))
    }

    /// Makes the file appear: local files are fsynced and renamed, uploads completed.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {
            Target::Local(file) => {
                let path = file.path.clone();
                file.finish().map_err(|source| FileError::writing(&path, source).into())
            }
            #[cfg(feature = "network")]
            Target::Upload(upload) => upload.finish(),
        }
    }
}

impl LocalFile {
    fn finish(self) -> io::Result<()> {
        let temporary = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        File::sync_all(temporary.as_file())?;
        temporary.persist(&self.path).map_err(|error| error.error)?;
        atomic::sync_dir(folder_of(&self.path))
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Target::Local(file) => file
                .out
                .write(bytes)
                .map_err(|source| Error::from(FileError::writing(&file.path, source)).into()),
            #[cfg(feature = "network")]
            Target::Upload(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Local(file) => file.out.flush(),
            #[cfg(feature = "network")]
            Target::Upload(_) => Ok(()),
        }
    }
}
