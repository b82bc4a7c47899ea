//! Times of ops, one by one or summed by kind, as a table.

use crate::output;
use serde_json::{Value, json};
use smolt_tensor::tape::OpTime;
use std::time::Duration;

/// An op, or all of one kind within a step.
pub(super) struct Row {
    pub(super) name: String,
    /// Seconds forward and backward.
    pub(super) seconds: [f64; 2],
    /// 0 where they say nothing.
    pub(super) flops: u64,
    pub(super) bytes: u64,
}

/// Each op of one step, numbered in the order in which forward runs them; the times of several runs are averaged.
pub(super) fn one_by_one(times: &[OpTime]) -> Vec<Row> {
    times.iter().enumerate().map(|(i, op)| Row { name: format!("{i} {}", op.name), ..Row::of(op) }).collect()
}

/// Sums of one step by kind, largest first; the times of several runs are averaged.
pub(super) fn by_kind(times: &[OpTime]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for op in times.iter().map(Row::of) {
        match rows.iter_mut().find(|row| row.name == op.name) {
            Some(row) => {
                row.seconds = [row.seconds[0] + op.seconds[0], row.seconds[1] + op.seconds[1]];
                row.flops += op.flops;
                row.bytes += op.bytes;
            }
            None => rows.push(op),
        }
    }
    rows.sort_by(|a, b| b.total().total_cmp(&a.total()));
    rows
}

impl Row {
    fn of(op: &OpTime) -> Row {
        let seconds = |time: Duration| time.as_secs_f64() / op.calls.max(1) as f64;
        Row {
            name: op.name.to_string(),
            seconds: [seconds(op.forward), seconds(op.backward)],
            flops: op.flops.iter().sum(),
            bytes: op.bytes.iter().sum(),
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.seconds[0] + self.seconds[1]
    }

    fn gflops(&self) -> Option<f64> {
        (self.flops > 0).then(|| self.flops as f64 / self.total() / 1e9)
    }

    fn gbs(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.bytes as f64 / self.total() / 1e9)
    }
}

/// What the shares of a table are shares of.
pub(super) struct Whole {
    /// Seconds of the step.
    pub(super) step: f64,
    /// 10⁹ FLOPs per second between registers.
    pub(super) peak_gflops: f64,
    /// 10⁹ bytes per second from memory.
    pub(super) memory_gbs: f64,
}

/// The rows for people.
pub(super) fn table(rows: &[Row], whole: &Whole) -> String {
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let or_dash = |x: Option<f64>, text: &dyn Fn(f64) -> String| x.map_or("–".to_string(), text);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                format!("{:.2}", row.seconds[0] * 1e3),
                format!("{:.2}", row.seconds[1] * 1e3),
                format!("{:.2}", row.total() * 1e3),
                percent(row.total() / whole.step),
                or_dash(row.gflops(), &|x| format!("{x:.1}")),
                or_dash(row.gflops(), &|x| percent(x / whole.peak_gflops)),
                or_dash(row.gbs(), &|x| format!("{x:.1}")),
                or_dash(row.gbs(), &|x| percent(x / whole.memory_gbs)),
            ]
        })
        .collect();
    let header =
        ["op", "forward ms", "backward ms", "ms", "of step", "GFLOP/s", "of peak", "GB/s", "of memory"];
    output::table(&header, &cells)
}

/// The rows for programs.
pub(super) fn json(rows: &[Row], whole: &Whole) -> Value {
    let row = |row: &Row| {
        json!({
            "op": row.name,
            "forward_ms": super::rounded(row.seconds[0] * 1e3, 3),
            "backward_ms": super::rounded(row.seconds[1] * 1e3, 3),
            "step_fraction": super::rounded(row.total() / whole.step, 4),
            "gflops": row.gflops().map(|x| super::rounded(x, 1)),
            "peak_fraction": row.gflops().map(|x| super::rounded(x / whole.peak_gflops, 3)),
            "gb_per_s": row.gbs().map(|x| super::rounded(x, 1)),
            "memory_fraction": row.gbs().map(|x| super::rounded(x / whole.memory_gbs, 3)),
        })
    };
    rows.iter().map(row).collect()
}
