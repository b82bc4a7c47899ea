//! CSV and TSV: a header, then a row per document; quoted fields may hold line ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde_json::Value;

use super::json::metadata_key;
use super::jsonl::BYTE_ORDER_MARK;
use super::source::Input;
use super::{ReadDocument, ReadOptions};
use crate::document::Document;
use crate::error::{Error, Fault, Place};

/// How much is read at a time.
const CHUNK: usize = 1 << 17;

/// The most columns of a table: bounds what a hostile row can claim beside its bytes.
const MAX_COLUMNS: usize = 1 << 14;

/// The rows of a table.
pub(crate) struct Table {
    path: PathBuf,
    rows: RowReader,
    columns: Vec<Column>,
}

enum Column {
    Text,
    Id,
    Source,
    Url,
    Other(String),
}

impl Table {
    /// Reads the header. The text must be one of its columns.
    pub(crate) fn open(input: Input, delimiter: u8, options: &ReadOptions) -> Result<Self, Error> {
        Self::with_text(input, delimiter, options, Some(&options.text_key))
    }

    /// Reads the header. Every column, whatever its name, becomes metadata under that name: see `rows.rs`.
    pub(crate) fn open_all(input: Input, delimiter: u8, options: &ReadOptions) -> Result<Self, Error> {
        Self::with_text(input, delimiter, options, None)
    }

    fn with_text(
        input: Input,
        delimiter: u8,
        options: &ReadOptions,
        text_key: Option<&str>,
    ) -> Result<Self, Error> {
        let (path, stream) = input.into_stream()?;
        let mut rows = RowReader::new(stream, delimiter, options.max_record());
        let place = Place::Line(1);
        let columns = match rows.next() {
            Ok(Row::Fields(_)) => columns(&rows, text_key),
            Ok(Row::End) => Err("empty; a header is expected".to_owned()),
            Ok(Row::Cut) => Err(CUT.to_owned()),
            Ok(Row::TooLong) => Err("the header is too long; is this a table?".to_owned()),
            Err(source) => return Err(Error::stream(&path, place, &source)),
        };
        let columns = columns.map_err(|problem| Error::damaged(&path, place, problem))?;
        Ok(Self { path, rows, columns })
    }

    fn document(&self, fields: usize) -> Result<Document, (Fault, String)> {
        if fields != self.columns.len() {
            let problem = format!("{fields} fields, but the header has {}", self.columns.len());
            return Err((Fault::Fields, problem));
        }
        let mut document = Document::default();
        for (at, column) in self.columns.iter().enumerate() {
            let field = std::str::from_utf8(self.rows.field(at)).map_err(|source| {
                let problem = format!("not UTF-8 at byte {} of field {}", source.valid_up_to(), at + 1);
                (Fault::NotUtf8, problem + "; convert the file")
            })?;
            let given = || (!field.is_empty()).then(|| field.to_owned());
            match column {
                Column::Text => field.clone_into(&mut document.text),
                Column::Id => document.id = given(),
                Column::Source => document.source = given(),
                Column::Url => document.url = given(),
                Column::Other(name) => {
                    document.metadata.insert(name.clone(), Value::String(field.to_owned()));
                }
            }
        }
        Ok(document)
    }
}

/// What the columns of the header are. Without a key of the text, none is a field of the document.
fn columns(rows: &RowReader, text_key: Option<&str>) -> Result<Vec<Column>, String> {
    let mut names = Vec::new();
    let mut columns = Vec::new();
    let mut seen = BTreeSet::new();
    for at in 0..rows.fields {
        let field = rows.field(at);
        let field = if at == 0 { field.strip_prefix(BYTE_ORDER_MARK).unwrap_or(field) } else { field };
        let name = std::str::from_utf8(field).map_err(|_| "the header is not UTF-8; convert the file")?;
        columns.push(match name {
            name if text_key.is_none() => Column::Other(name.to_owned()),
            name if Some(name) == text_key => Column::Text,
            "id" => Column::Id,
            "source" => Column::Source,
            "url" => Column::Url,
            name => Column::Other(metadata_key(name.to_owned())),
        });
        let kept = if let Some(Column::Other(kept)) = columns.last() { kept.as_str() } else { name };
        if !seen.insert(kept.to_owned()) {
            return Err(format!("two columns are called `{name}`; rename one"));
        }
        names.push(name.to_owned());
    }
    if let Some(text_key) = text_key
        && !columns.iter().any(|column| matches!(column, Column::Text))
    {
        return Err(super::no_text_column(text_key, &names));
    }
    Ok(columns)
}

impl ReadDocument for Table {
    fn read(&mut self) -> Result<Option<Document>, Error> {
        let row = self.rows.next();
        let place = Place::Line(self.rows.line);
        match row {
            Ok(Row::End) => Ok(None),
            Ok(Row::Fields(fields)) => {
                let document = self.document(fields);
                document
                    .map(Some)
                    .map_err(|(fault, problem)| Error::record(&self.path, place, fault, problem))
            }
            Ok(Row::Cut) => Err(Error::damaged(&self.path, place, CUT)),
            Ok(Row::TooLong) => {
                let limit = self.rows.limit;
                let problem =
                    format!("row longer than {limit} bytes or {MAX_COLUMNS} fields; is a quote open?");
                Err(Error::record(&self.path, place, Fault::TooLong, problem))
            }
            Err(source) => Err(Error::stream(&self.path, place, &source)),
        }
    }
}

impl super::rows::ReadRow for Table {
    fn read_row(&mut self) -> Result<Option<super::rows::Row>, Error> {
        Ok(self.read()?.map(|document| document.metadata))
    }
}

const CUT: &str = "the file ends within quotes that open in this row; is it complete?";

enum Row {
    /// So many fields, to be had from the reader.
    Fields(usize),
    TooLong,
    /// The file ends within quotes.
    Cut,
    End,
}

/// Rows in bounded memory: one over the limit is passed over, not kept.
struct RowReader {
    input: BufReader<Box<dyn Read + Send>>,
    reader: Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
    limit: usize,
    /// The line on which the last row began.
    line: u64,
}

impl RowReader {
    fn new(input: Box<dyn Read + Send>, delimiter: u8, limit: usize) -> Self {
        Self {
            input: BufReader::with_capacity(CHUNK, input),
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            bytes: vec![0; limit.clamp(1, 1 << 12)],
            ends: vec![0; 64],
            fields: 0,
            limit,
            line: 1,
        }
    }

    fn field(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    fn next(&mut self) -> std::io::Result<Row> {
        let (mut length, mut fields, mut too_long, mut ended_line) = (0, 0, false, false);
        self.line = self.reader.line();
        loop {
            let input = self.input.fill_buf()?;
            // The end of the file is read as a line end first: one that is text tells that quotes are still open.
            let at_end = input.is_empty() && !ended_line;
            let input = if at_end { b"\n" } else { input };
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.bytes[length..], &mut self.ends[fields..]);
            if at_end {
                ended_line = read > 0;
                if wrote > 0 {
                    return Ok(if too_long { Row::TooLong } else { Row::Cut });
                }
            } else {
                self.input.consume(read);
            }
            length += wrote;
            fields += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if !too_long && self.bytes.len() < self.limit => {
                    let longer = (self.bytes.len() * 2).min(self.limit);
                    self.bytes.reserve_exact(longer - self.bytes.len());
                    self.bytes.resize(longer, 0);
                }
                ReadRecordResult::OutputEndsFull if !too_long && self.ends.len() < MAX_COLUMNS => {
                    self.ends.resize((self.ends.len() * 2).min(MAX_COLUMNS), 0);
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    // The rest of the row is read over what there is of it.
                    (length, fields, too_long) = (0, 0, true);
                }
                ReadRecordResult::Record if too_long => return Ok(Row::TooLong),
                ReadRecordResult::Record => {
                    self.fields = fields;
                    return Ok(Row::Fields(fields));
                }
                ReadRecordResult::End => return Ok(Row::End),
            }
        }
    }
}
