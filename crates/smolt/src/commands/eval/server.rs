//! A model behind an OpenAI-compatible server instead of a folder.

use smolt_eval::model::server::{ServerModel, Settings};
use smolt_eval::record::{self, ModelRecord};
use smolt_run::error::Failure;
use smolt_store::{Environment, Store};
use std::time::Duration;

/// Which server is asked, and how.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ServerArgs {
    /// Ask the model behind this OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead of a folder
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    server: Option<String>,
    /// Which of the server's models [default: the only one]
    #[arg(long, value_name = "NAME", requires = "server")]
    server_model: Option<String>,
    /// Environment variable that holds the server's token
    #[arg(long, value_name = "VAR", requires = "server")]
    server_token_env: Option<String>,
    /// Requests in flight
    #[arg(long, value_name = "N", default_value_t = 8, requires = "server")]
    concurrency: usize,
    /// Longest wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "server")]
    server_timeout: u64,
}

impl ServerArgs {
    /// The server's address, where one was given.
    pub(crate) fn given(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The model behind the server, where one was given.
    pub(crate) fn connect(&self) -> Result<Option<ServerModel>, Failure> {
        let Some(url) = &self.server else { return Ok(None) };
        let token = self.server_token_env.as_ref().map(|name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.ok_or_else(|| {
                Failure::bad_input(format!(
                    "the environment variable {name} of --server-token-env is not set"
                ))
            })
        });
        let patience = smolt_store::Settings {
            read_timeout: Duration::from_secs(self.server_timeout.max(1)),
            ..smolt_store::Settings::default()
        };
        let settings = Settings {
            url: url.clone(),
            model: self.server_model.clone(),
            token: token.transpose()?,
            concurrency: self.concurrency,
        };
        Ok(Some(ServerModel::connect(Store::new(patience, Environment::of_process()), settings)?))
    }

    /// What is known of the model: the server alone knows its weights.
    pub(crate) fn describe(&self, model: &ServerModel) -> ModelRecord {
        ModelRecord {
            path: self.server.clone().unwrap_or_default(),
            hash: model.name().to_owned(),
            tokenizer_hash: String::new(),
            config_hash: None,
            template_hash: None,
            precision: record::SERVER.into(),
            context_length: model.context_length().unwrap_or(0),
            parameters: None,
            step: None,
            tokens_seen: None,
        }
    }
}
