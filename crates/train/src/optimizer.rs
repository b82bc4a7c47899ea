//! Optimiser policy: which parameters decay, and the step over flat groups.

use crate::recipe::Optimizer;
use smolt_arch::parameters::{Group as Tensors, Part, Role, Slot};
use smolt_model::Transformer;
use smolt_tensor::Cpu;
use smolt_tensor::memory::zeros;
use smolt_tensor::ops::adamw::{self, Hyper};
use smolt_tensor::ops::global_norm::{clip_scale, sum_squares};
use smolt_tensor::tape::View;
use std::ops::Range;

/// AdamW over flat parameters (spec OPT-02), with groups by weight decay (OPT-03, STB-02) and global-norm
/// clipping (OPT-04).
pub struct AdamW {
    settings: Optimizer,
    /// Runs of neighbouring tensors that share a weight decay.
    groups: Vec<(Range<usize>, bool)>,
    /// First moments, flat.
    pub m: Vec<f32>,
    /// Second moments, flat.
    pub v: Vec<f32>,
}

/// A line of the group table printed before training (OPT-03).
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What the group holds.
    pub name: &'static str,
    /// Parameters in it.
    pub parameters: usize,
    /// Tensors in it.
    pub tensors: usize,
    /// Its weight decay.
    pub weight_decay: f64,
}

/// What weight decay is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Linear,
    Embeddings,
    Norms,
    Biases,
    /// Biases of selection, which the optimiser does not move: MOE-07 does.
    Selection,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Linear, Kind::Embeddings, Kind::Norms, Kind::Biases, Kind::Selection];

    fn of(group: &Tensors) -> Kind {
        match (group.slot, group.role()) {
            (Slot::Layer(_, Part::SelectionBias), _) => Kind::Selection,
            (_, Role::Linear | Role::Output) => Kind::Linear,
            (_, Role::Embedding) => Kind::Embeddings,
            (_, Role::Norm) => Kind::Norms,
            (_, Role::Bias) => Kind::Biases,
        }
    }

    /// STB-02: linear weights decay, and of the rest what the recipe says.
    fn decays(self, settings: &Optimizer) -> bool {
        match self {
            Kind::Linear => true,
            Kind::Embeddings => settings.decay_embeddings,
            Kind::Norms => settings.decay_norms,
            Kind::Biases => settings.decay_biases,
            Kind::Selection => false,
        }
    }

    /// A head that is tied to the embedding goes with it, and the table says so.
    fn name(self, tied: bool) -> &'static str {
        match self {
            Kind::Linear => "linear weights",
            Kind::Embeddings if tied => "embeddings and the head tied to them",
            Kind::Embeddings => "embeddings",
            Kind::Norms => "norms",
            Kind::Biases => "biases",
            Kind::Selection => "selection biases",
        }
    }
}

/// Every tensor with its kind, in order of position.
fn tensors(model: &Transformer) -> impl Iterator<Item = (Kind, &View)> {
    let kinds = model.groups().iter().flat_map(|group| group.tensors.iter().map(move |_| Kind::of(group)));
    kinds.zip(model.layout().views())
}

impl AdamW {
    /// Zero moments for the parameters of `model`.
    pub fn new(settings: Optimizer, model: &Transformer) -> AdamW {
        let mut groups: Vec<(Range<usize>, bool)> = Vec::new();
        for (kind, view) in tensors(model) {
            let decays = kind.decays(&settings);
            match groups.last_mut() {
                // Padding between neighbours is zero in weights and gradients and stays so.
                Some((range, decay)) if *decay == decays => range.end = view.range.end,
                _ => groups.push((view.range.clone(), decays)),
            }
        }
        let len = model.layout().len();
        AdamW { settings, groups, m: zeros(len), v: zeros(len) }
    }

    /// What decays and what does not, of the kinds that `model` has.
    pub fn table(&self, model: &Transformer) -> Vec<Group> {
        let tied = model.config().tie_word_embeddings;
        let group = |kind: Kind| {
            let views: Vec<&View> =
                tensors(model).filter(|(of, _)| *of == kind).map(|(_, view)| view).collect();
            Group {
                name: kind.name(tied),
                parameters: views.iter().map(|view| view.range.len()).sum(),
                tensors: views.len(),
                weight_decay: if kind.decays(&self.settings) { self.settings.weight_decay } else { 0.0 },
            }
        };
        Kind::ALL.into_iter().map(group).filter(|group| group.tensors > 0).collect()
    }

    /// One step (counted from 1) at learning rate `lr`; returns the gradient's norm before clipping.
    ///
    /// A norm that is not finite leaves everything as it was.
    pub fn step(&mut self, cpu: &Cpu, weights: &mut [f32], grads: &[f32], lr: f64, step: u64) -> f64 {
        let norm = sum_squares(cpu, grads).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let grad_scale = clip_scale(norm, self.settings.max_grad_norm);
        let o = &self.settings;
        for (range, decay) in &self.groups {
            let r = range.clone();
            let hyper = Hyper {
                lr,
                beta1: o.adam_beta1,
                beta2: o.adam_beta2,
                eps: o.adam_epsilon,
                weight_decay: if *decay { o.weight_decay } else { 0.0 },
                step,
                grad_scale,
            };
            let (m, v) = (&mut self.m[r.clone()], &mut self.v[r.clone()]);
            adamw::step(cpu, &mut weights[r.clone()], &grads[r], m, v, &hyper);
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_arch::config::{AttentionBias, ModelType};
    use smolt_arch::{ModelConfig, settings::Model};
    use smolt_run::recipe::{self, Document};

    /// Every kind of parameter but learned positions: biases, norms, experts balanced by a selection bias.
    fn model(tied: bool) -> Transformer {
        let text = "[model]\nmodel_type = \"smolt\"\nnum_hidden_layers = 2\nhidden_size = 32\nvocab_size = 64\n\
                    max_position_embeddings = 16\nattention_bias = \"all\"\nattention_sinks = true\n\
                    [model.moe]\nnum_experts = 4\nnum_experts_per_tok = 2\nmoe_intermediate_size = 16\n\
                    selection_bias = true\nbalancing = \"loss_free\"";
        let mut settings: Model = Document::parse("r.toml", text.as_bytes()).unwrap().take("model").unwrap();
        settings.tie_word_embeddings = tied;
        let config: ModelConfig = settings.config().unwrap();
        assert_eq!((config.model_type, config.attention_bias), (ModelType::Smolt, AttentionBias::All));
        Transformer::new(config)
    }

    /// One step without gradients, from ones: what decays shrinks by lr · decay, the rest stays.
    fn decayed(settings: Optimizer, model: &Transformer) -> Vec<String> {
        let cpu = Cpu::new(1).unwrap();
        let mut optimizer = AdamW::new(settings, model);
        let mut weights = vec![1.0; model.layout().len()];
        let grads = vec![0.0; weights.len()];
        optimizer.step(&cpu, &mut weights, &grads, 0.5, 1);
        let shrunk = |view: &&View| {
            let part = &weights[view.range.clone()];
            assert!(part.iter().all(|w| *w == part[0]) && (part[0] == 1.0 || part[0] == 0.95), "{part:?}");
            part[0] < 1.0
        };
        model.layout().views().iter().filter(shrunk).map(|view| view.name.clone()).collect()
    }

    #[test]
    fn what_decays_is_what_the_recipe_says() {
        let model = model(true);
        let defaults: Optimizer = recipe::defaults().unwrap();
        let plain = decayed(defaults.clone(), &model);
        assert!(
            plain.iter().all(|name| name.contains("_proj.weight") || name.ends_with("gate.weight")),
            "{plain:?}"
        );
        let more = |change: fn(&mut Optimizer)| {
            let mut settings = defaults.clone();
            change(&mut settings);
            let mut names = decayed(settings, &model);
            names.retain(|name| !plain.contains(name));
            names
        };
        assert_eq!(more(|o| o.decay_embeddings = true), ["model.embed_tokens.weight"]);
        let norms = more(|o| o.decay_norms = true);
        assert!(norms.len() == 5 && norms.iter().all(|name| name.contains("norm")), "{norms:?}");
        // Four biases and the sinks of each layer; never what balances the experts.
        let biases = more(|o| o.decay_biases = true);
        assert_eq!(biases.len(), 2 * 5, "{biases:?}");
        assert!(biases.iter().all(|name| name.ends_with("bias") || name.ends_with("sinks")), "{biases:?}");
        assert!(!biases.iter().any(|name| name.contains("e_score_correction_bias")), "{biases:?}");
    }

    #[test]
    fn the_table_follows_and_names_the_tied_head() {
        let mut settings: Optimizer = recipe::defaults().unwrap();
        settings.decay_embeddings = true;
        let model = model(true);
        let table = AdamW::new(settings.clone(), &model).table(&model);
        let rows: Vec<(&str, f64)> = table.iter().map(|group| (group.name, group.weight_decay)).collect();
        let want = [
            ("linear weights", 0.1),
            ("embeddings and the head tied to them", 0.1),
            ("norms", 0.0),
            ("biases", 0.0),
            ("selection biases", 0.0),
        ];
        assert_eq!(rows, want);
        assert_eq!(table.iter().map(|group| group.parameters).sum::<usize>(), model.layout().count());
        let untied = self::model(false);
        settings.decay_embeddings = false;
        let table = AdamW::new(settings, &untied).table(&untied);
        assert_eq!((table[1].name, table[1].tensors, table[1].weight_decay), ("embeddings", 1, 0.0));
    }

    #[test]
    fn decay_of_nothing_is_refused() {
        let defaults: Optimizer = recipe::defaults().unwrap();
        for (decays, name) in [
            ((true, false, false), "decay_embeddings"),
            ((false, true, false), "decay_norms"),
            ((false, false, true), "decay_biases"),
        ] {
            let mut settings = Optimizer { weight_decay: 0.0, ..defaults.clone() };
            settings.check().unwrap();
            (settings.decay_embeddings, settings.decay_norms, settings.decay_biases) = decays;
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("optimizer.weight_decay = 0"), "{error}");
            settings.weight_decay = 0.1;
            settings.check().unwrap();
        }
    }
}
