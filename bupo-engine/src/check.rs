//! Checks of what servers answer.

use bupo_models::Response;

use crate::SampleRequest;

/// Log-probs are at most 0, up to rounding.
const MAX_LOG_PROB: f32 = 1e-3;

/// A response as a server answers it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
    /// `stop`, `length`, or anything else.
    pub(crate) finish_reason: String,
}

/// The responses of one prompt, if they are what was asked for; otherwise what is wrong.
pub(crate) fn responses(answers: Vec<Answer>, request: &SampleRequest, vocab: usize) -> Result<Vec<Response>, String> {
    let wanted = if request.options.temperature == 0.0 { 1 } else { request.samples };
    if answers.len() != wanted {
        return Err(format!("it returned {} responses, not {wanted}", answers.len()));
    }
    answers.into_iter().map(|answer| response(answer, request, vocab)).collect()
}

fn response(answer: Answer, request: &SampleRequest, vocab: usize) -> Result<Response, String> {
    let Answer { tokens, log_probs, finish_reason } = answer;
    let (limit, eos) = (request.options.max_new_tokens, &request.options.eos_token_ids);
    if tokens.is_empty() || tokens.len() > limit {
        return Err(format!("a response has {} tokens, not 1 to {limit}", tokens.len()));
    }
    if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab) {
        return Err(format!(
            "a response has token id {id}, outside the model's vocabulary of {vocab}: it serves another model"
        ));
    }
    if log_probs.len() != tokens.len() {
        return Err(format!("a response of {} tokens has {} log-probs", tokens.len(), log_probs.len()));
    }
    if let Some(log_prob) = log_probs.iter().find(|log_prob| !(log_prob.is_finite() && **log_prob <= MAX_LOG_PROB)) {
        return Err(format!("a response has a log-prob of {log_prob}"));
    }
    if tokens[..tokens.len() - 1].iter().any(|id| eos.contains(id)) {
        return Err("a response goes on after an end-of-sequence token".into());
    }
    let ends = tokens.last().is_some_and(|id| eos.contains(id));
    match finish_reason.as_str() {
        "stop" if ends || !request.stop.is_empty() => Ok(Response { tokens, log_probs, finished: true }),
        "stop" => Err(format!(
            "a response ends with token {}, which is no end-of-sequence token of this model ({eos:?})",
            tokens[tokens.len() - 1]
        )),
        // The limit and an end-of-sequence token may come together.
        "length" if tokens.len() == limit => Ok(Response { tokens, log_probs, finished: ends }),
        "length" => Err(format!(
            "a response was cut after {} of {limit} tokens: its context is too short (--max-model-len, --context-length)",
            tokens.len()
        )),
        other => Err(format!("a response ended because of `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use bupo_core::{Norm, PolicySite, SamplingParams};
    use bupo_models::GenerateOptions;

    use super::*;

    fn request(stop: &[&str]) -> SampleRequest {
        SampleRequest {
            prompts: vec![vec![1]],
            samples: 1,
            options: GenerateOptions {
                site: PolicySite::Full,
                norm: Norm::None,
                temperature: 1.0,
                sampling: SamplingParams::default(),
                max_new_tokens: 3,
                eos_token_ids: vec![9],
                seed: 0,
                first_row: 0,
                batch: 1,
            },
            stop: stop.iter().map(ToString::to_string).collect(),
        }
    }

    fn check(tokens: &[u32], log_probs: &[f32], reason: &str, stop: &[&str]) -> Result<bool, String> {
        let answer =
            Answer { tokens: tokens.to_vec(), log_probs: log_probs.to_vec(), finish_reason: reason.to_string() };
        responses(vec![answer], &request(stop), 10).map(|responses| responses[0].finished)
    }

    #[test]
    fn whole_responses_pass() {
        assert_eq!(check(&[1, 2, 9], &[-1.0, -0.5, 0.0], "stop", &[]), Ok(true));
        assert_eq!(check(&[1, 2, 3], &[-1.0; 3], "length", &[]), Ok(false));
        assert_eq!(check(&[1, 2], &[-1.0; 2], "stop", &["x"]), Ok(true));
    }

    #[test]
    fn everything_else_is_named() {
        for (tokens, log_probs, reason, expected) in [
            (&[][..], &[][..], "stop", "0 tokens"),
            (&[1, 2, 3, 4], &[-1.0; 4], "length", "4 tokens, not 1 to 3"),
            (&[1, 10, 9], &[-1.0; 3], "stop", "token id 10"),
            (&[1, 2, 9], &[-1.0; 2], "stop", "3 tokens has 2 log-probs"),
            (&[1, 2, 9], &[-1.0, f32::NAN, -1.0], "stop", "log-prob of NaN"),
            (&[1, 2, 9], &[-1.0, f32::NEG_INFINITY, -1.0], "stop", "log-prob of -inf"),
            (&[1, 2, 9], &[-1.0, 0.5, -1.0], "stop", "log-prob of 0.5"),
            (&[9, 2, 9], &[-1.0; 3], "stop", "after an end-of-sequence token"),
            (&[1, 2], &[-1.0; 2], "stop", "no end-of-sequence token"),
            (&[1, 2], &[-1.0; 2], "length", "2 of 3 tokens"),
            (&[1, 2], &[-1.0; 2], "abort", "`abort`"),
        ] {
            let error = check(tokens, log_probs, reason, &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = responses(Vec::new(), &request(&[]), 10).unwrap_err();
        assert!(error.contains("0 responses, not 1"), "{error}");
    }
}
