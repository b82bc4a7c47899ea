//! A cell of a column as JSON.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use serde_json::{Map, Value};

/// Bytes that a value takes beside those of its string.
const COST: usize = 32;

/// A text column's value as it lies in the page: `None` where it is null.
pub(super) fn text(array: &dyn Array, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8View => Some(array.as_string_view().value(row).as_bytes()),
        _ => array.as_binary_view_opt().map(|array| array.value(row)),
    }
}

/// Turns cells of one row into JSON: numbers as numbers, times in ISO 8601, decimals and bytes that are not UTF-8 (in
/// hexadecimal) as strings, lists and structures as such. What JSON cannot say (NaN, infinities) becomes null.
///
/// A list can refer to one long string of a dictionary any number of times, so what a row may take is bounded.
pub(super) struct Row {
    /// Bytes that may still be taken.
    pub(super) left: usize,
}

impl Row {
    /// `None` where the row would take too much.
    pub(super) fn json(&mut self, array: &dyn Array, row: usize) -> Option<Value> {
        self.take(COST)?;
        if array.is_null(row) {
            return Some(Value::Null);
        }
        Some(match array.data_type() {
            DataType::Boolean => array.as_boolean().value(row).into(),
            DataType::Utf8View => self.string(array.as_string_view().value(row))?,
            DataType::Utf8 => self.string(array.as_string::<i32>().value(row))?,
            DataType::LargeUtf8 => self.string(array.as_string::<i64>().value(row))?,
            DataType::BinaryView => self.bytes(array.as_binary_view().value(row))?,
            DataType::Binary => self.bytes(array.as_binary::<i32>().value(row))?,
            DataType::LargeBinary => self.bytes(array.as_binary::<i64>().value(row))?,
            DataType::FixedSizeBinary(_) => self.hex(array.as_fixed_size_binary().value(row))?,
            DataType::List(_) => self.list(array.as_list::<i32>().value(row).as_ref())?,
            DataType::LargeList(_) => self.list(array.as_list::<i64>().value(row).as_ref())?,
            DataType::FixedSizeList(..) => self.list(array.as_fixed_size_list().value(row).as_ref())?,
            DataType::Struct(fields) => {
                let mut object = Map::new();
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    self.take(field.name().len())?;
                    object.insert(field.name().clone(), self.json(column.as_ref(), row)?);
                }
                object.into()
            }
            DataType::Map(..) => self.map(array, row)?,
            _ => number_or_time(array, row),
        })
    }

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }

    fn string(&mut self, text: &str) -> Option<Value> {
        self.take(text.len())?;
        Some(text.into())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<Value> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.string(text),
            Err(_) => self.hex(bytes),
        }
    }

    fn hex(&mut self, bytes: &[u8]) -> Option<Value> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.take(2 * bytes.len())?;
        let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
        Some(bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect::<String>().into())
    }

    fn list(&mut self, items: &dyn Array) -> Option<Value> {
        (0..items.len()).map(|at| self.json(items, at)).collect()
    }

    /// A map with text as keys is an object, any other a list of pairs.
    fn map(&mut self, array: &dyn Array, row: usize) -> Option<Value> {
        let entries = array.as_map().value(row);
        let (keys, values) = (entries.column(0), entries.column(1));
        let (mut object, mut pairs) = (Map::new(), Vec::new());
        for at in 0..entries.len() {
            let key = self.json(keys.as_ref(), at)?;
            let value = self.json(values.as_ref(), at)?;
            match key {
                Value::String(key) if pairs.is_empty() => drop(object.insert(key, value)),
                key => pairs.push(Value::from(vec![key, value])),
            }
        }
        Some(if pairs.is_empty() { object.into() } else { pairs.into() })
    }
}

fn number_or_time(array: &dyn Array, row: usize) -> Value {
    match array.data_type() {
        DataType::Int8 => get::<Int8Type>(array, row).into(),
        DataType::Int16 => get::<Int16Type>(array, row).into(),
        DataType::Int32 => get::<Int32Type>(array, row).into(),
        DataType::Int64 => get::<Int64Type>(array, row).into(),
        DataType::UInt8 => get::<UInt8Type>(array, row).into(),
        DataType::UInt16 => get::<UInt16Type>(array, row).into(),
        DataType::UInt32 => get::<UInt32Type>(array, row).into(),
        DataType::UInt64 => get::<UInt64Type>(array, row).into(),
        DataType::Float16 => f64::from(get::<Float16Type>(array, row)).into(),
        // As many digits as the 32 bits have, not those of the same number in 64.
        DataType::Float32 => {
            get::<Float32Type>(array, row).to_string().parse::<f64>().map_or(Value::Null, Value::from)
        }
        DataType::Float64 => get::<Float64Type>(array, row).into(),
        DataType::Date32 => date(get::<Date32Type>(array, row).into()).into(),
        DataType::Date64 => timestamp(get::<Date64Type>(array, row), TimeUnit::Millisecond, false).into(),
        DataType::Timestamp(unit, zone) => {
            let ticks = match unit {
                TimeUnit::Second => get::<TimestampSecondType>(array, row),
                TimeUnit::Millisecond => get::<TimestampMillisecondType>(array, row),
                TimeUnit::Microsecond => get::<TimestampMicrosecondType>(array, row),
                TimeUnit::Nanosecond => get::<TimestampNanosecondType>(array, row),
            };
            timestamp(ticks, *unit, zone.is_some()).into()
        }
        DataType::Time32(TimeUnit::Second) => {
            time(get::<Time32SecondType>(array, row).into(), TimeUnit::Second).into()
        }
        DataType::Time32(unit) => time(get::<Time32MillisecondType>(array, row).into(), *unit).into(),
        DataType::Time64(TimeUnit::Microsecond) => {
            time(get::<Time64MicrosecondType>(array, row), TimeUnit::Microsecond).into()
        }
        DataType::Time64(unit) => time(get::<Time64NanosecondType>(array, row), *unit).into(),
        DataType::Decimal32(_, scale) => decimal(get::<Decimal32Type>(array, row).to_string(), *scale),
        DataType::Decimal64(_, scale) => decimal(get::<Decimal64Type>(array, row).to_string(), *scale),
        DataType::Decimal128(_, scale) => decimal(get::<Decimal128Type>(array, row).to_string(), *scale),
        DataType::Decimal256(_, scale) => decimal(get::<Decimal256Type>(array, row).to_string(), *scale),
        DataType::Interval(IntervalUnit::DayTime) => {
            let interval = get::<IntervalDayTimeType>(array, row);
            format!("{} days {} ms", interval.days, interval.milliseconds).into()
        }
        other => format!("a value of {other}").into(),
    }
}

fn get<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn decimal(digits: String, scale: i8) -> Value {
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        let zeros = usize::from(scale.unsigned_abs());
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
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_decimals() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(-1), "1969-12-31");
        let _ = date(i64::from(i32::MIN));
        assert_eq!(timestamp(1_700_000_000_123, TimeUnit::Millisecond, true), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(-1, TimeUnit::Microsecond, false), "1969-12-31T23:59:59.999999");
        let _ =
            (timestamp(i64::MIN, TimeUnit::Second, false), timestamp(i64::MAX, TimeUnit::Nanosecond, false));
        let decimal = |digits: &str, scale| super::decimal(digits.into(), scale);
        assert_eq!(decimal("12345", 2), "123.45");
        assert_eq!(decimal("-5", 3), "-0.005");
        assert_eq!(decimal("5", 0), "5");
        assert_eq!(decimal("5", -2), "500");
    }
}
