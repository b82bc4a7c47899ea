//! Reading `.ds.ids`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::Value;
use smolt_run::error::FileError;

use crate::error::{Error, Place};

/// A longer line is damage.
const MAX_LINE: u64 = 1 << 20;

/// The names of `documents`, by their number; `path` only names the file in errors. A name without letters of its own
/// is a number in the input, shown as `#N`; `null` is left out.
pub fn parse(
    path: &Path,
    mut input: impl BufRead,
    documents: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, String>, Error> {
    let mut found = BTreeMap::new();
    let (Some(&last), mut line) = (documents.last(), Vec::new()) else { return Ok(found) };
    for number in 0..=last {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|source| FileError::reading(path, source))? == 0 {
            break;
        }
        let damaged = |problem: String| Error::damaged(path, Place::Line(number + 1), problem);
        if line.last() != Some(&b'\n') {
            return Err(damaged("cut short or too long; make the shard again".into()));
        }
        if !documents.contains(&number) {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(Value::String(name)) => drop(found.insert(number, name)),
            Ok(Value::Number(place)) => drop(found.insert(number, format!("#{place}"))),
            Ok(Value::Null) => {}
            _ => return Err(damaged("neither a name, a number nor null; make the shard again".into())),
        }
    }
    Ok(found)
}
