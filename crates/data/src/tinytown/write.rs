//! Tinytown as files.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use smolt_run::atomic;
use smolt_run::error::FileError;

use super::{Skill, Split, World};

/// How much of Tinytown to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Decides everything; the same seed gives the same bytes.
    pub seed: u64,
    /// Training recitals.
    pub recitals: u64,
    /// Training stories.
    pub stories: u64,
    /// Training pages of questions and answers.
    pub qa: u64,
    /// Training chats.
    pub chats: u64,
}

impl Default for Settings {
    /// About 15 MB of pages, 5 MB of chats and 5 MB of recitals.
    fn default() -> Self {
        Self { seed: 0, recitals: 30_000, stories: 20_000, qa: 40_000, chats: 20_000 }
    }
}

/// What [`write_jsonl`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all files.
    pub bytes: u64,
    /// Lines of all files.
    pub lines: u64,
}

/// Writes `recitals.train.jsonl`, `stories.train.jsonl`, `qa.train.jsonl`, `chats.train.jsonl`, the same four with `valid` (a twentieth as
/// long, of facts kept from training), `test/<skill>.jsonl` and `chat_prompts.jsonl` into `dir`, making it if needed.
/// Errors name the file that could not be written.
pub fn write_jsonl(dir: &Path, settings: &Settings) -> Result<Written, FileError> {
    let world = World::new(settings.seed);
    let test = dir.join("test");
    std::fs::create_dir_all(&test).map_err(|source| FileError::new("create", &test, source))?;
    let mut written = Written::default();
    for (split, part) in [(Split::Train, 1), (Split::Valid, 20)] {
        let path = |kind: &str| dir.join(format!("{kind}.{}.jsonl", split.name()));
        lines(&path("recitals"), world.recitals(settings.recitals.div_ceil(part), split), &mut written)?;
        lines(&path("stories"), world.stories(settings.stories.div_ceil(part), split), &mut written)?;
        lines(&path("qa"), world.qa(settings.qa.div_ceil(part), split), &mut written)?;
        lines(&path("chats"), world.chats(settings.chats.div_ceil(part), split), &mut written)?;
    }
    for skill in Skill::ALL {
        lines(
            &test.join(format!("{}.jsonl", skill.name())),
            world.test_items(skill).into_iter(),
            &mut written,
        )?;
    }
    lines(&dir.join("chat_prompts.jsonl"), world.chat_prompts().into_iter(), &mut written)?;
    Ok(written)
}

/// One JSON object a line.
pub(crate) fn lines<T: Serialize>(
    path: &Path,
    records: impl Iterator<Item = T>,
    written: &mut Written,
) -> Result<(), FileError> {
    atomic::write_with(path, |out| {
        let mut line = Vec::new();
        for record in records {
            line.clear();
            serde_json::to_writer(&mut line, &record).map_err(io::Error::from)?;
            line.push(b'\n');
            out.write_all(&line)?;
            written.bytes += line.len() as u64;
            written.lines += 1;
        }
        Ok(())
    })
}
