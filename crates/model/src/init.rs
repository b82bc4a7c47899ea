//! Initial weights: a counter-based stream per tensor, so neither order nor threads change a bit.

use smolt_run::random::Stream;
use smolt_tensor::tape::Layout;

/// Spec COR-01: normal with standard deviation `std`, truncated at 3 std; norm weights are 1.
/// Each tensor's stream is keyed by (seed, its checkpoint name).
pub fn truncated_normal(layout: &Layout, seed: u64, std: f64) -> Vec<f32> {
    let mut weights = smolt_tensor::memory::zeros(layout.len());
    for view in layout.views() {
        let part = &mut weights[view.range.clone()];
        if view.shape.len() == 1 {
            part.fill(1.0);
            continue;
        }
        let mut stream = Stream::new(seed, &view.name, 0);
        for w in part {
            let mut z = stream.normal();
            while z.abs() > 3.0 {
                z = stream.normal();
            }
            *w = (z * std) as f32;
        }
    }
    weights
}
