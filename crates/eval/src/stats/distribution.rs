//! Tail probabilities of the normal and Student's t distribution, and the critical values that belong to them.

use std::f64::consts::PI;

/// Beyond so many degrees of freedom the continued fraction gets long and loses digits, while the normal distribution
/// with one term of correction has ten.
const NORMAL_FROM: f64 = 3e5;

/// P(|Z| ≥ |z|) of a standard normal Z: erfc(|z|/√2), within about 1e-14.
pub(super) fn normal_two_sided(z: f64) -> f64 {
    let x = z.abs() / 2f64.sqrt();
    if x < 2.0 {
        // erf(x) = 2/√π · e^(−x²) · Σ 2^k x^(2k+1) / (1·3·…·(2k+1)), all terms positive.
        let (mut term, mut sum) = (x, x);
        for k in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * k + 1);
            sum += term;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    // erfc(x) = e^(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …)))), from the inside.
    let fraction = (1..=200).rev().fold(x, |rest, k| x + 0.5 * f64::from(k) / rest);
    (-x * x).exp() / (PI.sqrt() * fraction)
}

/// P(|T| ≥ |t|) of Student's t with `dof` > 0 degrees of freedom: the regularised incomplete beta function
/// I_x(dof/2, 1/2) at x = dof/(dof + t²), by its continued fraction (DLMF 8.17.22).
pub(super) fn t_two_sided(t: f64, dof: f64) -> f64 {
    if dof > NORMAL_FROM {
        let density = (-t * t / 2.0).exp() / (2.0 * PI).sqrt();
        // Far out the density is 0 and the cube infinite.
        let correction = if density > 0.0 { density * (t * t + 1.0) * t.abs() / (2.0 * dof) } else { 0.0 };
        return normal_two_sided(t) + correction;
    }
    let ratio = t * t / dof;
    if ratio == 0.0 {
        return 1.0;
    }
    if !ratio.is_finite() {
        return 0.0;
    }
    let (a, b) = (dof / 2.0, 0.5);
    let (x, y) = (1.0 / (1.0 + ratio), ratio / (1.0 + ratio));
    let ln_beta = 0.5 * PI.ln() - ln_gamma_ratio(a);
    // ln x as −ln(1 + t²/dof): x itself is too near to 1 for many degrees of freedom.
    let front = (-a * ratio.ln_1p() + b * y.ln() - ln_beta).exp();
    let p = match x < (a + 1.0) / (a + b + 2.0) {
        true => front * beta_fraction(a, b, x) / a,
        false => 1.0 - front * beta_fraction(b, a, y) / b,
    };
    p.clamp(0.0, 1.0)
}

/// The t > 0 with P(|T| ≥ t) = `alpha`, of the normal distribution where `dof` is `None`. `alpha` in (0, 1).
pub(super) fn critical(alpha: f64, dof: Option<f64>) -> f64 {
    let tail = |t: f64| dof.map_or_else(|| normal_two_sided(t), |dof| t_two_sided(t, dof));
    let (mut low, mut high) = (0.0, 1.0);
    while tail(high) > alpha && high < 1e300 {
        (low, high) = (high, 2.0 * high);
    }
    // Halving ends at neighbouring numbers: the tails fall monotonically, and nothing can diverge.
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if tail(middle) > alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The z that a standard normal stays below with probability `power` in [0.5, 1).
pub(super) fn normal_quantile(power: f64) -> f64 {
    let tail = 2.0 * (1.0 - power);
    if tail >= 1.0 { 0.0 } else { critical(tail, None) }
}

/// ln(Γ(a + ½)/Γ(a)), a > 0; by its asymptotic series where the difference of two logarithms would lose digits.
fn ln_gamma_ratio(a: f64) -> f64 {
    if a > 1000.0 {
        return 0.5 * a.ln() - 1.0 / (8.0 * a) + 1.0 / (192.0 * a * a * a);
    }
    ln_gamma(a + 0.5) - ln_gamma(a)
}

/// ln Γ(x), x > 0: Stirling's series where it converges to 1e-14, below that through Γ(x) = Γ(x + 1)/x.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 12.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let tail = series.iter().rev().fold(0.0, |sum, c| sum * inverse + c) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + tail - shift
}

/// The continued fraction of the incomplete beta function, by the modified Lentz method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    // Lentz's method divides by its running terms, which may pass through zero.
    let apart = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let mut d = 1.0 / apart(1.0 - (a + b) * x / (a + 1.0));
    let (mut c, mut f) = (1.0, d);
    for m in 1..20_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = f;
        for step in [even, odd] {
            d = 1.0 / apart(1.0 + step * d);
            c = apart(1.0 + step / c);
            f *= c * d;
        }
        if (f - before).abs() <= 1e-16 * f.abs() {
            break;
        }
    }
    f
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::{close, golden};

    #[test]
    fn tails_are_those_of_scipy() {
        for case in golden("normal") {
            close(normal_two_sided(case["z"].as_f64().unwrap()), &case["p"]);
        }
        for case in golden("student") {
            let (t, dof) = (case["t"].as_f64().unwrap(), case["dof"].as_f64().unwrap());
            close(t_two_sided(t, dof), &case["p"]);
        }
    }

    #[test]
    fn critical_values_are_those_of_scipy() {
        for case in golden("critical") {
            let dof = case["dof"].as_f64();
            close(critical(case["alpha"].as_f64().unwrap(), dof), &case["t"]);
        }
        assert_eq!(normal_quantile(0.5), 0.0);
        assert!((normal_quantile(0.8) - 0.841_621_233_572_914).abs() < 1e-12);
    }

    #[test]
    fn extremes_are_probabilities() {
        for t in [0.0, 1e-300, 1e-8, 1e8, 1e200, f64::MAX, f64::INFINITY] {
            for dof in [1.0, 2.0, 30.0, 1e5, 1e9] {
                let p = t_two_sided(t, dof);
                assert!((0.0..=1.0).contains(&p), "{t} {dof} {p}");
            }
        }
        assert!(critical(1e-12, Some(1.0)).is_finite());
    }

    proptest::proptest! {
        #[test]
        fn critical_value_inverts_the_tail(alpha in 1e-6f64..0.999, dof in 1.0f64..2000.0) {
            let p = t_two_sided(critical(alpha, Some(dof)), dof);
            proptest::prop_assert!((p - alpha).abs() < 1e-9 * alpha.max(1e-3), "{} {}", p, alpha);
        }
    }
}
