//! What of a report speaks against the model.

use super::{Experts, FEW, Report};

/// Scores beyond this leave a softmax no choice, and grow before a loss spikes (STB-04).
const LARGE_SCORE: f64 = 50.0;

/// First tokens that have this share of attention, …
const SINK_SHARE: f64 = 0.3;
/// … and so many times what they would have by chance, serve as sinks (SCP-05).
const SINK_LIFT: f64 = 3.0;

/// An expert that serves this share of all tokens has taken all (MOE-09).
const TAKES_ALL: f64 = 0.9;

/// Rows per expert from which on an expert without any is no chance.
const EXPECTED_ROWS: u64 = 16;

/// Layers or experts that a sentence names.
const NAMED: usize = 8;

/// A sentence for each thing that wants attention (spec STB-04, SCP-05, MOE-09).
pub fn warnings(report: &Report) -> Vec<String> {
    let experts = report.layers.iter().enumerate();
    let experts = experts.filter_map(|(layer, seen)| Some((layer, seen.experts.as_ref()?)));
    let of_experts = experts.flat_map(|(layer, experts)| [dead(layer, experts), takes_all(layer, experts)]);
    [large_scores(report), windows(report)].into_iter().chain(of_experts).flatten().collect()
}

fn large_scores(report: &Report) -> Option<String> {
    let large = layers(report, |layer| layer.looks.largest_product > LARGE_SCORE)?;
    let most = report.layers.iter().map(|layer| layer.looks.largest_product).fold(0.0, f64::max);
    Some(format!(
        "attention scores reach {most:.0} in magnitude, more than {LARGE_SCORE:.0} in {large}: a softmax of such scores looks \
         at one token, and they grow before a loss spikes; qk_norm, attn_logit_softcapping or a lower learning rate keep \
         them down (STB-04)"
    ))
}

fn windows(report: &Report) -> Option<String> {
    let leans = |layer: &super::Layer| {
        let looks = &layer.looks;
        looks.window_without_sinks
            && looks.few.is_some_and(|few| {
                few.mean >= SINK_SHARE && few.mean >= SINK_LIFT * looks.few_uniform.unwrap_or(0.0)
            })
    };
    let leaning = layers(report, leans)?;
    Some(format!(
        "windows without sinks in {leaning}, where the first {FEW} tokens have {:.0} % of the attention or more as long as they are \
         seen: once the window has left them, the same heads do something else; attention_sinks or sink_tokens keep a \
         place for it (SCP-05)",
        100.0 * SINK_SHARE
    ))
}

fn dead(layer: usize, experts: &Experts) -> Option<String> {
    let dead = experts.dead();
    let rows: u64 = experts.load().iter().sum();
    if dead.is_empty() || rows < EXPECTED_ROWS * experts.experts() as u64 {
        return None;
    }
    Some(format!(
        "layer {layer}: {} of {} experts served none of {} tokens: {} (MOE-09)",
        dead.len(),
        experts.experts(),
        experts.tokens.iter().sum::<u64>(),
        listed(&dead)
    ))
}

fn takes_all(layer: usize, experts: &Experts) -> Option<String> {
    let busiest = experts.busiest();
    let (share, most) = (experts.total_share(busiest), experts.max_load());
    // Where each token goes to nearly every expert, every one serves nearly all.
    if share < TAKES_ALL || most < 1.5 {
        return None;
    }
    Some(format!(
        "layer {layer}: expert {busiest} serves {:.0} % of the tokens, {most:.1} times the mean; with a device for each expert \
         they would be used to {:.0} % (MOE-09)",
        100.0 * share,
        100.0 / most
    ))
}

/// "layer 3", "layers 0, 2, 5", if there are any.
fn layers(report: &Report, which: impl Fn(&super::Layer) -> bool) -> Option<String> {
    let found: Vec<usize> =
        report.layers.iter().enumerate().filter(|(_, layer)| which(layer)).map(|(i, _)| i).collect();
    let word = if found.len() == 1 { "layer" } else { "layers" };
    (!found.is_empty()).then(|| format!("{word} {}", listed(&found)))
}

fn listed(numbers: &[usize]) -> String {
    let mut names: Vec<String> = numbers.iter().take(NAMED).map(ToString::to_string).collect();
    if numbers.len() > NAMED {
        names.push("…".into());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Layer, Looks, Mass, Norms, Report, Spread};
    use super::*;

    fn report(looks: Looks, experts: Option<Experts>) -> Report {
        let layer = Layer { stream_rms: 1.0, attention_rms: 1.0, mlp_rms: 1.0, looks, experts };
        let quiet = Layer { looks: Looks::default(), experts: None, ..layer.clone() };
        Report {
            texts: Vec::new(),
            log_z: Spread::default(),
            embedding: Norms::default(),
            head: None,
            embedded_rms: 1.0,
            layers: vec![quiet, layer],
        }
    }

    #[test]
    fn what_is_well_is_not_warned_of() {
        let even = Experts { counts: vec![vec![50; 4]], tokens: vec![100], entropies: vec![1.0] };
        assert!(warnings(&report(Looks::default(), Some(even))).is_empty());
        // Few rows may miss an expert by chance, and the first of few rows seen have much by chance.
        let few = Experts { counts: vec![vec![20, 20, 20, 0]], tokens: vec![30], entropies: vec![1.0] };
        let short = Looks {
            few: Some(Mass { mean: 0.5, most: 0.6 }),
            few_uniform: Some(0.4),
            window_without_sinks: true,
            ..Looks::default()
        };
        assert!(warnings(&report(short, Some(few))).is_empty());
    }

    #[test]
    fn collapsed_experts_are_told_with_what_they_cost() {
        let counts = vec![vec![60, 0, 0, 4], vec![40, 0, 0, 0]];
        let collapsed = Experts { counts, tokens: vec![64, 40], entropies: vec![0.1, 0.1] };
        let told = warnings(&report(Looks::default(), Some(collapsed)));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("layer 1: 2 of 4 experts served none of 104 tokens: 1, 2 "),
            "{}",
            told[0]
        );
        assert!(told[1].contains("expert 0 serves 96 % of the tokens, 3.8 times the mean"), "{}", told[1]);
        assert!(told[1].contains("used to 26 %"), "{}", told[1]);
    }

    #[test]
    fn large_scores_and_windows_that_lean_on_first_tokens_are_told() {
        let looks = Looks {
            largest_product: 63.4,
            few: Some(Mass { mean: 0.6, most: 0.9 }),
            few_uniform: Some(0.02),
            window_without_sinks: true,
            ..Looks::default()
        };
        let told = warnings(&report(looks, None));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("reach 63 in magnitude, more than 50 in layer 1:"), "{}", told[0]);
        assert!(
            told[1].starts_with("windows without sinks in layer 1, ") && told[1].contains("SCP-05"),
            "{}",
            told[1]
        );
        let kept = Looks { window_without_sinks: false, largest_product: 49.0, ..looks };
        assert!(warnings(&report(kept, None)).is_empty());
    }
}
