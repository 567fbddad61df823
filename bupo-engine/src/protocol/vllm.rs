//! vLLM, started with `VLLM_SERVER_DEV_MODE=1 vllm serve DIR --logprobs-mode processed_logprobs --generation-config vllm`. Tried
//! with vLLM 0.32.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Address, Completed, Protocol, ServedModel, log_prob, openai, token_ids};
use crate::SampleRequest;
use crate::check::Answer;
use crate::http::{CallError, Http};

/// The call that a server has with `VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`.
const LOAD_ADAPTER: &str = "/v1/load_lora_adapter";

#[derive(Debug)]
pub(crate) struct Vllm;

impl Protocol for Vllm {
    fn model(&self, http: &Http, url: &str) -> Result<ServedModel, CallError> {
        let paused = optional(http.get(&format!("{url}/is_paused")))?["is_paused"].as_bool().unwrap_or(false);
        // Its description has the calls that it was started with.
        let takes_adapters = optional(http.get(&format!("{url}/openapi.json")))?["paths"][LOAD_ADAPTER].is_object();
        Ok(ServedModel { paused, takes_adapters, ..openai::model(http, url)? })
    }

    fn complete(
        &self,
        http: &Http,
        server: Address<'_>,
        request: &SampleRequest,
        prompt: &[u32],
        seed: u64,
    ) -> Result<Completed, CallError> {
        let options = &request.options;
        let mut body = json!({
            "model": server.adapter.unwrap_or(server.model),
            "prompt": prompt,
            // vLLM refuses several responses of greedy decoding, which are equal.
            "n": if options.temperature == 0.0 { 1 } else { request.samples },
            // Each response has the seed of the first plus its index. vLLM takes signed numbers.
            "seed": seed,
            // Every field is sent: what is left out comes from the model's generation_config.json.
            "temperature": options.temperature,
            "top_p": options.sampling.top_p,
            "top_k": options.sampling.top_k,
            "min_p": options.sampling.min_p,
            "repetition_penalty": options.sampling.repetition_penalty,
            "max_tokens": options.max_new_tokens,
            "logprobs": 0,
            // Responses end at the same tokens as in the own generation, not at those the server takes from its files.
            "ignore_eos": true,
            "stop_token_ids": options.eos_token_ids,
            "return_token_ids": true,
            "return_tokens_as_token_ids": true,
        });
        if !request.stop.is_empty() {
            body["stop"] = json!(request.stop);
        }
        let answer = match (http.post(&format!("{}/v1/completions", server.url), &body), server.adapter) {
            // A server that was started again has lost it.
            (Err(CallError::Status(404, message)), Some(adapter)) => {
                return Err(CallError::Version(format!("it does not have the adapter `{adapter}`: {message}")));
            }
            (answer, _) => answer?,
        };
        let choices = answer["choices"].as_array();
        let choices = choices.ok_or_else(|| CallError::Answer("its answer has no choices".into()))?;
        let mut answers: Vec<(u64, Answer)> = choices.iter().map(choice).collect::<Result<_, _>>()?;
        answers.sort_by_key(|(index, _)| *index);
        let version = match server.adapter {
            Some(_) => answer["model"].as_str().map(str::to_string),
            None => self.version(http, server.url)?,
        };
        Ok(Completed { answers: answers.into_iter().map(|(_, answer)| answer).collect(), version })
    }

    fn load<'a>(
        &self,
        http: &Http,
        url: &str,
        folders: &[&'a Path],
        version: &str,
        timeout: Duration,
    ) -> Result<(), (&'a Path, CallError)> {
        let first = folders.first().copied().unwrap_or(Path::new(""));
        // Requests in flight finish, and cached keys and values of the old weights are dropped.
        let paused = http.post(&format!("{url}/pause?mode=wait"), &Value::Null).map_err(|error| (first, error));
        let load = |folder: &&'a Path| {
            let body = json!({
                "method": "reload_weights",
                "kwargs": {"weights_path": folder},
                "timeout": timeout.as_secs_f64(),
            });
            http.post(&format!("{url}/collective_rpc"), &body).map_err(|error| (*folder, error))
        };
        let loaded = paused.and_then(|_| folders.iter().try_for_each(|folder| load(folder).map(drop)));
        let named = loaded.and_then(|()| {
            let body = json!({"new_version": version});
            let named = optional(http.post(&format!("{url}/update_weight_version"), &body));
            named.map(drop).map_err(|error| (first, error))
        });
        // Whether or not the weights were loaded, and also where the answer to the pause was lost, the server must not stay paused.
        let resumed = http.post(&format!("{url}/resume"), &Value::Null).map_err(|error| (first, error));
        named.and(resumed.map(drop))
    }

    fn load_adapter(
        &self,
        http: &Http,
        url: &str,
        folder: &Path,
        name: &str,
        before: Option<&str>,
    ) -> Result<(), CallError> {
        // vLLM answers this call with a sentence.
        http.tell(&format!("{url}{LOAD_ADAPTER}"), &json!({"lora_name": name, "lora_path": folder}))?;
        match before {
            Some(before) => http.tell(&format!("{url}/v1/unload_lora_adapter"), &json!({"lora_name": before})),
            None => Ok(()),
        }
    }

    fn has_adapter(&self, http: &Http, url: &str, name: &str) -> Result<bool, CallError> {
        let models = http.get(&format!("{url}/v1/models"))?;
        Ok(models["data"].as_array().is_some_and(|models| models.iter().any(|model| model["id"] == name)))
    }

    fn version(&self, http: &Http, url: &str) -> Result<Option<String>, CallError> {
        let info = optional(http.get(&format!("{url}/weight_info")))?;
        Ok(info["weight_version"].as_str().map(str::to_string))
    }
}

fn choice(choice: &Value) -> Result<(u64, Answer), CallError> {
    let log_probs = choice["logprobs"]["token_logprobs"].as_array();
    let answer = Answer {
        tokens: token_ids(&choice["token_ids"])?,
        log_probs: log_probs.into_iter().flatten().map(log_prob).collect(),
        finish_reason: choice["finish_reason"].as_str().unwrap_or("nothing").to_string(),
    };
    Ok((choice["index"].as_u64().unwrap_or(0), answer))
}

/// An answer of a call that earlier versions do not have: null if it is not found.
fn optional(answer: Result<Value, CallError>) -> Result<Value, CallError> {
    match answer {
        Err(CallError::Status(404 | 405, _)) => Ok(Value::Null),
        answer => answer,
    }
}
