//! Which turns get a flag, and which: a pure function of seed and conversations.

use super::{Conversation, Mode};
use smolt_run::random::{Stream, key};

/// A turn as it will be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the user says.
    pub text: String,
    /// How it is to be answered: as the last flag says.
    pub mode: Mode,
    /// Whether a flag stands here.
    pub given: bool,
}

/// A conversation as it will be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Of the conversation.
    pub id: String,
    /// Place in the split.
    pub row: usize,
    /// Of the conversation.
    pub language: Option<String>,
    /// Turn by turn.
    pub steps: Vec<Step>,
}

/// Plans up to `limit` conversations of up to `turns` turns, in the order of their rows.
///
/// The first turn has a flag, every later one with probability ½, and a flag is either with probability ½. Conversations go
/// in pairs by the hash of what they say, and the second of a pair has the opposite flags at the same turns: so both modes
/// are equally frequent at every turn. A limit takes the first in that order, so that 100 are among the 1,000 and have the
/// same flags.
pub fn plan(
    conversations: &[Conversation],
    turns: Option<usize>,
    limit: Option<usize>,
    seed: u64,
) -> Vec<Planned> {
    let mut order: Vec<(u64, usize)> =
        conversations.iter().enumerate().map(|(at, conversation)| (identity(conversation), at)).collect();
    order.sort_unstable();
    order.truncate(limit.unwrap_or(usize::MAX));
    let key = key(seed, "eval.thinkfollow");
    let planned = |(rank, &(_, at)): (usize, &(u64, usize))| {
        let conversation = &conversations[at];
        let steps = steps(conversation, turns.unwrap_or(usize::MAX), key, rank);
        Planned {
            id: conversation.id.clone(),
            row: conversation.row,
            language: conversation.language.clone(),
            steps,
        }
    };
    let mut all: Vec<Planned> = order.iter().enumerate().map(planned).collect();
    all.sort_by_key(|planned| planned.row);
    all
}

/// A hash of what a conversation says: not of its name or place, which another file may give it.
fn identity(conversation: &Conversation) -> u64 {
    let mut name = format!("eval.thinkfollow/{}", conversation.language.as_deref().unwrap_or_default());
    for turn in &conversation.turns {
        // The length keeps apart what is divided differently.
        name += &format!("/{}/{turn}", turn.len());
    }
    key(0, &name)
}

fn steps(conversation: &Conversation, turns: usize, key: u64, rank: usize) -> Vec<Step> {
    let mut stream = Stream::from_key(key, rank as u64 / 2);
    let mut mode = Mode::Think;
    let step = |(turn, text): (usize, &String)| {
        // Both are drawn at every turn, so that conversations of different lengths begin alike.
        let (given, drawn) = (stream.below(2) == 0 || turn == 0, stream.below(2));
        if given {
            let first = if drawn == 0 { Mode::Think } else { Mode::NoThink };
            mode = if rank.is_multiple_of(2) { first } else { first.other() };
        }
        Step { text: text.clone(), mode, given }
    };
    conversation.turns.iter().take(turns).enumerate().map(step).collect()
}
