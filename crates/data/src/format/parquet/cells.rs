//! The cells of a row as JSON.

use num_bigint::BigInt;
use parquet::basic::TimeUnit;
use parquet::data_type::Int96;
use serde_json::{Map, Value};

use super::column::{Column, Disagree, Raw};
use super::schema::{Items, Kind, Node, Scalar};

/// Bytes that a value takes beside those of its string.
const COST: usize = 32;

/// The longest decimal, in bytes.
const MAX_DECIMAL: usize = 32;

/// Why a row is none.
#[derive(Debug)]
pub(super) enum Stop {
    /// It would take more than it may.
    TooLong,
    /// Its columns say different things.
    Disagree,
}

impl From<Disagree> for Stop {
    fn from(_: Disagree) -> Self {
        Self::Disagree
    }
}

/// Turns cells of one row into JSON: numbers as numbers, times in ISO 8601, decimals and bytes that are not UTF-8 (in
/// hexadecimal) as strings, lists and structures as such. What JSON cannot say (NaN, infinities) becomes null.
///
/// A list can refer to one long string of a dictionary any number of times, so what a row may take is bounded.
pub(super) struct Row<'c> {
    /// The leaf columns, all at this row.
    pub(super) columns: &'c mut [Column],
    /// Bytes that may still be taken.
    pub(super) left: usize,
}

impl Row<'_> {
    /// A field's value, and its columns past it.
    pub(super) fn json(&mut self, node: &Node) -> Result<Value, Stop> {
        self.take(COST)?;
        let first = node.leaves.start;
        if let Some(defined) = node.optional
            && self.columns[first].definition()? < defined
        {
            self.pass_absent(node, defined)?;
            return Ok(Value::Null);
        }
        match &node.kind {
            Kind::Leaf(scalar) => self.leaf(first, *scalar),
            Kind::Struct(fields) => {
                let mut object = Map::new();
                for field in fields {
                    self.take(field.name.len())?;
                    object.insert(field.name.clone(), self.json(field)?);
                }
                Ok(object.into())
            }
            Kind::List(item, levels) => {
                let mut items = Vec::new();
                self.items(node, *levels, |row| {
                    items.push(row.json(item)?);
                    Ok(())
                })?;
                Ok(items.into())
            }
            Kind::Map(pair, levels) => self.map(node, pair, *levels),
        }
    }

    /// The bytes of a column of text, `None` where it is null.
    pub(super) fn text(&mut self, node: &Node) -> Result<Option<&[u8]>, Stop> {
        let column = &mut self.columns[node.leaves.start];
        if let Some(defined) = node.optional
            && column.definition()? < defined
        {
            column.pass_absent(defined)?;
            return Ok(None);
        }
        let Raw::Bytes(text) = column.next()? else { return Err(Stop::Disagree) };
        self.left = self.left.checked_sub(text.len()).ok_or(Stop::TooLong)?;
        Ok(Some(text))
    }

    fn take(&mut self, bytes: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(bytes).ok_or(Stop::TooLong)?;
        Ok(())
    }

    fn pass_absent(&mut self, node: &Node, defined: i16) -> Result<(), Stop> {
        self.columns[node.leaves.clone()].iter_mut().try_for_each(|column| column.pass_absent(defined))?;
        Ok(())
    }

    /// Calls `item` at each item of what is repeated.
    fn items(
        &mut self,
        node: &Node,
        levels: Items,
        mut item: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let first = node.leaves.start;
        if self.columns[first].definition()? < levels.present {
            return self.pass_absent(node, levels.present);
        }
        loop {
            item(self)?;
            match self.columns[first].repetition() {
                Some(level) if level == levels.again => {}
                Some(level) if level > levels.again => return Err(Stop::Disagree),
                _ => return Ok(()),
            }
        }
    }

    /// A map with text as keys is an object, any other a list of pairs.
    fn map(&mut self, node: &Node, pair: &[Node; 2], levels: Items) -> Result<Value, Stop> {
        let (mut object, mut pairs) = (Map::new(), Vec::new());
        self.items(node, levels, |row| {
            let (key, value) = (row.json(&pair[0])?, row.json(&pair[1])?);
            match key {
                Value::String(key) if pairs.is_empty() => drop(object.insert(key, value)),
                key => pairs.push(Value::from(vec![key, value])),
            }
            Ok(())
        })?;
        Ok(if pairs.is_empty() { object.into() } else { pairs.into() })
    }

    fn leaf(&mut self, column: usize, scalar: Scalar) -> Result<Value, Stop> {
        let raw = self.columns[column].next()?;
        let (Raw::Bytes(bytes) | Raw::Fixed(bytes)) = raw else { return Ok(number_or_time(raw, scalar)) };
        let text = match scalar {
            Scalar::Text => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        self.left = match text {
            Some(text) => self.left.checked_sub(text.len()),
            None => self.left.checked_sub(2 * bytes.len()),
        }
        .ok_or(Stop::TooLong)?;
        Ok(match (text, scalar, bytes) {
            (Some(text), ..) => text.into(),
            (_, Scalar::Decimal { scale }, bytes) if bytes.len() <= MAX_DECIMAL => {
                decimal(BigInt::from_signed_bytes_be(bytes).to_string(), scale)
            }
            (_, Scalar::Half, &[low, high]) => f64::from(half::f16::from_le_bytes([low, high])).into(),
            (_, Scalar::Interval, bytes) => interval(bytes),
            _ => hex(bytes),
        })
    }
}

fn hex(bytes: &[u8]) -> Value {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect::<String>().into()
}

fn number_or_time(raw: Raw<'_>, scalar: Scalar) -> Value {
    match (raw, scalar) {
        (Raw::Bool(value), _) => value.into(),
        // As many digits as the 32 bits have, not those of the same number in 64.
        (Raw::F32(value), _) => value.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        (Raw::F64(value), _) => value.into(),
        (Raw::I96(value), _) => old_timestamp(value).into(),
        (Raw::I32(value), Scalar::Unsigned) => (value as u32).into(),
        (Raw::I64(value), Scalar::Unsigned) => (value as u64).into(),
        (Raw::I32(value), Scalar::Date) => date(value.into()).into(),
        (Raw::I32(value), scalar) => integer(value.into(), scalar),
        (Raw::I64(value), scalar) => integer(value, scalar),
        (Raw::Bytes(bytes) | Raw::Fixed(bytes), _) => hex(bytes),
    }
}

fn integer(value: i64, scalar: Scalar) -> Value {
    match scalar {
        Scalar::Decimal { scale } => decimal(value.to_string(), scale),
        Scalar::Time(unit) => time(value, unit).into(),
        Scalar::Timestamp { unit, zoned } => timestamp(value, unit, zoned).into(),
        _ => value.into(),
    }
}

/// Months, days and milliseconds, of which writers fill what they mean.
fn interval(bytes: &[u8]) -> Value {
    let part = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    match (part(0), part(4), part(8)) {
        (0, days, ms) => format!("{days} days {ms} ms").into(),
        (months, days, ms) => format!("{months} months {days} days {ms} ms").into(),
    }
}

/// Decimals with so many digits after the point, or zeros before it, are written out.
const MAX_SCALE: u32 = 76;

fn decimal(digits: String, scale: i32) -> Value {
    if scale.unsigned_abs() > MAX_SCALE {
        return format!("{digits}e{}", -i64::from(scale)).into();
    }
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        let zeros = scale.unsigned_abs() as usize;
        return format!("{digits}{}", "0".repeat(zeros)).into();
    };
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{part}").into()
}

/// The proleptic Gregorian date of a day counted from 1970-01-01 (Hinnant's `civil_from_days`).
fn date(days: i64) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn per_second(unit: TimeUnit) -> (i64, usize) {
    match unit {
        TimeUnit::MILLIS => (1_000, 3),
        TimeUnit::MICROS => (1_000_000, 6),
        TimeUnit::NANOS => (1_000_000_000, 9),
    }
}

fn time(ticks: i64, unit: TimeUnit) -> String {
    let (ticks_per_second, digits) = per_second(unit);
    let (seconds, part) = (ticks.div_euclid(ticks_per_second), ticks.rem_euclid(ticks_per_second));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if part == 0 { clock } else { format!("{clock}.{part:0digits$}") }
}

fn timestamp(ticks: i64, unit: TimeUnit, zoned: bool) -> String {
    let a_day = 86_400 * per_second(unit).0;
    let zone = if zoned { "Z" } else { "" };
    format!("{}T{}{zone}", date(ticks.div_euclid(a_day)), time(ticks.rem_euclid(a_day), unit))
}

/// The time of old writers: nanoseconds of a Julian day.
fn old_timestamp(value: &Int96) -> String {
    const EPOCH: i64 = 2_440_588;
    const DAY: i64 = 86_400_000_000_000;
    let [low, high, day] = [0, 1, 2].map(|at| value.data().get(at).copied().unwrap_or(0));
    let nanos = (u64::from(high) << 32 | u64::from(low)) as i64;
    let days = i64::from(day) - EPOCH + nanos.div_euclid(DAY);
    format!("{}T{}", date(days), time(nanos.rem_euclid(DAY), TimeUnit::NANOS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_decimals() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(-1), "1969-12-31");
        let _ = date(i64::from(i32::MIN));
        assert_eq!(timestamp(1_700_000_000_123, TimeUnit::MILLIS, true), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(-1, TimeUnit::MICROS, false), "1969-12-31T23:59:59.999999");
        let _ = (timestamp(i64::MIN, TimeUnit::MILLIS, false), timestamp(i64::MAX, TimeUnit::NANOS, false));
        let decimal = |digits: &str, scale| super::decimal(digits.into(), scale);
        assert_eq!(decimal("12345", 2), "123.45");
        assert_eq!(decimal("-5", 3), "-0.005");
        assert_eq!(decimal("5", 0), "5");
        assert_eq!(decimal("5", -2), "500");
    }
}
