//! What is left behind in a folder of results.

use crate::output;
use smolt_eval::lm_eval;
use smolt_eval::record::{self, Results};
use smolt_run::error::{Failure, FileError};
use std::path::Path;

/// Writes results, the files of lm-evaluation-harness and the page.
pub(super) fn keep(out: &Path, results: &Results) -> Result<(), Failure> {
    record::write_results(out, results)?;
    write_lm_eval(out, results)?;
    crate::commands::eval::report::write(out, results).map(drop)
}

/// The same in the files of lm-evaluation-harness.
fn write_lm_eval(out: &Path, results: &Results) -> Result<(), Failure> {
    let folder = out.join("lm_eval");
    std::fs::create_dir_all(&folder).map_err(|e| FileError::writing(&folder, e))?;
    let text = output::or_empty(serde_json::to_string_pretty(&lm_eval::results(results)));
    smolt_run::atomic::write(&folder.join(lm_eval::results_file(&results.date)), text.as_bytes())?;
    for task in &results.tasks {
        let path = record::samples_path(out, &task.task, task.how.formulation);
        let lines: String =
            lm_eval::samples(&record::read_samples(&path)?).iter().map(|line| format!("{line}\n")).collect();
        smolt_run::atomic::write(&folder.join(lm_eval::samples_file(results, task)), lines.as_bytes())?;
    }
    Ok(())
}
