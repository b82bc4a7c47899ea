//! `kind = "tinytown"`: the generated small world.

use super::Context;
use smolt_data::tinytown;
use smolt_run::error::Failure;

smolt_run::recipe! {
    /// How much of Tinytown to write. Test items and held-out facts are the same for any size.
    pub(crate) struct TinytownSettings {
        /// Decides everything.
        seed: u64 = 0,
        /// Training recitals: words said again, from which a model learns to look back.
        recitals: u64 = 30000,
        /// Training stories.
        stories: u64 = 20000,
        /// Training pages of questions and answers.
        qa: u64 = 40000,
        /// Training chats.
        chats: u64 = 10000,
    }
}

pub(super) fn run(s: &TinytownSettings, context: &Context<'_>) -> Result<(), Failure> {
    let &TinytownSettings { seed, recitals, stories, qa, chats } = s;
    let settings = tinytown::Settings { seed, recitals, stories, qa, chats };
    tinytown::write_jsonl(context.folder, &settings)?;
    Ok(())
}
