//! A batch of a leaf column, and where in it a row has come to.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{DataType, Int96};
use parquet::schema::types::ColumnDescriptor;

/// Why a row cannot be put together: what its columns say does not fit.
#[derive(Debug)]
pub(super) struct Disagree;

/// A leaf column of a row group, a batch of rows at a time.
///
/// Levels and values are the file's word: nothing is taken for granted that the library does not check.
pub(super) struct Column {
    max_definition: i16,
    repeated: bool,
    values: Box<dyn Values>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// Levels of the batch.
    levels: usize,
    /// The next level and the next value, and the end of the row's levels.
    at: usize,
    value: usize,
    end: usize,
}

impl Column {
    pub(super) fn new(column: &ColumnDescriptor, reader: ColumnReader) -> Self {
        Self {
            max_definition: column.max_def_level(),
            repeated: column.max_rep_level() > 0,
            values: values(reader),
            definitions: Vec::new(),
            repetitions: Vec::new(),
            levels: 0,
            at: 0,
            value: 0,
            end: 0,
        }
    }

    /// Passes over rows.
    pub(super) fn skip(&mut self, rows: usize) -> Result<(), String> {
        match self.values.skip(rows)? {
            skipped if skipped == rows => Ok(()),
            skipped => Err(format!("a column ends after {skipped} rows")),
        }
    }

    /// Replaces the batch by the next rows; returns how many there were.
    pub(super) fn fill(&mut self, rows: usize) -> Result<usize, String> {
        self.definitions.clear();
        self.repetitions.clear();
        (self.at, self.value, self.end) = (0, 0, 0);
        let (rows, levels) = self.values.fill(rows, &mut self.definitions, &mut self.repetitions)?;
        self.levels = levels;
        Ok(rows)
    }

    /// Goes to the next row, whatever is left of the one before.
    pub(super) fn start_row(&mut self) -> Result<(), Disagree> {
        while self.at < self.end {
            self.pass();
        }
        if self.at == self.levels {
            return Err(Disagree);
        }
        let rest = self.repetitions.get(self.at + 1..).unwrap_or_default();
        let goes_on = if self.repeated { rest.iter().take_while(|&&level| level > 0).count() } else { 0 };
        self.end = self.at + 1 + goes_on;
        Ok(())
    }

    /// Whether the row has nothing more.
    pub(super) fn row_is_done(&self) -> bool {
        self.at == self.end
    }

    /// The definition level of what comes next in the row.
    pub(super) fn definition(&self) -> Result<i16, Disagree> {
        if self.row_is_done() {
            return Err(Disagree);
        }
        Ok(self.level())
    }

    /// The repetition level of what comes next in the row.
    pub(super) fn repetition(&self) -> Option<i16> {
        if self.row_is_done() { None } else { self.repetitions.get(self.at).copied() }
    }

    /// Passes over a level below `defined`: of something that is not there.
    pub(super) fn pass_absent(&mut self, defined: i16) -> Result<(), Disagree> {
        if self.definition()? >= defined {
            return Err(Disagree);
        }
        self.pass();
        Ok(())
    }

    /// The next value of the row.
    pub(super) fn next(&mut self) -> Result<Raw<'_>, Disagree> {
        if self.definition()? != self.max_definition {
            return Err(Disagree);
        }
        self.pass();
        self.values.get(self.value - 1).ok_or(Disagree)
    }

    fn level(&self) -> i16 {
        // Required columns have no levels.
        if self.max_definition == 0 { 0 } else { self.definitions.get(self.at).copied().unwrap_or(0) }
    }

    fn pass(&mut self) {
        self.value += usize::from(self.level() == self.max_definition);
        self.at += 1;
    }
}

/// A value as the file has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    Bool(bool),
    I32(i32),
    I64(i64),
    I96(&'a Int96),
    F32(f32),
    F64(f64),
    Bytes(&'a [u8]),
    Fixed(&'a [u8]),
}

/// Values of one of Parquet's types.
trait Values: Send {
    fn skip(&mut self, rows: usize) -> Result<usize, String>;
    /// Rows and levels.
    fn fill(
        &mut self,
        rows: usize,
        definitions: &mut Vec<i16>,
        repetitions: &mut Vec<i16>,
    ) -> Result<(usize, usize), String>;
    fn get(&self, at: usize) -> Option<Raw<'_>>;
}

struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    batch: Vec<T::T>,
    as_raw: fn(&T::T) -> Raw<'_>,
}

impl<T: DataType> Values for Typed<T> {
    fn skip(&mut self, rows: usize) -> Result<usize, String> {
        self.reader.skip_records(rows).map_err(|error| error.to_string())
    }

    fn fill(
        &mut self,
        rows: usize,
        definitions: &mut Vec<i16>,
        repetitions: &mut Vec<i16>,
    ) -> Result<(usize, usize), String> {
        self.batch.clear();
        let read = self.reader.read_records(rows, Some(definitions), Some(repetitions), &mut self.batch);
        let (rows, _, levels) = read.map_err(|error| error.to_string())?;
        Ok((rows, levels))
    }

    fn get(&self, at: usize) -> Option<Raw<'_>> {
        self.batch.get(at).map(self.as_raw)
    }
}

fn values(reader: ColumnReader) -> Box<dyn Values> {
    fn typed<T: DataType>(reader: ColumnReaderImpl<T>, as_raw: fn(&T::T) -> Raw<'_>) -> Box<dyn Values> {
        Box::new(Typed { reader, batch: Vec::new(), as_raw })
    }
    match reader {
        ColumnReader::BoolColumnReader(reader) => typed(reader, |&value| Raw::Bool(value)),
        ColumnReader::Int32ColumnReader(reader) => typed(reader, |&value| Raw::I32(value)),
        ColumnReader::Int64ColumnReader(reader) => typed(reader, |&value| Raw::I64(value)),
        ColumnReader::Int96ColumnReader(reader) => typed(reader, |value| Raw::I96(value)),
        ColumnReader::FloatColumnReader(reader) => typed(reader, |&value| Raw::F32(value)),
        ColumnReader::DoubleColumnReader(reader) => typed(reader, |&value| Raw::F64(value)),
        ColumnReader::ByteArrayColumnReader(reader) => typed(reader, |value| Raw::Bytes(value.data())),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            typed(reader, |value| Raw::Fixed(value.data()))
        }
    }
}
