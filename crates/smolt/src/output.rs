//! Tables and JSON on standard output. A closed pipe ends the output, not the program.

use comfy_table::{CellAlignment, Table, presets};
use std::io::Write;

/// Prints a line to standard output; a reader that went away (`| head`) is not an error.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
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

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_for_people() {
        assert_eq!(super::thousands(3_075_098_624), "3,075,098,624");
        assert_eq!(super::thousands(999), "999");
        assert_eq!(super::bytes(512), "512 B");
        assert_eq!(super::bytes(1536 << 20), "1.50 GiB");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_string(), "1".into()], vec!["longer".into(), "100".into()]];
        assert_eq!(super::table(&["name", "n"], &rows), "name      n\na         1\nlonger  100");
    }
}
