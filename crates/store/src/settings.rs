//! How patient the store is, and which environment it believes.

use std::collections::BTreeMap;
use std::time::Duration;

/// Patience with servers. The defaults outlast a restart of a server but not a wrong address.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Attempts at one thing before it fails. A transfer that moved on starts counting again.
    pub attempts: u32,
    /// Wait after the first failure; it doubles with each failure, and half of each wait is random.
    pub first_wait: Duration,
    /// No wait is longer, unless the server names one (`Retry-After`).
    pub longest_wait: Duration,
    /// A server that asks to wait longer than this is an error at once.
    pub longest_retry_after: Duration,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Without a byte for this long, a connection counts as lost.
    pub read_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(20),
            longest_retry_after: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// The environment variables that matter here, taken once. They hold secrets, so it cannot be printed.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "network"), allow(dead_code))]
pub struct Environment(BTreeMap<String, String>);

#[cfg_attr(not(feature = "network"), allow(dead_code))]
impl Environment {
    /// Of this process.
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let known =
                ["AWS_", "GOOGLE_", "HF_", "HUGGING", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME", "HOME"]
                    .iter()
                    .any(|known| name.starts_with(known));
            known.then_some(())?;
            Some((name, value.into_string().ok()?))
        }))
    }

    /// Of the given variables alone.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The same, without the network: what the cache of the Hub holds is all there is.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.0.insert("HF_HUB_OFFLINE".into(), "1".into());
        self
    }

    /// The first of these variables that is set and not empty.
    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().filter_map(|name| self.0.get(*name)).map(String::as_str).find(|value| !value.is_empty())
    }

    /// All variables whose names start with `prefix`, sorted by name.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
