//! What vLLM and SGLang have in common: the list of models of the OpenAI API.

use serde_json::Value;

use super::ServedModel;
use crate::http::{CallError, Http};

/// The first model of `/v1/models`.
pub(super) fn model(http: &Http, url: &str) -> Result<ServedModel, CallError> {
    let models = http.get(&format!("{url}/v1/models"))?;
    let model = &models["data"][0];
    let name = model["id"].as_str();
    let name = name.ok_or_else(|| CallError::Answer("its /v1/models lists no model".into()))?.to_string();
    let max_tokens = model["max_model_len"].as_u64().map(|tokens| tokens as usize);
    let root = model["root"].as_str().unwrap_or_default().to_string();
    Ok(ServedModel { name, max_tokens, root, paused: false, takes_adapters: false })
}

/// The message of an answer that reports a failure with status 200.
pub(super) fn succeeded(answer: &Value) -> Result<(), CallError> {
    if answer["success"].as_bool() == Some(true) {
        return Ok(());
    }
    let message = answer["message"].as_str().map_or_else(|| answer.to_string(), str::to_string);
    Err(CallError::Answer(message))
}
