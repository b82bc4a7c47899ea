//! Learning-rate schedules: a factor per step.

smolt_run::recipe! {
    /// Shape of the final descent.
    pub enum Decay {
        /// Straight to zero.
        Linear = "linear",
        /// Half a cosine to zero.
        Cosine = "cosine",
        /// 1 − √progress.
        OneMinusSqrt = "one_minus_sqrt",
    }
}

/// Spec LRS-01 and LRS-03: warmup, stable, decay, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wsd {
    /// Steps of linear rise from 0.
    pub warmup_steps: u64,
    /// Steps of descent at the end.
    pub decay_steps: u64,
    /// Steps in all.
    pub train_steps: u64,
    /// Shape of the descent.
    pub decay: Decay,
}

/// A schedule whose parts do not fit.
#[derive(Debug, thiserror::Error)]
#[error(
    "warmup_steps ({warmup_steps}) + decay_steps ({decay_steps}) exceed train_steps ({train_steps}); lower one of them"
)]
pub struct TooLong {
    warmup_steps: u64,
    decay_steps: u64,
    train_steps: u64,
}

impl Wsd {
    /// Checks that warmup and decay fit into the run.
    pub fn check(&self) -> Result<(), TooLong> {
        let Wsd { warmup_steps, decay_steps, train_steps, .. } = *self;
        match warmup_steps.checked_add(decay_steps) {
            Some(sum) if sum <= train_steps => Ok(()),
            _ => Err(TooLong { warmup_steps, decay_steps, train_steps }),
        }
    }

    /// Factor on the peak learning rate at `step`, counted from 1; 0 only after the last step.
    ///
    /// The descent ends one step short of zero, so that the last step still trains.
    pub fn factor(&self, step: u64) -> f64 {
        let descent = self.train_steps - self.decay_steps;
        if step <= self.warmup_steps {
            step as f64 / self.warmup_steps as f64
        } else if step <= descent {
            1.0
        } else {
            let progress = (step - descent) as f64 / (self.decay_steps + 1) as f64;
            match self.decay {
                Decay::Linear => 1.0 - progress,
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                Decay::OneMinusSqrt => 1.0 - progress.sqrt(),
            }
        }
        .max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wsd(decay: Decay) -> Wsd {
        Wsd { warmup_steps: 10, decay_steps: 20, train_steps: 100, decay }
    }

    #[test]
    fn rises_stays_and_falls() {
        for decay in [Decay::Linear, Decay::Cosine, Decay::OneMinusSqrt] {
            let s = wsd(decay);
            assert_eq!(s.factor(1), 0.1);
            assert_eq!(s.factor(10), 1.0);
            assert_eq!(s.factor(80), 1.0);
            assert!((81..=100).all(|i| s.factor(i) < s.factor(i - 1) && s.factor(i) > 0.0), "{decay:?}");
        }
        assert!((wsd(Decay::Linear).factor(90) - (1.0 - 10.0 / 21.0)).abs() < 1e-12);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert!(wsd(Decay::Linear).check().is_ok());
        let long = Wsd { decay_steps: 95, ..wsd(Decay::Linear) };
        assert!(long.check().unwrap_err().to_string().contains("train_steps (100)"));
        assert!(Wsd { decay_steps: u64::MAX, ..long }.check().is_err());
    }
}
