//! Soft-capping of logits: `x ← cap·tanh(x / cap)`, in place (Gemma 2, 2024). The fused loss caps by itself
//! ([`linear_cross_entropy`](crate::ops::linear_cross_entropy)); this is for logits that are read.
//!
//! About 20 floating-point operations per element.

mod cpu;
mod node;
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

/// y (what forward made) `[len]`, dy `[len]` → dy·(1 − (y/cap)²), in place.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward(cpu: &Cpu, limit: f32, y: &[f32], dy: &mut [f32]) {
    assert_eq!(y.len(), dy.len(), "softcap: y and dy have one shape");
    cpu.pool.for_each_chunk(dy, TASK, |i, part| {
        cpu::slope(cpu.isa, limit, &y[i * TASK..][..part.len()], part);
    });
}

#[cfg(test)]
mod tests {
    use super::oracle;
    use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, wide};

    #[test]
    fn oracle_gradient_is_the_slope() {
        let (x, dy) = (wide(&random(1, 20, 60.0)), wide(&random(2, 20, 1.0)));
        assert_slope("x", &x, &oracle::backward(&x, 30.0, &dy), |x| dot(&oracle::forward(x, 30.0), &dy));
    }

    #[test]
    fn every_path_matches_the_oracle() {
        for len in [1, 77, super::TASK + 9] {
            let (x, dy) = (random(1, len, 60.0), random(2, len, 1.0));
            let (y, dx) = (oracle::forward(&wide(&x), 30.0), oracle::backward(&wide(&x), 30.0, &wide(&dy)));
            on_every_cpu(
                |cpu| {
                    let (mut y, mut dx) = (x.clone(), dy.clone());
                    super::forward(cpu, 30.0, &mut y);
                    super::backward(cpu, 30.0, &y, &mut dx);
                    vec![wide(&y), wide(&dx)]
                },
                &[("y", y, 1e-6), ("dx", dx, 1e-5)],
            );
        }
    }
}
