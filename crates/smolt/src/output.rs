//! Tables and JSON on standard output. A closed pipe ends the output, not the program.

use comfy_table::{CellAlignment, Table, presets};
use std::io::Write;

/// Prints a line to standard output; a reader that went away (`| head`) is not an error.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line to standard error, as `eprintln!` does, but a terminal that went away is not the end of a run.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::to_stderr(format_args!($($text)*)) };
}
pub(crate) use note;

/// See [`note!`].
pub(crate) fn to_stderr(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => line(format_args!("{{\"error\": \"{error}\"}}")),
    }
}

/// JSON text; what cannot be serialised (nothing here) is empty.
pub(crate) fn or_empty(text: serde_json::Result<String>) -> String {
    text.unwrap_or_default() + "\n"
}

/// An aligned table: the first column left, the others right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if i == 0 { CellAlignment::Left } else { CellAlignment::Right });
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// 3,075,098,624 rather than 3075098624.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return format!("{value:.*} {unit}", usize::from(unit != "B"));
        }
        value /= 1024.0;
    }
    format!("{value:.2} GiB")
}

/// A time for people: `90 s`, `14 min`, `2 h 10 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match (seconds.round() as u64, minutes) {
        (0, _) => "1 s".into(),
        (seconds, _) if seconds < 120 => format!("{seconds} s"),
        (_, minutes) if minutes < 90 => format!("{minutes} min"),
        (_, minutes) => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// `2GiB`, `500MB`, `1024`: for arguments.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err("write a size such as 2GiB, 512MiB or 1000000".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "write a size such as 2GiB or 512MiB".to_owned())?;
    Ok((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read() {
        assert_eq!(super::parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(super::parse_bytes("1.5 mb"), Ok(1_500_000));
        assert_eq!(super::parse_bytes("77"), Ok(77));
        assert!(super::parse_bytes("2 apples").is_err() && super::parse_bytes("").is_err());
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(super::thousands(3_075_098_624), "3,075,098,624");
        assert_eq!(super::thousands(999), "999");
        assert_eq!(super::bytes(512), "512 B");
        assert_eq!(super::bytes(1536 << 20), "1.50 GiB");
        let times = [0.2, 40.0, 89.6, 840.0, 7800.0].map(super::duration);
        assert_eq!(times, ["1 s", "40 s", "90 s", "14 min", "2 h 10 min"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_string(), "1".into()], vec!["longer".into(), "100".into()]];
        assert_eq!(super::table(&["name", "n"], &rows), "name      n\na         1\nlonger  100");
    }
}
