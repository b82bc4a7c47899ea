//! `kind = "report"`: one self-contained HTML page about the whole pipeline.

use super::Context;
use crate::report::{self, Inputs, Training};
use smolt_run::error::Failure;

smolt_run::recipe! {
    /// What the page shows.
    pub(crate) struct ReportSettings {
        /// Its title.
        title: String = String::from("smolt"),
        /// Training runs, in order.
        runs: Vec<RunReference>,
        /// The eval step of the final model.
        eval: String,
        /// The eval step of the model before SFT, for samples and scores beside it.
        before: Option<String>,
        /// Conversations shown before and after SFT.
        prompts: Vec<String> = Vec::new(),
        /// The model before SFT that answers `prompts`.
        model_before: Option<String>,
        /// The final model that answers `prompts`.
        model_after: Option<String>,
    }

    /// A training run to plot.
    pub(crate) struct RunReference {
        /// What it is called on the page.
        name: String,
        /// The run's folder.
        run: String,
    }
}

pub(super) fn run(s: &ReportSettings, context: &Context<'_>) -> Result<(), Failure> {
    let path = |p: &String| context.path(p);
    let html = report::html(&Inputs {
        title: &s.title,
        runs: s.runs.iter().map(|r| Training { name: r.name.clone(), folder: path(&r.run) }).collect(),
        eval: path(&s.eval),
        before: s.before.as_ref().map(path),
        prompts: &s.prompts,
        model_before: s.model_before.as_ref().map(path),
        model_after: s.model_after.as_ref().map(path),
        threads: context.threads,
    })?;
    smolt_run::atomic::write(&context.folder.join("report.html"), html.as_bytes())?;
    Ok(())
}
