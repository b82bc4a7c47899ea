//! Writes a model in version 12 of the format, for fastText and for [`Model::load`].

use std::io::{self, Write};
use std::path::Path;

use super::Error;
use super::model::{Matrix, Model};
use super::read::{MAGIC, SUPERVISED, VERSION};

impl Model {
    /// Writes a dense model, atomically; one that was read quantised cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        self.dense()?;
        Ok(smolt_run::atomic::write_with(path, |mut out| self.write(&mut out))?)
    }

    /// The same, in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.dense()?;
        let mut bytes = Vec::new();
        // A vector takes whatever is written to it.
        let _ = self.write(&mut bytes);
        Ok(bytes)
    }

    fn dense(&self) -> Result<[&[f32]; 2], Error> {
        match (&self.input, &self.output) {
            (Matrix::Dense { values: input, .. }, Matrix::Dense { values: output, .. }) => {
                Ok([input, output])
            }
            _ => Err(Error::Training("a quantised model is written as it was read: copy its file".into())),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_head(out)?;
        for matrix in self.dense().map_err(io::Error::other)? {
            out.write_all(&[0])?;
            out.write_all(&((matrix.len() / self.args.dim) as i64).to_le_bytes())?;
            out.write_all(&(self.args.dim as i64).to_le_bytes())?;
            for value in matrix {
                out.write_all(&value.to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn write_head(&self, out: &mut impl Write) -> io::Result<()> {
        let args = &self.args;
        let values = [
            MAGIC,
            VERSION,
            args.dim as i32,
            args.window,
            args.epochs,
            args.min_count,
            args.negatives,
            args.word_ngrams as i32,
            args.loss as i32,
            SUPERVISED,
            args.bucket as i32,
            args.minn as i32,
            args.maxn as i32,
            args.lr_update_rate,
        ];
        for value in values {
            out.write_all(&value.to_le_bytes())?;
        }
        out.write_all(&args.sampling.to_le_bytes())?;
        let dictionary = &self.dictionary;
        for count in [dictionary.entries.len(), dictionary.words, dictionary.labels().len()] {
            out.write_all(&(count as i32).to_le_bytes())?;
        }
        out.write_all(&dictionary.tokens.to_le_bytes())?;
        out.write_all(&(-1i64).to_le_bytes())?;
        for (place, entry) in dictionary.entries.iter().enumerate() {
            out.write_all(&entry.word)?;
            out.write_all(&[0])?;
            out.write_all(&entry.count.to_le_bytes())?;
            out.write_all(&[u8::from(place >= dictionary.words)])?;
        }
        Ok(())
    }
}
