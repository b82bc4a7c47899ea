//! Conversations out of rows: the columns of Multi-IF, or a list of messages.

use super::Error;
use crate::dataset::Provenance;
use crate::task::pose::Row;
use serde_json::Value;

/// Most turns of a conversation: what a number in a file can claim.
const MAX_TURNS: usize = 100;

/// Twenty conversations of three turns, written for smolt.
const BUNDLED: &str = include_str!("../../data/thinkfollow.jsonl");

/// What a user says, turn by turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// `key` or `id` of the row, else its number.
    pub id: String,
    /// Place in the split.
    pub row: usize,
    /// Where the row says it.
    pub language: Option<String>,
    /// At least one, none blank.
    pub turns: Vec<String>,
}

/// The conversations that come with smolt.
///
/// # Errors
/// None that a test would not have found.
pub fn bundled() -> Result<(Vec<Conversation>, Provenance), Error> {
    let name = "bundled conversations";
    let row = |(row, line): (usize, &str)| {
        let wrong = |e: serde_json::Error| Error::Row { file: name.into(), row, problem: e.to_string() };
        serde_json::from_str::<Row>(line).map_err(wrong)
    };
    let rows = BUNDLED.lines().enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    let provenance = Provenance {
        path: name.into(),
        found: name.into(),
        revision: None,
        config: None,
        split: "test".into(),
        hash: blake3::hash(BUNDLED.as_bytes()).to_hex()[..16].to_owned(),
        rows: rows.len(),
        few_shot_hash: None,
    };
    Ok((conversations(name, &rows)?, provenance))
}

/// One conversation a row; `file` stands in errors.
///
/// # Errors
/// The first row that is none.
pub fn conversations(file: &str, rows: &[Row]) -> Result<Vec<Conversation>, Error> {
    let read = |(at, row): (usize, &Row)| {
        let wrong = |problem| Error::Row { file: file.to_owned(), row: at, problem };
        let turns = turns(row).map_err(wrong)?;
        let text = |key: &str| match row.get(key)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let id = text("key").or_else(|| text("id")).unwrap_or_else(|| at.to_string());
        Ok(Conversation { id, row: at, language: text("language"), turns })
    };
    rows.iter().enumerate().map(read).collect()
}

fn turns(row: &Row) -> Result<Vec<String>, String> {
    let turns = match row.get("messages").filter(|messages| !messages.is_null()) {
        Some(messages) => of_messages(messages)?,
        None if row.contains_key("turn_1_prompt") => of_columns(row)?,
        None => {
            let columns: Vec<&str> = row.keys().take(20).map(String::as_str).collect();
            let has = if columns.is_empty() { "no columns".into() } else { columns.join(", ") };
            return Err(format!("it has {has}; give it `turn_1_prompt`, `turn_2_prompt`, … or `messages`"));
        }
    };
    if turns.is_empty() {
        return Err("the user says nothing; leave the row out".into());
    }
    if turns.len() > MAX_TURNS {
        return Err(format!("it has {} turns; cut it to {MAX_TURNS} or fewer", turns.len()));
    }
    for (at, text) in turns.iter().enumerate() {
        if let Some(flag) = ["/think", "/no_think"].into_iter().find(|flag| says(text, flag)) {
            return Err(format!("turn {} already says {flag}; take it out", at + 1));
        }
    }
    Ok(turns)
}

/// Whether a flag stands in a text, as a word or beside punctuation: templates look for it anywhere.
fn says(text: &str, flag: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(flag).any(|(at, _)| !text[at + flag.len()..].starts_with(goes_on))
}

/// What the user says in a list of messages.
fn of_messages(messages: &Value) -> Result<Vec<String>, String> {
    let shape = "`messages` must be a list of {\"role\": …, \"content\": \"…\"}";
    // Formats whose cells are strings hold the list as JSON.
    let parsed: Value;
    let list = match messages {
        Value::Array(list) => list,
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|e| format!("{shape}: {e}"))?;
            parsed.as_array().ok_or(shape)?
        }
        _ => return Err(shape.into()),
    };
    let mut turns = Vec::new();
    for (at, message) in list.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str);
        let role = role.ok_or_else(|| format!("message {at} has no role; {shape}"))?;
        if role != "user" {
            continue;
        }
        match message.get("content").and_then(Value::as_str) {
            Some(text) if !text.trim().is_empty() => turns.push(text.to_owned()),
            Some(_) => return Err(format!("message {at} of the user is blank; leave it out")),
            None => return Err(format!("message {at} of the user has no text; {shape}")),
        }
    }
    Ok(turns)
}

/// What stands in `turn_1_prompt`, `turn_2_prompt`, … up to the first that is missing or blank, as Multi-IF leaves the third
/// turn of some conversations.
fn of_columns(row: &Row) -> Result<Vec<String>, String> {
    let mut turns: Vec<String> = Vec::new();
    for turn in 1.. {
        let name = format!("turn_{turn}_prompt");
        let cell = row.get(&name);
        let text = cell.map_or(Ok(String::new()), prompt).map_err(|problem| format!("`{name}` {problem}"))?;
        if text.trim().is_empty() {
            let later = |key: &str| {
                let number = key.strip_prefix("turn_")?.strip_suffix("_prompt")?.parse::<u64>().ok()?;
                Some(number > turn)
            };
            let said = |cell: &Value| prompt(cell).is_ok_and(|text| !text.trim().is_empty());
            if let Some((after, _)) = row.iter().find(|(key, cell)| later(key) == Some(true) && said(cell)) {
                return Err(format!("`{name}` is blank or missing and `{after}` is not; close the gap"));
            }
            break;
        }
        turns.push(text);
    }
    Ok(turns)
}

/// A prompt: plain text, or a message of the user, or that as JSON.
fn prompt(cell: &Value) -> Result<String, String> {
    match cell {
        Value::Null => Ok(String::new()),
        Value::Object(message) => of_message(message),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            // Text may begin like JSON and mean itself.
            Ok(Value::Object(message)) if message.contains_key("content") || message.contains_key("role") => {
                of_message(&message)
            }
            _ => Ok(text.clone()),
        },
        _ => Err("must be text or {\"role\": \"user\", \"content\": \"…\"}".into()),
    }
}

fn of_message(message: &Row) -> Result<String, String> {
    match message.get("role") {
        None => {}
        Some(Value::String(role)) if role == "user" => {}
        Some(role) => return Err(format!("has the role {role}, not \"user\"; correct it")),
    }
    let text = message.get("content").and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| "has no text as its `content`; correct it".into())
}
