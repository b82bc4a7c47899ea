//! What failed attempts have in common: whether to try again, when, and how to say it in the end.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::{Error, Settings, Why};

/// A transfer that moved on this many bytes between two failures starts counting attempts again. A server that gives a
/// few bytes per connection does not.
const PROGRESS: u64 = 64 << 10;

/// One failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) why: Why,
    pub(super) problem: String,
    pub(super) retry: bool,
    /// How long the server asks to wait.
    pub(super) after: Option<Duration>,
}

impl Failed {
    /// Trying again cannot help.
    pub(super) fn finally(why: Why, problem: impl Into<String>) -> Self {
        Self { why, problem: one_line(&problem.into()), retry: false, after: None }
    }

    /// Trying again may help.
    pub(super) fn for_now(problem: impl Into<String>) -> Self {
        Self { why: Why::Unreachable, problem: one_line(&problem.into()), retry: true, after: None }
    }

    pub(super) fn timed_out(limit: Duration) -> Self {
        Self::for_now(format!("the server sent nothing for {} s", limit.as_secs_f32()))
    }

    pub(super) fn into_error(self, address: &str, tries: u32) -> Error {
        Error::remote(address, self.why, self.problem, tries)
    }
}

/// What servers and libraries say is shown on one line and not without end.
pub(super) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(LONGEST).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line.trim().to_owned()
}

/// Counts the attempts at one thing.
pub(super) struct Tries<'a> {
    settings: &'a Settings,
    failures: u32,
}

impl<'a> Tries<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, failures: 0 }
    }

    /// The wait before the next attempt, or the error when there should be none. `moved`: bytes gained since the last
    /// failure.
    pub(super) fn after(&mut self, failed: Failed, moved: u64, address: &str) -> Result<Duration, Error> {
        if moved >= PROGRESS {
            self.failures = 0;
        }
        self.failures += 1;
        if !failed.retry || self.failures >= self.settings.attempts {
            return Err(failed.into_error(address, self.failures));
        }
        match failed.after {
            Some(asked) if asked > self.settings.longest_retry_after => {
                let problem = format!("{}, and asks to wait {} s", failed.problem, asked.as_secs());
                Err(Failed { problem, ..failed }.into_error(address, self.failures))
            }
            // Not all clients at the same moment.
            Some(asked) => Ok(asked + self.settings.first_wait.mul_f64(random())),
            None => Ok(back_off(self.settings, self.failures, random())),
        }
    }
}

/// The wait after failure number `failures` (from 1): doubled each time up to a limit, the upper half of it random.
fn back_off(settings: &Settings, failures: u32, random: f64) -> Duration {
    let doubled = settings.first_wait.saturating_mul(1u32 << (failures - 1).min(20));
    doubled.min(settings.longest_wait).mul_f64(0.5 + 0.5 * random)
}

/// Uniform in [0, 1). Other processes must not draw the same, so this is the one place without a seed; it decides
/// waits, never results.
fn random() -> f64 {
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}

/// Repeats `attempt` until it succeeds, fails for good or has been tried often enough.
pub(super) async fn retrying<T, F: Future<Output = Result<T, Failed>>>(
    settings: &Settings,
    address: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut tries = Tries::new(settings);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(failed) => tokio::time::sleep(tries.after(failed, 0, address)?).await,
        }
    }
}

/// `Retry-After`: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, jiff::Timestamp::now())
}

pub(super) fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    let seconds = until.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_keep_half() {
        let settings = Settings::default();
        for failures in 1..100 {
            let (least, most) = (back_off(&settings, failures, 0.0), back_off(&settings, failures, 1.0));
            assert_eq!(least * 2, most);
            assert!(most <= settings.longest_wait && most >= settings.first_wait);
        }
        assert_eq!(back_off(&settings, 2, 1.0), settings.first_wait * 2);
        assert!((0..100).all(|_| (0.0..1.0).contains(&random())));
    }

    #[test]
    fn attempts_end_and_progress_starts_again() {
        let settings = Settings { attempts: 3, ..Settings::default() };
        let mut tries = Tries::new(&settings);
        let failed = || Failed::for_now("a\nb");
        for _ in 0..10 {
            tries.after(failed(), PROGRESS, "x").unwrap();
            tries.after(failed(), 1, "x").unwrap();
        }
        let error = tries.after(failed(), 0, "x").unwrap_err().to_string();
        assert!(error.starts_with("x: a b (tried 3 times); check the network"), "{error}");
        let final_error =
            Tries::new(&settings).after(Failed::finally(Why::Denied, "no"), 0, "s3://b/k").unwrap_err();
        assert_eq!(final_error.why(), Some(Why::Denied));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let now = jiff::Timestamp::from_second(784_111_777).unwrap();
        assert_eq!(parse_retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(parse_retry_after("Tue, 06 Nov 1984 08:49:47 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
        let settings = Settings::default();
        let asked = |seconds| Failed { after: Some(Duration::from_secs(seconds)), ..Failed::for_now("busy") };
        assert!(Tries::new(&settings).after(asked(100), 0, "x").unwrap() >= Duration::from_secs(100));
        let error = Tries::new(&settings).after(asked(1000), 0, "x").unwrap_err().to_string();
        assert!(error.contains("asks to wait 1000 s"), "{error}");
    }
}
