//! Scores by task and length, and what they say: the effective length, and what they do not say.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::stats::Score;

/// The mean of Llama-2-7B (chat) at 4,096 tokens, the paper's threshold of an effective length.
///
/// It was measured with other prompts and texts; here it is a convention, not a model to be compared with.
pub const LLAMA_2_7B_AT_4K: f64 = 0.856;

/// A task at a length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The task.
    pub kind: Kind,
    /// Tokens.
    pub length: usize,
    /// Mean of its items' scores.
    pub score: Score,
    /// Items whose prompts were cut to fit the context.
    #[serde(default)]
    pub cut: usize,
}

/// A task that was not run, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// The task.
    pub kind: Kind,
    /// At this length; `None` = at all.
    pub length: Option<usize>,
    /// One line.
    pub reason: String,
}

/// Scores of a model by task and length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulerReport {
    /// Version of this layout: 1.
    pub format_version: u32,
    /// The mean that a length must reach to count as mastered, 0..=1.
    pub threshold: f64,
    /// What was run, by length and then by task.
    pub cells: Vec<Cell>,
    /// What was not.
    pub not_run: Vec<NotRun>,
    /// Lengths in ascending order, and the unweighted mean over the tasks that ran at each.
    pub means: Vec<(usize, Score)>,
    /// The longest length up to which every length that was run reaches the threshold; `None` where the shortest does not.
    pub effective_length: Option<usize>,
    /// What a reader must know beside the numbers, a line each.
    pub notes: Vec<String>,
}

impl RulerReport {
    /// A report of what was run and what was not.
    pub fn new(mut cells: Vec<Cell>, not_run: Vec<NotRun>, threshold: f64) -> Self {
        cells.sort_by_key(|cell| (cell.length, cell.kind));
        let mut means: Vec<(usize, Score)> = Vec::new();
        for group in cells.chunk_by(|a, b| a.length == b.length) {
            let scores: Vec<Score> = group.iter().map(|cell| cell.score).collect();
            means.push((group[0].length, Score::macro_average(&scores)));
        }
        let mastered = means.iter().take_while(|(_, score)| score.value >= threshold);
        let effective_length = mastered.last().map(|&(length, _)| length);
        let mut report =
            Self { format_version: 1, threshold, cells, not_run, means, effective_length, notes: Vec::new() };
        report.notes = report.notes();
        report
    }

    fn kinds(&self, length: usize) -> Vec<Kind> {
        self.cells.iter().filter(|cell| cell.length == length).map(|cell| cell.kind).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.cells.is_empty() && self.cells.iter().all(|cell| cell.kind.is_needle()) {
            notes.push(
                "only needles were run: finding them is no sufficient evidence of a long context (run vt, cwe, fwe and qa too)"
                    .to_owned(),
            );
        }
        let all = self.means.iter().map(|&(length, _)| self.kinds(length));
        if all.clone().any(|kinds| Some(kinds) != all.clone().next()) {
            notes.push("not every task ran at every length: their means are over different tasks".to_owned());
        }
        let missing =
            Kind::ALL.iter().filter(|kind| self.cells.iter().all(|cell| cell.kind != **kind)).count();
        let cut: usize = self.cells.iter().map(|cell| cell.cut).sum();
        if cut > 0 {
            notes.push(format!(
                "{cut} prompts were cut from the left to fit the context: what they asked for may be gone"
            ));
        }
        if missing > 0 {
            notes.push(format!("{missing} of RULER's {} tasks were not run", Kind::ALL.len()));
        }
        notes
    }

    /// Tasks in rows, lengths in columns, percent ± standard error, then means, the effective length and the notes.
    pub fn table(&self) -> String {
        let lengths: Vec<usize> = self.means.iter().map(|&(length, _)| length).collect();
        let mut rows = vec![row("task", lengths.iter().map(usize::to_string))];
        for kind in Kind::ALL {
            let of = |&length: &usize| {
                let found = self.cells.iter().find(|cell| cell.kind == kind && cell.length == length);
                found.map_or("-".to_owned(), |cell| percent(&cell.score))
            };
            let cells: Vec<String> = lengths.iter().map(of).collect();
            if cells.iter().any(|cell| cell != "-") {
                rows.push(row(kind.name(), cells.into_iter()));
            }
        }
        rows.push(row("mean", self.means.iter().map(|(_, score)| percent(score))));
        let mut text = aligned(&rows);
        let reached = match (self.effective_length, lengths.first()) {
            (Some(length), _) => length.to_string(),
            (None, Some(shortest)) => format!("below {shortest}"),
            (None, None) => "unknown, nothing was run".to_owned(),
        };
        text += &format!("effective length at {:.1} %: {reached}\n", 100.0 * self.threshold);
        for NotRun { kind, length, reason } in &self.not_run {
            let at = length.map_or(String::new(), |length| format!(" at {length}"));
            text += &format!("not run: {kind}{at}: {reason}\n");
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }
}

/// Scores of the needle by its depth and the length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeedleGrid {
    /// Version of this layout: 1.
    pub format_version: u32,
    /// Ascending.
    pub lengths: Vec<usize>,
    /// Ascending, 0 = at the beginning, 1 = at the end.
    pub depths: Vec<f64>,
    /// `[depth][length]`; `None` where nothing was run.
    pub scores: Vec<Vec<Option<Score>>>,
}

impl NeedleGrid {
    /// From scores in any order; of two for the same place the last holds.
    pub fn new(scores: impl IntoIterator<Item = (usize, f64, Score)>) -> Self {
        let scores: Vec<(usize, f64, Score)> = scores.into_iter().collect();
        let mut lengths: Vec<usize> = scores.iter().map(|&(length, ..)| length).collect();
        let mut depths: Vec<f64> = scores.iter().map(|&(_, depth, _)| depth).collect();
        lengths.sort_unstable();
        lengths.dedup();
        depths.sort_unstable_by(f64::total_cmp);
        depths.dedup_by(|a, b| a.total_cmp(b).is_eq());
        let at = |length: usize, depth: f64| {
            let same = |&&(l, d, _): &&(usize, f64, Score)| l == length && d.total_cmp(&depth).is_eq();
            scores.iter().rev().find(same).map(|&(.., score)| score)
        };
        let scores =
            depths.iter().map(|&depth| lengths.iter().map(|&length| at(length, depth)).collect()).collect();
        Self { format_version: 1, lengths, depths, scores }
    }

    /// Depths in rows, lengths in columns, percent ± standard error.
    pub fn table(&self) -> String {
        let mut rows = vec![row("depth", self.lengths.iter().map(usize::to_string))];
        for (depth, scores) in self.depths.iter().zip(&self.scores) {
            let cells = scores.iter().map(|score| score.map_or("-".to_owned(), |score| percent(&score)));
            rows.push(row(&format!("{:.0} %", 100.0 * depth), cells));
        }
        aligned(&rows) + "note: a needle that is found is no sufficient evidence of a long context\n"
    }
}

fn percent(score: &Score) -> String {
    format!("{:.1}±{:.1}", 100.0 * score.value, 100.0 * score.stderr)
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

/// The first column to the left, the others to the right, two spaces between.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text += cells.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Formula;

    fn cell(kind: Kind, length: usize, value: f64) -> Cell {
        Cell {
            kind,
            length,
            score: Score { value, stderr: 0.01, n: 100, formula: Formula::Binomial },
            cut: 0,
        }
    }

    #[test]
    fn the_effective_length_ends_at_the_first_that_fails() {
        let of = |means: &[(usize, f64)]| {
            let cells = means.iter().map(|&(length, value)| cell(Kind::Vt, length, value)).collect();
            RulerReport::new(cells, Vec::new(), LLAMA_2_7B_AT_4K).effective_length
        };
        assert_eq!(of(&[(8192, 0.9), (4096, 0.95), (16384, 0.7), (32768, 0.9)]), Some(8192));
        assert_eq!(of(&[(4096, 0.85)]), None);
        assert_eq!(of(&[(4096, 0.856)]), Some(4096));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_table_says_what_was_and_was_not_run() {
        let cells = vec![
            cell(Kind::Vt, 8192, 0.5),
            cell(Kind::NiahSingle1, 4096, 1.0),
            cell(Kind::Vt, 4096, 0.8),
            cell(Kind::NiahSingle1, 8192, 1.0),
        ];
        let reason = "no file of questions was given".to_owned();
        let report = RulerReport::new(cells, vec![NotRun { kind: Kind::Qa1, length: None, reason }], 0.856);
        assert_eq!(
            report.table(),
            "task                4096       8192\n\
             niah_single_1  100.0±1.0  100.0±1.0\n\
             vt              80.0±1.0   50.0±1.0\n\
             mean            90.0±0.7   75.0±0.7\n\
             effective length at 85.6 %: 4096\n\
             not run: qa_1: no file of questions was given\n\
             note: 11 of RULER's 13 tasks were not run\n"
        );
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"niah_single_1\"") && json.contains("\"qa_1\""));
        assert_eq!(serde_json::from_str::<RulerReport>(&json).unwrap(), report);
    }

    #[test]
    fn needles_alone_are_no_evidence() {
        let needles = RulerReport::new(vec![cell(Kind::NiahSingle2, 4096, 1.0)], Vec::new(), 0.856);
        assert!(needles.notes[0].starts_with("only needles were run"), "{:?}", needles.notes);
        let uneven = vec![cell(Kind::Vt, 256, 1.0), cell(Kind::Vt, 512, 1.0), cell(Kind::Cwe, 512, 1.0)];
        let uneven = RulerReport::new(uneven, Vec::new(), 0.856);
        assert!(uneven.notes[0].contains("different tasks"), "{:?}", uneven.notes);
        let cut = RulerReport::new(vec![Cell { cut: 3, ..cell(Kind::Vt, 256, 1.0) }], Vec::new(), 0.856);
        assert!(cut.notes[0].starts_with("3 prompts were cut"), "{:?}", cut.notes);
    }

    #[test]
    fn the_grid_has_a_place_for_every_depth_and_length() {
        let score = |value| Score { value, stderr: 0.0, n: 10, formula: Formula::Binomial };
        let grid = NeedleGrid::new([
            (512, 1.0, score(0.5)),
            (256, 0.0, score(1.0)),
            (256, 1.0, score(0.0)),
            (256, 1.0, score(0.9)),
        ]);
        assert_eq!((grid.lengths.as_slice(), grid.depths.as_slice()), (&[256, 512][..], &[0.0, 1.0][..]));
        assert_eq!(grid.scores, [vec![Some(score(1.0)), None], vec![Some(score(0.9)), Some(score(0.5))]]);
        assert!(
            grid.table().starts_with("depth        256       512\n0 %    100.0±0.0         -\n"),
            "{}",
            grid.table()
        );
    }
}
