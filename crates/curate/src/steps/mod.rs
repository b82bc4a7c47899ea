//! The steps, one file each, and the names by which recipes call them.

use smolt_run::recipe::Document as Table;

use crate::engine::{Error, Work};
use crate::recipe::Places;

smolt_run::recipe! {
    /// What a step does.
    pub enum Kind {
        /// Placeholder until the first step is merged.
        None = "none",
    }
}

/// Builds the step of this kind from its settings.
pub(crate) fn build(kind: Kind, settings: &Table, places: &Places) -> Result<Work, Error> {
    let _ = (settings, places);
    match kind {
        Kind::None => Err(Error::Settings("no step".into())),
    }
}
