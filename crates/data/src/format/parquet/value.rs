//! A cell of a column as JSON.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use serde_json::{Map, Value};

/// The value of a row: numbers as numbers, times in ISO 8601, decimals and bytes that are not UTF-8 (in hexadecimal) as
/// strings, lists and structures as such. What JSON cannot say (NaN, infinities) becomes null.
pub(super) fn to_json(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::BinaryView => bytes(array.as_binary_view().value(row)),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row)),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let entries = fields.iter().zip(columns);
            entries.map(|(field, column)| (field.name().clone(), to_json(column.as_ref(), row))).collect::<Map<_, _>>().into()
        }
        DataType::Map(..) => map(array, row),
        _ => number_or_time(array, row),
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

fn list(items: &dyn Array) -> Value {
    (0..items.len()).map(|at| to_json(items, at)).collect()
}

/// A map with text as keys is an object, any other a list of pairs.
fn map(array: &dyn Array, row: usize) -> Value {
    let entries = array.as_map().value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    let pairs = (0..entries.len()).map(|at| (to_json(keys.as_ref(), at), to_json(values.as_ref(), at)));
    if *keys.data_type() == DataType::Utf8View {
        let name = |key| if let Value::String(name) = key { name } else { String::new() };
        return pairs.map(|(key, value)| (name(key), value)).collect::<Map<_, _>>().into();
    }
    pairs.map(|(key, value)| Value::from(vec![key, value])).collect()
}

fn bytes(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), Value::from)
}

fn hex(bytes: &[u8]) -> Value {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect::<String>().into()
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
        let _ = (timestamp(i64::MIN, TimeUnit::Second, false), timestamp(i64::MAX, TimeUnit::Nanosecond, false));
        let decimal = |digits: &str, scale| super::decimal(digits.into(), scale);
        assert_eq!(decimal("12345", 2), "123.45");
        assert_eq!(decimal("-5", 3), "-0.005");
        assert_eq!(decimal("5", 0), "5");
        assert_eq!(decimal("5", -2), "500");
    }
}
