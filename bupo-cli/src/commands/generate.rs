//! `bupo generate`

use std::fs;

use bupo_models::hub::Wanted;
use bupo_models::{GenerateOptions, Response, TextTokenizer, generate, load_model};
use burn::tensor::backend::AutodiffBackend;
use serde_json::json;

use super::{check_writable, model_files, read_tokens};
use crate::args::GenerateArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;

pub fn run(args: GenerateArgs) -> Result<(), CliError> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(CliError::Message(format!("--temperature is {}; it must be 0 or more", args.temperature)));
    }
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    run_on(args.model.device.device, Generate(args))
}

struct Generate(GenerateArgs);

impl Job for Generate {
    fn run<A: AutodiffBackend>(self, device: &A::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
        let tokenizer = TextTokenizer::load(&files);
        let prompts = match (&args.tokens, &args.prompt) {
            (Some(path), _) => read_tokens(path)?,
            (None, Some(text)) => {
                vec![tokenizer.as_ref().map_err(|error| CliError::Message(error.to_string()))?.encode(text)?]
            }
            (None, None) => Vec::new(),
        };
        if prompts.is_empty() {
            return Err(CliError::Message("there are no rows of tokens to continue; give at least one".into()));
        }
        let model = load_model::<A::InnerBackend>(&files, device)?;
        let options = GenerateOptions {
            site: args.policy.policy,
            norm: args.policy.norm,
            temperature: args.temperature,
            max_new_tokens: args.max_new_tokens,
            eos_token_ids: if args.ignore_eos { Vec::new() } else { model.eos_token_ids.clone() },
            seed: args.seed,
            first_row: 0,
            batch: prompts.len(),
        };
        let responses = generate(&model.decoder, &prompts, &options)?;
        match &args.json {
            Some(path) => {
                let column =
                    |value: fn(&Response) -> serde_json::Value| responses.iter().map(value).collect::<Vec<_>>();
                let out = json!({
                    "tokens": column(|response| json!(response.tokens)),
                    "log_probs": column(|response| json!(response.log_probs)),
                });
                fs::write(path, format!("{out}\n")).map_err(CliError::io("write", path))
            }
            None => print(&responses, args.prompt.as_deref(), tokenizer.ok().as_ref()),
        }
    }
}

/// Text where there is a tokenizer, ids where there is none.
fn print(responses: &[Response], prompt: Option<&str>, tokenizer: Option<&TextTokenizer>) -> Result<(), CliError> {
    for response in responses {
        match tokenizer {
            Some(tokenizer) => println!("{}{}", prompt.unwrap_or_default(), tokenizer.decode(&response.tokens)?),
            None => println!("{:?}", response.tokens),
        }
    }
    Ok(())
}
