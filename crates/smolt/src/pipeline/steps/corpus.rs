//! `kind = "corpus"`: the bundled prose and code as JSONL.

use super::Context;
use smolt_run::error::Failure;

smolt_run::recipe! {
    /// The bundled corpus; nothing to set.
    pub(crate) struct CorpusSettings {
        /// Leaves out a part of the training prose: documents kept, from the first; 0 keeps all.
        prose_documents: usize = 0,
    }
}

pub(super) fn run(settings: &CorpusSettings, context: &Context<'_>) -> Result<(), Failure> {
    smolt_data::corpus::write_jsonl(context.folder)?;
    if settings.prose_documents > 0 {
        let path = context.folder.join("prose.train.jsonl");
        let text =
            std::fs::read_to_string(&path).map_err(|e| smolt_run::error::FileError::reading(&path, e))?;
        let kept: Vec<&str> = text.lines().take(settings.prose_documents).collect();
        smolt_run::atomic::write(&path, format!("{}\n", kept.join("\n")).as_bytes())?;
    }
    Ok(())
}
