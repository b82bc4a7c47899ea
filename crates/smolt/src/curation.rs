//! A curation with a progress bar, and its report as tables: for the command and for the pipeline's step.

use crate::output::{self, note, thousands};
use smolt_curate::engine::{self, Event, Options, Report, Tally};
use smolt_curate::recipe::Curation;
use smolt_run::error::Failure;
use smolt_run::progress::Progress;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Runs it to its end.
pub(crate) fn run(recipe: &Curation, options: &Options, quiet: bool) -> Result<Report, Failure> {
    let view = Mutex::new(View { progress: Progress::hidden(), pass: None, started: Instant::now() });
    let tell = |event| {
        if !quiet {
            view.lock().unwrap_or_else(PoisonError::into_inner).show(&event);
        }
    };
    let report = engine::run(recipe, options, &tell)?;
    if !quiet {
        for finding in &report.findings {
            note!(
                "warning: {} rejects {:.0} % of {} ({} of {} documents), but {:.1} % of all others",
                finding.step,
                finding.share * 100.0,
                finding.group,
                thousands(finding.rejected),
                thousands(finding.read),
                finding.share_of_others * 100.0
            );
        }
        let unreadable: u64 = report.total.unreadable.values().sum();
        if unreadable > 0 {
            let each = |(problem, count): (&String, &u64)| format!("{} {problem}", thousands(*count));
            let problems: Vec<String> = report.total.unreadable.iter().map(each).collect();
            note!("warning: {} records could not be read: {}", thousands(unreadable), problems.join(", "));
        }
    }
    Ok(report)
}

struct View {
    progress: Progress,
    pass: Option<usize>,
    started: Instant,
}

const MIB: u64 = 1 << 20;

impl View {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Note(text) => self.progress.note(text),
            Event::Progress { pass: (number, passes), bytes: (done, total) } => {
                if self.pass != Some(*number) {
                    std::mem::replace(&mut self.progress, bar(*number, *passes, *total)).finish();
                    (self.pass, self.started) = (Some(*number), Instant::now());
                }
                let rate = *done as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(1e-3);
                self.progress.set(done.div_ceil(MIB), &format!("{rate:.1} MB/s"));
            }
        }
    }
}

fn bar(number: usize, passes: usize, total: u64) -> Progress {
    let label = if passes > 1 { format!("pass {}/{passes}, MiB", number + 1) } else { "MiB".to_owned() };
    Progress::new(total.div_ceil(MIB), &label)
}

const MOST_REASONS: usize = 3;

/// What each step did, then how much of each source and kind of content it rejected.
pub(crate) fn table(report: &Report) -> String {
    let header = ["step", "documents", "rejected", "share", "changed", "most frequent reasons"];
    let rows: Vec<Vec<String>> = report
        .steps
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let step = report.total.steps.get(&number).cloned().unwrap_or_default();
            let mut reasons: Vec<(&String, &u64)> = step.reasons.iter().collect();
            reasons.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
            let told = |(reason, count): &(&String, &u64)| format!("{reason} {}", thousands(**count));
            let reasons: Vec<String> = reasons.iter().take(MOST_REASONS).map(told).collect();
            vec![
                name.clone(),
                thousands(step.seen.documents),
                thousands(step.rejected.documents),
                share(step.rejected.documents, step.seen.documents),
                thousands(step.changed.documents),
                reasons.join(", "),
            ]
        })
        .collect();
    let mut text = output::table(&header, &rows);
    text += "\n\nrejected, of the documents of each group that were read\n";
    text += &groups(report);
    text
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

fn groups(report: &Report) -> String {
    let mut header = vec!["group", "read", "kept"];
    header.extend(report.steps.iter().map(String::as_str));
    let source = |tally: &Tally| {
        (
            tally.read,
            (0..report.steps.len())
                .map(|n| tally.steps.get(&n).map_or(0, |s| s.rejected.documents))
                .collect(),
        )
    };
    let mut groups: Vec<(String, _)> =
        report.sources.iter().map(|(name, tally)| (format!("source {name}"), source(tally))).collect();
    groups.extend(report.total.kinds.iter().map(|(kind, group)| {
        let rejected = (0..report.steps.len()).map(|n| group.rejected.get(&n).map_or(0, |a| a.documents));
        (format!("kind {kind}"), (group.read, rejected.collect()))
    }));
    let rows: Vec<Vec<String>> = groups
        .into_iter()
        .map(|(name, (read, rejected)): (String, (engine::Amount, Vec<u64>))| {
            let kept = read.documents.saturating_sub(rejected.iter().sum());
            let mut row = vec![name, thousands(read.documents), share(kept, read.documents)];
            row.extend(rejected.iter().map(|&count| share(count, read.documents)));
            row
        })
        .collect();
    output::table(&header, &rows)
}
