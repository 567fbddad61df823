//! Options that select what samples.

use std::time::Duration;

use bupo_engine::{EngineKind, RemoteEngine, RemoteSettings};
use bupo_models::ModelConfig;
use clap::Args;

use crate::error::CliError;

/// The limit of each call, and of waiting for a server that is gone.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Prompts that a server works on at once.
const CONCURRENCY: usize = 64;

#[derive(Debug, Args)]
pub struct EngineArgs {
    /// What samples: own, or running servers of vllm or sglang (docs/engines.md)
    #[arg(long, value_name = "ENGINE", default_value = "own")]
    engine: EngineKind,
    /// Address of a server, such as http://127.0.0.1:8000; can be repeated, the servers share the prompts
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
}

impl EngineArgs {
    /// Whether servers sample.
    pub fn has_servers(&self) -> bool {
        self.engine != EngineKind::Own
    }

    /// The engine's name.
    pub fn kind(&self) -> EngineKind {
        self.engine
    }

    /// # Errors
    /// If addresses are missing, or given without an engine that has servers.
    pub fn check(&self) -> Result<(), CliError> {
        match (self.has_servers(), self.url.is_empty()) {
            (true, true) => Err(CliError::Message(format!(
                "--engine {} needs the address of its server; give --url, such as --url http://127.0.0.1:8000",
                self.engine
            ))),
            (false, false) => {
                Err(CliError::Message("--url has no effect with --engine own; give --engine vllm or sglang".into()))
            }
            _ => Ok(()),
        }
    }

    /// Connects to the servers of the model with this config; `None` for the own generation. `max_tokens`: the longest prompt and
    /// response together.
    ///
    /// # Errors
    /// If a server does not answer, is paused, serves another model, or its context is too short.
    pub fn connect(&self, config: &ModelConfig, max_tokens: usize) -> Result<Option<RemoteEngine>, CliError> {
        if !self.has_servers() {
            return Ok(None);
        }
        let settings =
            RemoteSettings { kind: self.engine, urls: self.url.clone(), timeout: TIMEOUT, concurrency: CONCURRENCY };
        let engine = RemoteEngine::connect(&settings, config, max_tokens)?;
        engine.check_running()?;
        for (url, model) in engine.models() {
            outln!("{} at {url} serves {model}", self.engine);
        }
        Ok(Some(engine))
    }

    /// Responses sampled at once: those asked for, or a default that keeps servers busy.
    pub fn batch(&self, asked: Option<usize>, samples: usize) -> usize {
        asked.unwrap_or(if self.has_servers() { CONCURRENCY * samples } else { 64 })
    }
}
