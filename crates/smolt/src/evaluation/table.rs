//! Scores for people.

use crate::commands::eval::contamination;
use crate::output;
use smolt_eval::reading::Reading;
use smolt_eval::record::Results;
use smolt_eval::stats::Score;

/// The scores for people: each with its error and what a guess scores.
pub(crate) fn table(results: &Results) -> String {
    let header = [
        "task",
        "formulation",
        "shots",
        "items",
        "score",
        "value",
        "±",
        "random",
        "most frequent",
        "contaminated",
    ];
    let percent = |x: f64| format!("{:.1}", 100.0 * x);
    let mut rows = Vec::new();
    for result in &results.tasks {
        let scores = &result.scores;
        let Score { value, stderr, .. } = scores.primary().unwrap_or(Score::of([]));
        rows.push(vec![
            result.task.clone(),
            result.how.formulation.name().into(),
            result.few_shot.to_string(),
            output::thousands(scores.items as u64),
            scores.primary.clone(),
            percent(value),
            percent(stderr),
            percent(scores.random_baseline),
            scores.most_frequent.map_or("-".into(), percent),
            result.contamination.as_ref().map_or("not measured".into(), |of| of.summary()),
        ]);
    }
    let mut text = if rows.is_empty() { String::new() } else { output::table(&header, &rows) };
    if !results.texts.is_empty() {
        let rows: Vec<Vec<String>> = results.texts.iter().map(text_row).collect();
        text += &format!(
            "\n{}",
            output::table(&["text", "documents", "bytes", "tokens", "bits per byte", "±"], &rows)
        );
    }
    for result in &results.tasks {
        if result.held_out {
            text += &format!("\n{}: {}", result.name(), result.standing);
        }
        for line in contamination::lines(&result.name(), result.contamination.as_ref()) {
            text += &format!("\n{line}");
        }
        let counts = &result.scores.counts;
        let said = [
            (counts.truncated_prompts, "prompts cut to fit the context"),
            (counts.truncated_answers, "answers cut at the token limit"),
            (counts.unclosed_reasoning, "answers whose reasoning never ended"),
            (counts.nothing_extracted, "answers in which nothing was found"),
        ];
        for (count, what) in said.iter().filter(|(count, _)| *count > 0) {
            text += &format!("\n{}: {count} {what}", result.name());
        }
    }
    text
}

fn text_row(reading: &Reading) -> Vec<String> {
    vec![
        reading.path.clone(),
        output::thousands(reading.documents as u64),
        output::thousands(reading.bytes as u64),
        output::thousands(reading.tokens as u64),
        format!("{:.4}", reading.bits_per_byte),
        reading.stderr.map_or("-".into(), |stderr| format!("{stderr:.4}")),
    ]
}
