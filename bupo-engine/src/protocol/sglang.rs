//! SGLang, started with `python -m sglang.launch_server --model-path DIR`. Written to its documented calls.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Address, Completed, Protocol, ServedModel, log_prob, openai, token_ids};
use crate::SampleRequest;
use crate::check::Answer;
use crate::http::{CallError, Http};

#[derive(Debug)]
pub(crate) struct Sglang;

impl Protocol for Sglang {
    fn model(&self, http: &Http, url: &str) -> Result<ServedModel, CallError> {
        openai::model(http, url)
    }

    fn complete(
        &self,
        http: &Http,
        server: Address<'_>,
        request: &SampleRequest,
        prompt: &[u32],
        // SGLang gives all responses of a request one seed, which would make them equal: none is sent.
        _seed: u64,
    ) -> Result<Completed, CallError> {
        let options = &request.options;
        let top_k = match options.sampling.top_k {
            0 => -1,
            top_k => i64::try_from(top_k).unwrap_or(-1),
        };
        let body = json!({
            "input_ids": prompt,
            "sampling_params": {
                "n": if options.temperature == 0.0 { 1 } else { request.samples },
                "temperature": options.temperature,
                "top_p": options.sampling.top_p,
                "top_k": top_k,
                "min_p": options.sampling.min_p,
                "repetition_penalty": options.sampling.repetition_penalty,
                "max_new_tokens": options.max_new_tokens,
                "stop_token_ids": options.eos_token_ids,
                "stop": request.stop,
            },
            "return_logprob": true,
        });
        let answer = http.post(&format!("{}/generate", server.url), &body)?;
        // A single response is not in a list.
        let responses = if answer.is_array() { answer } else { Value::Array(vec![answer]) };
        let responses = responses.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut versions: Vec<&str> =
            responses.iter().filter_map(|response| response["meta_info"]["weight_version"].as_str()).collect();
        versions.dedup();
        let version = (!versions.is_empty()).then(|| versions.join(" and "));
        Ok(Completed { answers: responses.iter().map(response).collect::<Result<_, _>>()?, version })
    }

    fn load<'a>(
        &self,
        http: &Http,
        url: &str,
        folders: &[&'a Path],
        version: &str,
        _timeout: Duration,
    ) -> Result<(), (&'a Path, CallError)> {
        folders.iter().try_for_each(|folder| {
            // Waits for requests in flight.
            let body = json!({"model_path": folder, "weight_version": version, "flush_cache": true});
            let loaded = http.post(&format!("{url}/update_weights_from_disk"), &body);
            loaded.and_then(|answer| openai::succeeded(&answer)).map_err(|error| (*folder, error))
        })
    }

    /// Each answer names its weights, so that no call is needed.
    fn load_adapter(&self, _: &Http, _: &str, _: &Path, _: &str, _: Option<&str>) -> Result<(), CallError> {
        Err(CallError::Answer("adapters are handed over merged to SGLang".into()))
    }

    fn has_adapter(&self, _: &Http, _: &str, _: &str) -> Result<bool, CallError> {
        Ok(false)
    }

    fn version(&self, _http: &Http, _url: &str) -> Result<Option<String>, CallError> {
        Ok(None)
    }
}

fn response(response: &Value) -> Result<Answer, CallError> {
    let meta = &response["meta_info"];
    // Each is the log-prob, the id and a text.
    let log_probs = meta["output_token_logprobs"].as_array();
    Ok(Answer {
        tokens: token_ids(&response["output_ids"])?,
        log_probs: log_probs.into_iter().flatten().map(|entry| log_prob(&entry[0])).collect(),
        finish_reason: meta["finish_reason"]["type"].as_str().unwrap_or("nothing").to_string(),
    })
}
