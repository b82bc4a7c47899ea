//! Progress of long work: a bar on a terminal, a plain line now and then otherwise.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two plain lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Shows how far one piece of work is, on standard error.
#[derive(Debug)]
pub struct Progress {
    view: View,
    total: u64,
    label: String,
}

#[derive(Debug)]
enum View {
    Bar(ProgressBar),
    Lines { started: Instant, first: Option<u64>, printed: Option<Instant> },
    Hidden,
}

impl Progress {
    /// Work of `total` steps.
    pub fn new(total: u64, label: &str) -> Self {
        let view = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
            let template = "{prefix} {wide_bar} {pos}/{len} [{elapsed} < {eta}] {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(label.to_owned());
            View::Bar(bar)
        } else {
            View::Lines { started: Instant::now(), first: None, printed: None }
        };
        Self { view, total, label: label.to_owned() }
    }

    /// Shows nothing: for `--json` and `--quiet`.
    pub fn hidden() -> Self {
        Self { view: View::Hidden, total: 0, label: String::new() }
    }

    /// `step` steps are done. The first call tells where a resumed run starts.
    pub fn set(&mut self, step: u64, message: &str) {
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_message(message.to_owned());
                if bar.position() == 0 && step > 1 {
                    // A resumed run: steps of earlier runs must not count into the speed.
                    bar.set_position(step);
                    bar.reset_eta();
                } else {
                    bar.set_position(step);
                }
            }
            View::Lines { started, first, printed } => {
                let first = *first.get_or_insert(step);
                let due = printed.is_none_or(|at| at.elapsed() >= INTERVAL) || step >= self.total;
                if due {
                    *printed = Some(Instant::now());
                    let eta =
                        eta(started.elapsed(), step.saturating_sub(first), self.total.saturating_sub(step));
                    line(&format!("{} {step}/{} {message}{eta}", self.label, self.total));
                }
            }
            View::Hidden => {}
        }
    }

    /// A line of its own that does not tear the bar.
    pub fn note(&self, text: &str) {
        match &self.view {
            View::Bar(bar) => bar.suspend(|| line(text)),
            View::Lines { .. } => line(text),
            View::Hidden => {}
        }
    }

    /// Leaves the last state on the screen.
    pub fn finish(self) {
        if let View::Bar(bar) = &self.view {
            bar.abandon();
        }
    }
}

/// A closed standard error must not end a run.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn eta(elapsed: Duration, done: u64, left: u64) -> String {
    if done == 0 || left == 0 {
        return String::new();
    }
    let seconds = (elapsed.as_secs_f64() / done as f64 * left as f64).round() as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!(" ({seconds} s left)"),
        (0, minutes) => format!(" ({minutes} min {} s left)", seconds % 60),
        (hours, minutes) => format!(" ({hours} h {minutes} min left)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_time_reads_well() {
        assert_eq!(eta(Duration::from_secs(10), 0, 5), "");
        assert_eq!(eta(Duration::from_secs(10), 10, 5), " (5 s left)");
        assert_eq!(eta(Duration::from_secs(10), 1, 7), " (1 min 10 s left)");
        assert_eq!(eta(Duration::from_secs(3600), 1, 2), " (2 h 0 min left)");
    }

    #[test]
    fn any_order_of_calls_is_fine() {
        let mut progress = Progress::new(0, "empty");
        progress.set(5, "beyond");
        progress.set(0, "back");
        progress.note("note");
        progress.finish();
        Progress::hidden().set(1, "");
    }
}
