//! What the Hub's Python client reads from the environment, read in the same way.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use smolt_run::error::FileError;

use crate::{Environment, Error};

/// Where the Hub is, who we are to it, and where its files are kept.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) endpoint: Url,
    pub(super) token: Option<Arc<str>>,
    pub(super) cache: PathBuf,
    pub(super) offline: bool,
}

impl Config {
    pub(super) fn read(environment: &Environment) -> Result<Self, Error> {
        let text = environment.first(&["HF_ENDPOINT"]).unwrap_or("https://huggingface.co");
        let endpoint = Url::parse(text.trim_end_matches('/'))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::address(text, "HF_ENDPOINT must be an http or https URL"))?;
        let home = home(environment);
        let cache = environment.first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]);
        Ok(Self {
            endpoint,
            token: token(environment, &home)?,
            cache: cache.map_or_else(|| home.join("hub"), |path| expand(path, environment)),
            offline: environment.first(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(is_true),
        })
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|yes| yes.eq_ignore_ascii_case(value))
}

fn home(environment: &Environment) -> PathBuf {
    if let Some(path) = environment.first(&["HF_HOME"]) {
        return expand(path, environment);
    }
    let cache = environment.first(&["XDG_CACHE_HOME"]).unwrap_or("~/.cache");
    expand(cache, environment).join("huggingface")
}

fn expand(path: &str, environment: &Environment) -> PathBuf {
    match (path.strip_prefix('~'), environment.first(&["HOME"])) {
        (Some(""), Some(home)) => PathBuf::from(home),
        (Some(rest), Some(home)) if rest.starts_with('/') => PathBuf::from(format!("{home}{rest}")),
        _ => PathBuf::from(path),
    }
}

fn token(environment: &Environment, home: &std::path::Path) -> Result<Option<Arc<str>>, Error> {
    let clean = |text: &str| {
        let text = text.replace(['\r', '\n'], "");
        let text = text.trim();
        (!text.is_empty()).then(|| Arc::from(text))
    };
    if let Some(token) = environment.first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).and_then(clean) {
        return Ok(Some(token));
    }
    let path = environment
        .first(&["HF_TOKEN_PATH"])
        .map_or_else(|| home.join("token"), |path| expand(path, environment));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(clean(&text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(FileError::reading(&path, error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::read(&Environment::from_pairs(pairs.iter().copied())).unwrap()
    }

    #[test]
    fn folders_follow_the_environment() {
        let cache = |pairs: &[(&str, &str)]| config(pairs).cache.to_str().unwrap().to_owned();
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), "/h/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")]), "/new");
    }

    #[test]
    fn the_token_comes_from_the_environment_or_a_file_and_offline_is_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert!(config(&[("HF_HOME", home)]).token.is_none());
        fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(config(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(
            config(&[("HF_HOME", home), ("HF_TOKEN", " hf_env\r\n")]).token.as_deref(),
            Some("hf_env")
        );
        assert_eq!(config(&[("HF_HOME", home), ("HF_TOKEN", "")]).token.as_deref(), Some("hf_file"));
        for (value, offline) in
            [("1", true), ("true", true), ("Yes", true), ("0", false), ("no", false), ("", false)]
        {
            assert_eq!(config(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(Config::read(&Environment::from_pairs([("HF_ENDPOINT", "nowhere")])).is_err());
    }
}
