//! Soft-capping of logits: `x ← cap·tanh(x / cap)`, in place (Gemma 2, 2024). The fused loss caps by itself
//! ([`linear_cross_entropy`](crate::ops::linear_cross_entropy)); this is for logits that are read.
//!
//! About 20 floating-point operations per element.

mod cpu;
#[cfg(test)]
mod oracle;

pub(crate) use cpu::cap;

use crate::Cpu;

/// Elements per task.
const TASK: usize = 1 << 13;

/// `x ← cap·tanh(x / cap)`, `[len]`.
///
/// # Panics
/// When cap is not positive (configurations are checked before).
pub fn forward(cpu: &Cpu, limit: f32, x: &mut [f32]) {
    assert!(limit > 0.0, "softcap: the cap {limit} is not positive");
    cpu.pool.for_each_chunk(x, TASK, |_, part| cpu::cap(cpu.isa, limit, part));
}

#[cfg(test)]
mod tests {
    use super::oracle;
    use crate::ops::testing::{on_every_cpu, random, wide};

    #[test]
    fn every_path_matches_the_oracle() {
        for len in [1, 77, super::TASK + 9] {
            let x = random(1, len, 60.0);
            on_every_cpu(
                |cpu| {
                    let mut y = x.clone();
                    super::forward(cpu, 30.0, &mut y);
                    vec![wide(&y)]
                },
                &[("y", oracle::forward(&wide(&x), 30.0), 1e-6)],
            );
        }
    }
}
