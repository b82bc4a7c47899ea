//! What the verdicts of turns add up to: by turn and mode, beside what a model scores that always does the same (spec CA-01,
//! E-04).

use super::{FORMAT_VERSION, Mode, Turn, ask::passes};
use crate::model::Finish;
use crate::score::reasoning::Reasoning;
use crate::stats::paired::{self, Comparison, Settings};
use crate::stats::{self, Score};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The share of some turns that passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Of those in mode `think`, where there are any.
    pub think: Option<Score>,
    /// Of those in mode `no_think`, where there are any.
    pub no_think: Option<Score>,
    /// Of all.
    pub all: Score,
    /// What a model scores that always thinks.
    pub always_thinks: f64,
    /// What a model scores that never thinks.
    pub never_thinks: f64,
}

/// Turns that say less than their verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Prompts cut from the left to fit the context: a flag may be gone.
    pub truncated_prompts: usize,
    /// Answers that ran into the token limit.
    pub truncated_answers: usize,
    /// Think blocks that never ended.
    pub unclosed: usize,
    /// Of those, how many passed: a block that does not end is not empty.
    pub unclosed_passed: usize,
    /// Answers with nothing but a think block, or nothing at all; the latter pass in mode `no_think`.
    pub nothing_said: usize,
}

/// What the tests say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not shown to be better at the first turn than always or never thinking.
    NotShown,
    /// Heeds the flag at the first turn; there are no others, or too few conversations to compare them.
    FirstTurnOnly,
    /// Heeds the flag at the first turn, and less from turn 2 on.
    Falls,
    /// Heeds the flag, and no fall from turn 2 on was seen.
    Holds,
}

/// Scores and tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this layout.
    pub format_version: u32,
    /// Conversations asked.
    pub conversations: usize,
    /// By turn, the first first.
    pub turns: Vec<Cell>,
    /// Over all turns.
    pub overall: Cell,
    /// Over turns with a flag of their own.
    pub given: Cell,
    /// Over turns where an earlier flag is still in force, where there are any.
    pub carried: Option<Cell>,
    /// By language, where there are several.
    pub languages: BTreeMap<String, Cell>,
    /// Turns that say less than their verdict.
    pub counts: Counts,
    /// First turns against always thinking, and against never thinking; none with fewer than two conversations.
    pub first_turn: Option<[Comparison; 2]>,
    /// Later turns of a conversation (their mean) against its first.
    pub later_turns: Option<Comparison>,
    /// By those tests.
    pub verdict: Verdict,
}

impl Cell {
    fn of<'t>(turns: impl IntoIterator<Item = &'t Turn>) -> Cell {
        let turns: Vec<&Turn> = turns.into_iter().collect();
        let of_mode = |mode| {
            let turns: Vec<&Turn> = turns.iter().copied().filter(|turn| turn.mode == mode).collect();
            (!turns.is_empty()).then(|| score(&turns))
        };
        let (think, no_think) = (of_mode(Mode::Think), of_mode(Mode::NoThink));
        let share =
            |score: &Option<Score>| score.map_or(0.0, |score| score.n as f64 / turns.len().max(1) as f64);
        Cell {
            all: score(&turns),
            always_thinks: share(&think),
            never_thinks: share(&no_think),
            think,
            no_think,
        }
    }
}

/// Turns of one conversation pass or fail together, so it is conversations that the error counts.
fn score(turns: &[&Turn]) -> Score {
    let values: Vec<f64> = turns.iter().map(|turn| value(turn)).collect();
    let clusters: Vec<usize> = turns.iter().map(|turn| turn.row).collect();
    Score::fitting(&values, &clusters)
}

fn value(turn: &Turn) -> f64 {
    f64::from(u8::from(turn.passed))
}

impl Report {
    /// Of all turns asked.
    ///
    /// # Errors
    /// None but those of the tests' settings, which are fixed.
    pub fn new(turns: &[Turn]) -> Result<Report, stats::Error> {
        let longest = turns.iter().map(|turn| turn.turn).max().unwrap_or(0);
        let at = |n: usize| turns.iter().filter(move |turn| turn.turn == n);
        let carried: Vec<&Turn> = turns.iter().filter(|turn| turn.flag.is_none()).collect();
        let mut languages: BTreeMap<String, Vec<&Turn>> = BTreeMap::new();
        for turn in turns {
            languages
                .entry(turn.language.clone().unwrap_or_else(|| "unknown".into()))
                .or_default()
                .push(turn);
        }
        if languages.len() < 2 {
            languages.clear();
        }
        let first_turn = against_constants(&at(1).collect::<Vec<_>>())?;
        let later_turns = against_first(turns)?;
        Ok(Report {
            format_version: FORMAT_VERSION,
            conversations: at(1).count(),
            turns: (1..=longest).map(|n| Cell::of(at(n))).collect(),
            overall: Cell::of(turns),
            given: Cell::of(turns.iter().filter(|turn| turn.flag.is_some())),
            carried: (!carried.is_empty()).then(|| Cell::of(carried)),
            languages: languages.into_iter().map(|(name, turns)| (name, Cell::of(turns))).collect(),
            counts: counts(turns),
            verdict: verdict(first_turn.as_ref(), later_turns.as_ref()),
            first_turn,
            later_turns,
        })
    }

    /// The verdict in a sentence, with the numbers behind it.
    pub fn verdict_line(&self) -> String {
        let percent = |x: f64| format!("{:.1} %", 100.0 * x);
        let first = self.turns.first().map_or(0.0, |cell| cell.all.value);
        let p = |test: &Comparison| match test.p_adjusted {
            p if p < 0.001 => "p < 0.001".to_owned(),
            p => format!("p = {p:.3}"),
        };
        let later = self.later_turns.as_ref().map_or_else(String::new, |test| {
            let Score { value, stderr, .. } = test.difference;
            format!("{:+.1} ± {:.1} points, {}", 100.0 * value, 100.0 * stderr, p(test))
        });
        match self.verdict {
            Verdict::NotShown => format!(
                "not shown to heed the flag at the first turn: {} passed, against {} for always and {} for never \
                 thinking{}",
                percent(first),
                percent(self.turns.first().map_or(0.0, |cell| cell.always_thinks)),
                percent(self.turns.first().map_or(0.0, |cell| cell.never_thinks)),
                self.first_turn.map_or_else(
                    || "; ask more conversations".into(),
                    |[always, never]| format!(" ({} and {})", p(&always), p(&never))
                ),
            ),
            Verdict::FirstTurnOnly => {
                format!(
                    "heeds the flag at the first turn ({}); later turns were not asked, or too few of them to compare",
                    percent(first)
                )
            }
            Verdict::Falls => format!(
                "falls from turn 2 on: {later} against the first turn ({}); train on conversations with flags at later \
                 turns, and with earlier turns as the model will see them",
                percent(first)
            ),
            Verdict::Holds => {
                let seen = self.later_turns.and_then(|test| test.smallest_visible);
                let seen = seen.map_or(String::new(), |x| {
                    format!("; a fall of {:.1} points would have been", 100.0 * x)
                });
                format!(
                    "no fall from turn 2 on was seen: {later} against the first turn ({}){seen}",
                    percent(first)
                )
            }
        }
    }

    /// What a reader must know beside the scores, a line each.
    pub fn notes(&self) -> Vec<String> {
        let Counts { truncated_prompts, truncated_answers, unclosed, unclosed_passed, nothing_said } =
            self.counts;
        let told = [
            (
                truncated_prompts,
                format!("{truncated_prompts} prompts cut to fit the context, perhaps with their flag"),
            ),
            (truncated_answers, format!("{truncated_answers} answers cut at the token limit")),
            (unclosed, format!("{unclosed} think blocks never ended ({unclosed_passed} of them passed)")),
            (nothing_said, format!("{nothing_said} answers say nothing outside of a think block")),
        ];
        told.into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note).collect()
    }
}

fn counts(turns: &[Turn]) -> Counts {
    let count = |counts: fn(&Turn) -> bool| turns.iter().filter(|turn| counts(turn)).count();
    Counts {
        truncated_prompts: count(|turn| turn.dropped_tokens > 0),
        truncated_answers: count(|turn| turn.finish == Finish::Length),
        unclosed: count(|turn| turn.reasoning == Reasoning::Unclosed),
        unclosed_passed: count(|turn| turn.reasoning == Reasoning::Unclosed && turn.passed),
        nothing_said: count(|turn| !turn.said),
    }
}

/// First turns against a model that always thinks and one that never does, judged together.
fn against_constants(first: &[&Turn]) -> Result<Option<[Comparison; 2]>, stats::Error> {
    if first.len() < 2 {
        return Ok(None);
    }
    let values: Vec<f64> = first.iter().map(|turn| value(turn)).collect();
    let against = |block: &str| {
        let constant: Vec<f64> =
            first.iter().map(|turn| f64::from(u8::from(passes(turn.mode, block)))).collect();
        paired::compare(&constant, &values, &Settings::default())
    };
    let mut both = [against("thought")?, against("")?];
    paired::judge_family(&mut both);
    Ok(Some(both))
}

/// The mean of later turns against the first turn, a pair for each conversation that has both.
fn against_first(turns: &[Turn]) -> Result<Option<Comparison>, stats::Error> {
    let mut conversations: BTreeMap<usize, (Option<f64>, Vec<f64>)> = BTreeMap::new();
    for turn in turns {
        let (first, later) = conversations.entry(turn.row).or_default();
        match turn.turn {
            1 => *first = Some(value(turn)),
            _ => later.push(value(turn)),
        }
    }
    let pairs = conversations.into_values().filter_map(|(first, later)| {
        let mean = later.iter().sum::<f64>() / later.len() as f64;
        (!later.is_empty()).then_some((first?, mean))
    });
    let (first, later): (Vec<f64>, Vec<f64>) = pairs.unzip();
    if first.len() < 2 {
        return Ok(None);
    }
    paired::compare(&first, &later, &Settings::default()).map(Some)
}

fn verdict(first: Option<&[Comparison; 2]>, later: Option<&Comparison>) -> Verdict {
    use paired::Verdict as Test;
    let heeds = first.is_some_and(|tests| tests.iter().all(|test| test.verdict == Test::Better));
    match later.map(|test| test.verdict) {
        _ if !heeds => Verdict::NotShown,
        None => Verdict::FirstTurnOnly,
        Some(Test::Worse) => Verdict::Falls,
        Some(Test::Better | Test::NoDifference) => Verdict::Holds,
    }
}
