//! Initial weights (spec COR-01): a counter-based stream per tensor, so neither order nor threads change a bit.

use crate::Transformer;
use smolt_arch::ModelConfig;
use smolt_arch::config::Initializer;
use smolt_arch::parameters::{Group, Parameter, Part, Role, Slot};
use smolt_run::random::Stream;

/// Fresh weights of a model, each tensor's stream keyed by (seed, its checkpoint name).
pub fn fresh(model: &Transformer, seed: u64) -> Vec<f32> {
    let mut weights = smolt_tensor::memory::zeros(model.layout().len());
    let config = model.config();
    let tensors =
        model.groups().iter().flat_map(|group| group.tensors.iter().map(move |tensor| (group, tensor)));
    for ((group, tensor), view) in tensors.zip(model.layout().views()) {
        let part = &mut weights[view.range.clone()];
        match tensor.role {
            // A norm that multiplies by 1 + weight begins at 0.
            Role::Norm => part.fill(if config.norm_offset { 0.0 } else { 1.0 }),
            Role::Bias => part.fill(0.0),
            _ => draw(part, seed, &tensor.name, deviation(config, group, tensor)),
        }
    }
    weights
}

/// Normal with standard deviation `std`, cut off at three of them.
fn draw(weights: &mut [f32], seed: u64, name: &str, std: f64) {
    let mut stream = Stream::new(seed, name, 0);
    for w in weights {
        let mut z = stream.normal();
        while z.abs() > 3.0 {
            z = stream.normal();
        }
        *w = (z * std) as f32;
    }
}

/// Standard deviation of a tensor's initial weights.
fn deviation(c: &ModelConfig, group: &Group, tensor: &Parameter) -> f64 {
    let layers = c.num_hidden_layers as f64;
    match c.initializer {
        Initializer::TruncatedNormal => c.initializer_range,
        // Radford et al., 2019: 2·L branches add up in the stream.
        Initializer::ScaledResidual if tensor.role == Role::Output => {
            c.initializer_range / (2.0 * layers).sqrt()
        }
        Initializer::ScaledResidual => c.initializer_range,
        Initializer::XavierDeepnorm if tensor.role == Role::Embedding => c.initializer_range,
        Initializer::XavierDeepnorm => {
            let [.., out, from] = tensor.shape[..] else { return c.initializer_range };
            let xavier = (2.0 / (out + from) as f64).sqrt();
            xavier * if feeds_stream(group, tensor) { (8.0 * layers).powf(-0.25) } else { 1.0 }
        }
    }
}

/// Whether DeepNet (Wang et al., 2022) makes the tensor smaller: value, output and MLP weights.
fn feeds_stream(group: &Group, tensor: &Parameter) -> bool {
    match group.slot {
        Slot::Layer(_, Part::Qkv) => tensor.name.ends_with("v_proj.weight"),
        Slot::Layer(_, Part::KeyValueUp | Part::Up | Part::ExpertsUp | Part::SharedUp) => true,
        _ => tensor.role == Role::Output,
    }
}
