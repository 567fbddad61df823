//! The calls of each kind of server.

mod openai;
mod sglang;
mod vllm;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::check::Answer;
use crate::http::{CallError, Http};
use crate::{EngineKind, SampleRequest};

pub(crate) use sglang::Sglang;
pub(crate) use vllm::Vllm;

/// What a server says of the model it serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServedModel {
    /// The name to ask for it.
    pub(crate) name: String,
    /// The longest prompt and response, in tokens.
    pub(crate) max_tokens: Option<usize>,
    /// The folder or the Hub id it was started with.
    pub(crate) root: String,
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// Whether it loads adapters while it runs.
    pub(crate) takes_adapters: bool,
}

/// The responses of one prompt and the name of the weights that sampled them, if the server tells it.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) answers: Vec<Answer>,
    pub(crate) version: Option<String>,
}

/// A server's address and the name of its model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address<'a> {
    pub(crate) url: &'a str,
    pub(crate) model: &'a str,
    /// The name of an adapter that is asked for in the model's place.
    pub(crate) adapter: Option<&'a str>,
}

/// The calls of one kind of server.
pub(crate) trait Protocol: Send + Sync + std::fmt::Debug {
    /// The served model.
    fn model(&self, http: &Http, url: &str) -> Result<ServedModel, CallError>;

    /// Samples the responses of `request` to one of its prompts. `seed` is that of the first response.
    fn complete(
        &self,
        http: &Http,
        server: Address<'_>,
        request: &SampleRequest,
        prompt: &[u32],
        seed: u64,
    ) -> Result<Completed, CallError>;

    /// Loads folders of weights, in order, and names what is loaded. The error is that of the folder that was not loaded.
    fn load<'a>(
        &self,
        http: &Http,
        url: &str,
        folders: &[&'a Path],
        version: &str,
        timeout: Duration,
    ) -> Result<(), (&'a Path, CallError)>;

    /// Loads the folder of an adapter under a name, then drops the one before.
    fn load_adapter(
        &self,
        http: &Http,
        url: &str,
        folder: &Path,
        name: &str,
        before: Option<&str>,
    ) -> Result<(), CallError>;

    /// Whether an adapter with this name is loaded.
    fn has_adapter(&self, http: &Http, url: &str, name: &str) -> Result<bool, CallError>;

    /// The name of the loaded weights; `None` if the server has no names for them.
    fn version(&self, http: &Http, url: &str) -> Result<Option<String>, CallError>;
}

/// The protocol of a kind of engine; `None` for the own generation.
pub(crate) fn protocol(kind: EngineKind) -> Option<Box<dyn Protocol>> {
    match kind {
        EngineKind::Own => None,
        EngineKind::Vllm => Some(Box::new(Vllm)),
        EngineKind::Sglang => Some(Box::new(Sglang)),
    }
}

/// A list of token ids in an answer.
fn token_ids(value: &Value) -> Result<Vec<u32>, CallError> {
    let ids = value.as_array().ok_or_else(|| CallError::Answer("a response has no list of token ids".into()))?;
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    ids.iter().map(id).collect::<Option<_>>().ok_or_else(|| CallError::Answer("a token id is not a number".into()))
}

/// A log-prob in an answer; NaN, which the checks refuse, for anything but a number.
fn log_prob(value: &Value) -> f32 {
    value.as_f64().map_or(f32::NAN, |log_prob| log_prob as f32)
}
