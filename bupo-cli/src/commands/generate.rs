//! `bupo generate`

use bupo_core::PolicySite;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::{GenerateOptions, Response, TextTokenizer, generate};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;
use serde_json::{Map, Value, json};

use super::{check_writable, load_to_read, model_files, read_tokens};
use crate::args::GenerateArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;
use crate::screen::{screen_width, side_by_side};

pub fn run(args: GenerateArgs) -> Result<(), CliError> {
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(CliError::Message(format!("--temperature is {}; it must be 0 or more", args.temperature)));
    }
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    run_on(args.model.device.device, Generate(args))
}

struct Generate(GenerateArgs);

impl Job for Generate {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
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
        let model = load_to_read::<B>(&files, args.model.dtype.dtype, device)?;
        let options = GenerateOptions {
            site: args.policy.policy,
            norm: args.policy.norm,
            temperature: args.temperature,
            sampling: Default::default(),
            max_new_tokens: args.max_new_tokens,
            eos_token_ids: if args.ignore_eos { Vec::new() } else { model.eos_token_ids.clone() },
            seed: args.seed,
            first_row: 0,
            batch: prompts.len(),
        };
        if !args.compare.is_empty() {
            let said = |site: &PolicySite| {
                generate(&model.decoder, &prompts, &GenerateOptions { site: *site, ..options.clone() })
            };
            let responses = args.compare.iter().map(said).collect::<Result<Vec<_>, _>>()?;
            return compare(&args, &responses, &tokenizer?);
        }
        let responses = generate(&model.decoder, &prompts, &options)?;
        match &args.json {
            Some(path) => Ok(write_atomically(path, format!("{}\n", as_json(&responses)).as_bytes())?),
            None => print(&responses, args.prompt.as_deref(), tokenizer.ok().as_ref()),
        }
    }
}

fn as_json(responses: &[Response]) -> Value {
    let column = |value: fn(&Response) -> Value| responses.iter().map(value).collect::<Vec<_>>();
    json!({
        "tokens": column(|response| json!(response.tokens)),
        "log_probs": column(|response| json!(response.log_probs)),
    })
}

/// One column a policy, as wide as the terminal allows.
fn compare(args: &GenerateArgs, responses: &[Vec<Response>], tokenizer: &TextTokenizer) -> Result<(), CliError> {
    let names: Vec<String> = args.compare.iter().map(ToString::to_string).collect();
    if let Some(path) = &args.json {
        let by_site: Map<String, Value> = names.into_iter().zip(responses.iter().map(|said| as_json(said))).collect();
        return Ok(write_atomically(path, format!("{}\n", Value::Object(by_site)).as_bytes())?);
    }
    let texts = responses.iter().flatten().map(|said| tokenizer.decode(&said.tokens)).collect::<Result<Vec<_>, _>>()?;
    outln!("{}", args.prompt.as_deref().unwrap_or_default());
    out!("{}", side_by_side(&names, &texts, screen_width()));
    Ok(())
}

/// Text where there is a tokenizer, ids where there is none.
fn print(responses: &[Response], prompt: Option<&str>, tokenizer: Option<&TextTokenizer>) -> Result<(), CliError> {
    for response in responses {
        match tokenizer {
            Some(tokenizer) => outln!("{}{}", prompt.unwrap_or_default(), tokenizer.decode(&response.tokens)?),
            None => outln!("{:?}", response.tokens),
        }
    }
    Ok(())
}
