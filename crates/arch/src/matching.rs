//! Fair comparisons (spec ABL-09): what else must change so that a changed model is as large, as dear or as deep as the
//! one it is compared with. A model that is simply larger wins for that alone.

use crate::config::{MAX_LAYERS, ModelConfig};
use crate::count;

/// A model within this share of the baseline is matched.
pub const TOLERANCE: f64 = 0.02;
/// Beyond this share of its parameters, or …
const TOO_FAR: f64 = 0.05;
/// … this many, an unmatched model is not compared.
const TOO_MANY: f64 = 100e6;
/// Widths are searched in multiples of this.
const STEP: usize = 64;
/// A size is searched up to so many times what it is.
const REACH: usize = 8;

/// What a variant has in common with the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Nothing was searched: only the change.
    AsChanged,
    /// Parameters; layers are searched first.
    Parameters,
    /// FLOPs per token; layers are searched first.
    Flops,
    /// Parameters and layers, since fewer layers are a change of their own.
    Depth,
}

impl Goal {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Goal::AsChanged => "as changed",
            Goal::Parameters => "iso-parameter",
            Goal::Flops => "iso-FLOP",
            Goal::Depth => "iso-depth",
        }
    }
}

/// Whether a variant may be compared with the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within [`TOLERANCE`].
    Matched,
    /// Not matched, but not far: the difference must be told with the result.
    Near,
    /// More than 100M parameters or 5 % above.
    TooLarge,
    /// As far below.
    TooSmall,
}

impl Verdict {
    /// A few words for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Matched => "matched",
            Verdict::Near => "not within 2 %",
            Verdict::TooLarge => "too large: not ablated",
            Verdict::TooSmall => "too small: not ablated",
        }
    }
}

/// What variants are matched to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Parameters.
    pub parameters: u64,
    /// FLOPs per token of training: of products. An untied embedding is looked up, so it costs none, although the 6·N of
    /// [`count::flops_per_token`] counts it.
    pub flops: f64,
}

impl Target {
    /// A model's own, at sequences of `sequence_length`.
    pub fn of(config: &ModelConfig, sequence_length: usize) -> Target {
        Target { parameters: count::parameters(config).total(), flops: flops_of(config, sequence_length) }
    }
}

fn flops_of(config: &ModelConfig, sequence_length: usize) -> f64 {
    let looked_up = if config.tie_word_embeddings { 0 } else { config.vocab_size * config.hidden_size };
    count::flops_per_token(config, sequence_length).total() - 6.0 * looked_up as f64
}

/// A model to compare with the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// What it has in common with it.
    pub goal: Goal,
    /// The model.
    pub config: ModelConfig,
    /// What to set beside the change, in a recipe's `[model]` table.
    pub settings: Vec<(&'static str, usize)>,
    /// Its size and price.
    pub counted: Target,
    /// Share of the baseline's parameters that it has more, negative when fewer.
    pub parameter_change: f64,
    /// The same of FLOPs.
    pub flops_change: f64,
    /// Whether it may be compared.
    pub verdict: Verdict,
}

/// The changed model as it is and matched in three ways to `target`, of `baseline` unless another is wanted. Sizes in which
/// `changed` differs from `baseline` are what is ablated, so the search leaves them alone. Both configurations have passed
/// [`ModelConfig::validate`], and so does every variant.
pub fn variants(
    baseline: &ModelConfig,
    changed: &ModelConfig,
    target: Target,
    sequence_length: usize,
) -> Vec<Variant> {
    let free: Vec<Axis> = [Axis::Layers, Axis::Width, Axis::Mlp]
        .into_iter()
        .filter(|axis| axis.is_free(baseline, changed))
        .collect();
    let parameters =
        |config: &ModelConfig| off(count::parameters(config).total() as f64, target.parameters as f64);
    let flops = |config: &ModelConfig| off(flops_of(config, sequence_length), target.flops);
    [Goal::AsChanged, Goal::Parameters, Goal::Flops, Goal::Depth]
        .into_iter()
        .map(|goal| {
            let config = match goal {
                Goal::AsChanged => changed.clone(),
                Goal::Parameters => closest(changed, &free, &parameters),
                Goal::Flops => closest(changed, &free, &flops),
                Goal::Depth => {
                    let widths: Vec<Axis> =
                        free.iter().copied().filter(|&axis| axis != Axis::Layers).collect();
                    closest(changed, &widths, &parameters)
                }
            };
            let (parameter_change, flops_change) = (parameters(&config), flops(&config));
            let counted = Target::of(&config, sequence_length);
            let verdict = match goal {
                Goal::Flops => verdict(flops_change, 0.0),
                _ => verdict(parameter_change, parameter_change * target.parameters as f64),
            };
            let settings = settings(changed, &config);
            Variant { goal, config, settings, counted, parameter_change, flops_change, verdict }
        })
        .collect()
}

/// Share by which `found` is above `wanted`.
fn off(found: f64, wanted: f64) -> f64 {
    found / wanted.max(1.0) - 1.0
}

fn verdict(change: f64, parameters: f64) -> Verdict {
    match () {
        () if change.abs() <= TOLERANCE => Verdict::Matched,
        () if change > TOO_FAR || parameters > TOO_MANY => Verdict::TooLarge,
        () if change < -TOO_FAR || parameters < -TOO_MANY => Verdict::TooSmall,
        () => Verdict::Near,
    }
}

/// Searches one size after another, in this order, until `change` is within tolerance; else what came closest.
fn closest(config: &ModelConfig, axes: &[Axis], change: &dyn Fn(&ModelConfig) -> f64) -> ModelConfig {
    let mut best = config.clone();
    for axis in axes {
        if change(&best).abs() <= TOLERANCE {
            break;
        }
        if let Some(found) = axis.search(&best, change)
            && change(&found).abs() < change(&best).abs()
        {
            best = found;
        }
    }
    best
}

/// A size that the search may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// num_hidden_layers.
    Layers,
    /// hidden_size, and the number of heads with it where heads are cut from it.
    Width,
    /// intermediate_size, or the width of experts.
    Mlp,
}

impl Axis {
    /// Whether it is not itself what was changed.
    fn is_free(self, a: &ModelConfig, b: &ModelConfig) -> bool {
        match self {
            Axis::Layers => a.num_hidden_layers == b.num_hidden_layers,
            Axis::Width => {
                (a.hidden_size, a.num_attention_heads, a.head_dim)
                    == (b.hidden_size, b.num_attention_heads, b.head_dim)
            }
            Axis::Mlp => match (&a.moe, &b.moe) {
                (Some(x), Some(y)) => x.moe_intermediate_size == y.moe_intermediate_size,
                _ => a.intermediate_size == b.intermediate_size,
            },
        }
    }

    /// The valid size closest to no change. What is measured grows with the size, so halving finds it.
    fn search(self, config: &ModelConfig, change: &dyn Fn(&ModelConfig) -> f64) -> Option<ModelConfig> {
        let (size, step) = self.size_and_step(config);
        let most = match self {
            Axis::Layers => size.saturating_mul(REACH).min(MAX_LAYERS),
            _ => size.saturating_mul(REACH) / step,
        };
        // Between `low` steps, which are too few, and `high`, which are too many.
        let (mut low, mut high) = (0, most + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match change(&self.with(config, middle * step)) < 0.0 {
                true => low = middle,
                false => high = middle,
            }
        }
        let valid = [low, high].into_iter().filter(|&steps| (1..=most).contains(&steps));
        valid
            .map(|steps| self.with(config, steps * step))
            .filter(|candidate| candidate.validate().is_ok())
            .min_by(|a, b| change(a).abs().total_cmp(&change(b).abs()))
    }

    fn size_and_step(self, c: &ModelConfig) -> (usize, usize) {
        match self {
            Axis::Layers => (c.num_hidden_layers, 1),
            // Whole groups of query heads, so that the ratio of heads stays.
            Axis::Width if heads_fill_width(c) => (c.hidden_size, common(STEP, c.head_dim * group(c))),
            Axis::Width => (c.hidden_size, common(STEP, c.num_attention_heads)),
            Axis::Mlp => (mlp_width(c), STEP),
        }
    }

    fn with(self, config: &ModelConfig, size: usize) -> ModelConfig {
        let mut c = config.clone();
        match self {
            Axis::Layers => set_layers(&mut c, size),
            Axis::Width => {
                if heads_fill_width(config) {
                    c.num_attention_heads = size / c.head_dim;
                    if c.num_key_value_heads > 1 {
                        c.num_key_value_heads = c.num_attention_heads / group(config);
                    }
                }
                c.hidden_size = size;
            }
            Axis::Mlp => {
                // Types without dense layers have one width for both.
                let both = config.moe.as_ref().is_none_or(|m| m.moe_intermediate_size == c.intermediate_size);
                if both {
                    c.intermediate_size = size;
                }
                if let Some(moe) = &mut c.moe {
                    moe.moe_intermediate_size = size;
                }
            }
        }
        c
    }
}

/// Query heads that move together: those of a key–value head, or one where a single key–value head serves all.
fn group(c: &ModelConfig) -> usize {
    match c.num_key_value_heads {
        0 | 1 => 1,
        k => (c.num_attention_heads / k).max(1),
    }
}

/// Whether heads are cut from the stream's width, as in Llama, rather than chosen apart from it, as in Qwen3.
fn heads_fill_width(c: &ModelConfig) -> bool {
    c.latent.is_none() && c.num_attention_heads * c.head_dim == c.hidden_size
}

fn mlp_width(c: &ModelConfig) -> usize {
    c.moe.as_ref().map_or(c.intermediate_size, |moe| moe.moe_intermediate_size)
}

/// The least common multiple.
fn common(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b.max(1)
}

/// Another number of layers, with what is said layer by layer going on in its pattern.
fn set_layers(c: &mut ModelConfig, layers: usize) {
    c.num_hidden_layers = layers;
    let types = go_on(&c.layer_types, layers);
    let rope = go_on(&c.no_rope_layers, layers);
    let interval = c.no_rope_layer_interval;
    let before = c.no_rope_layers.len();
    let mut regular = c.clone();
    regular.num_hidden_layers = before;
    regular.set_no_rope_layer_interval(interval);
    match regular.no_rope_layers == c.no_rope_layers {
        true => c.set_no_rope_layer_interval(interval),
        false => c.no_rope_layers = rope,
    }
    c.layer_types = types;
}

/// The first `length` of a list that is repeated by its shortest period.
fn go_on<T: Copy + PartialEq>(list: &[T], length: usize) -> Vec<T> {
    let repeats = |&period: &usize| (period..list.len()).all(|at| list[at] == list[at - period]);
    let period = (1..=list.len()).find(repeats).unwrap_or(0);
    list.iter().take(period).copied().cycle().take(length).collect()
}

/// Where `b` has other sizes than `a`.
fn settings(a: &ModelConfig, b: &ModelConfig) -> Vec<(&'static str, usize)> {
    let expert = |c: &ModelConfig| c.moe.as_ref().map_or(0, |moe| moe.moe_intermediate_size);
    [
        ("num_hidden_layers", a.num_hidden_layers, b.num_hidden_layers),
        ("hidden_size", a.hidden_size, b.hidden_size),
        ("num_attention_heads", a.num_attention_heads, b.num_attention_heads),
        ("num_key_value_heads", a.num_key_value_heads, b.num_key_value_heads),
        ("intermediate_size", a.intermediate_size, b.intermediate_size),
        ("moe.moe_intermediate_size", expert(a), expert(b)),
    ]
    .into_iter()
    .filter(|(_, a, b)| a != b)
    .map(|(field, _, b)| (field, b))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelType;
    use crate::config::LayerType;

    fn llama_1b() -> ModelConfig {
        let mut config = ModelConfig {
            hidden_size: 2048,
            intermediate_size: 8192,
            num_hidden_layers: 16,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            head_dim: 64,
            vocab_size: 128_256,
            max_position_embeddings: 4096,
            tie_word_embeddings: true,
            ..ModelConfig::of(ModelType::Llama)
        };
        config.set_no_rope_layer_interval(0);
        config
    }

    fn matched(baseline: &ModelConfig, changed: &ModelConfig) -> Vec<Variant> {
        let found = variants(baseline, changed, Target::of(baseline, 4096), 4096);
        for variant in &found {
            variant.config.validate().unwrap();
            assert_eq!(variant.counted.parameters, count::parameters(&variant.config).total());
        }
        found
    }

    /// What the specification tells of the published ablation (ABL-09, ATT-05): fewer layers for as many parameters.
    #[test]
    fn heads_of_their_own_cost_layers() {
        let base = llama_1b();
        let found = matched(&base, &ModelConfig { num_key_value_heads: 32, ..base.clone() });
        assert_eq!((found[0].verdict, found[0].settings.len()), (Verdict::TooLarge, 0), "1.34B was not run");
        assert!(found[0].parameter_change > 0.08);
        // 14 layers are 2.7 % too few and 15 are 2.7 % too many, so the width makes up for the rest.
        assert!([14, 15].contains(&found[1].config.num_hidden_layers), "{:?}", found[1].settings);
        assert_eq!(found[1].verdict, Verdict::Matched);
        assert!(found[2].config.num_hidden_layers < 16 && found[2].flops_change.abs() <= TOLERANCE);
        assert_eq!(found[3].config.num_hidden_layers, 16);
        assert_eq!(found[3].verdict, Verdict::Matched);
        assert!(found[3].settings.iter().any(|(field, _)| *field == "hidden_size"));
    }

    #[test]
    fn a_head_of_its_own_costs_four_layers() {
        let base = llama_1b();
        let found = matched(&base, &ModelConfig { tie_word_embeddings: false, ..base.clone() });
        assert_eq!(found[1].settings, [("num_hidden_layers", 12)]);
        assert!((found[1].parameter_change - 0.0159).abs() < 1e-3, "{}", found[1].parameter_change);
        // Looking a token up is no product: what is as dear is what it was.
        assert_eq!((found[0].flops_change, found[2].settings.len()), (0.0, 0));
    }

    #[test]
    fn what_is_ablated_is_left_alone() {
        let base = llama_1b();
        let found = matched(&base, &ModelConfig { num_hidden_layers: 24, ..deeper(&base, 24) });
        assert!(found.iter().all(|variant| variant.config.num_hidden_layers == 24));
        let found = matched(&base, &ModelConfig { intermediate_size: 4096, ..base.clone() });
        assert!(found.iter().all(|variant| variant.config.intermediate_size == 4096));
        assert!(found[1].config.num_hidden_layers > 16 && found[0].verdict == Verdict::TooSmall);
        let same = matched(&base, &base);
        assert!(
            same.iter().all(|variant| variant.settings.is_empty() && variant.verdict == Verdict::Matched)
        );
    }

    fn deeper(base: &ModelConfig, layers: usize) -> ModelConfig {
        let mut config = base.clone();
        set_layers(&mut config, layers);
        config
    }

    #[test]
    fn layer_by_layer_settings_go_on_in_their_pattern() {
        let mut config = deeper(&llama_1b(), 6);
        config.layer_types = vec![LayerType::Sliding; 5];
        config.layer_types.push(LayerType::Full);
        let more = deeper(&config, 13);
        let full: Vec<usize> = (0..13).filter(|&l| more.layer_type(l) == LayerType::Full).collect();
        assert_eq!(full, [5, 11]);
        assert_eq!(deeper(&ModelConfig::default(), 9).no_rope_layers, [1, 1, 1, 0, 1, 1, 1, 0, 1]);
        let own = ModelConfig { no_rope_layers: vec![1, 0, 1, 0, 1, 0], ..ModelConfig::default() };
        assert_eq!(deeper(&own, 8).no_rope_layers, [1, 0, 1, 0, 1, 0, 1, 0]);
        assert_eq!(go_on::<u8>(&[], 3), Vec::<u8>::new());
    }

    #[test]
    fn experts_are_matched_by_their_width_and_any_size_is_searched_quickly() {
        let mut sparse = ModelConfig {
            hidden_size: 1024,
            intermediate_size: 3072,
            num_hidden_layers: 8,
            num_attention_heads: 16,
            num_key_value_heads: 8,
            head_dim: 128,
            vocab_size: 4096,
            max_position_embeddings: 512,
            ..ModelConfig::of(ModelType::Qwen3Moe)
        };
        sparse.set_no_rope_layer_interval(0);
        let moe = sparse.moe.as_mut().unwrap();
        moe.moe_intermediate_size = 256;
        sparse.validate().unwrap();
        let mut more = sparse.clone();
        more.moe.as_mut().unwrap().num_experts = 160;
        let found = matched(&sparse, &more);
        assert_eq!(found[3].settings, [("hidden_size", 832)]);
        assert!(found[1].config.num_hidden_layers < 8);
        // As many serve a token: FLOPs are matched as they are, but for the router.
        assert_eq!((found[2].verdict, found[2].settings.len()), (Verdict::Matched, 0));
        let target = Target { parameters: 1 << 62, flops: f64::MAX };
        assert!(variants(&sparse, &more, target, usize::MAX).iter().all(|v| v.verdict == Verdict::TooSmall));
    }
}
