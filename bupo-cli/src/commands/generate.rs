//! `bupo generate`

use bupo_core::PolicySite;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::{load_config, load_eos_token_ids};
use bupo_models::{
    DtypeChoice, GenerateOptions, ModelError, ModelFiles, Response, StopStrings, TextTokenizer, generate_watched,
};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;
use serde_json::{Map, Value, json};

use crate::args::GenerateArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::CliError;
use crate::files::{check_writable, read_tokens};
use crate::model::{load_for_inference, model_files, warn_of_positions};
use crate::screen::{StepBar, columns, terminal_width};

pub fn run(args: &GenerateArgs) -> Result<(), CliError> {
    args.sampling.check()?;
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    let device = resolve(args.model.device.device)?;
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
        return Err(CliError::Message("there are no prompts; give at least one row of tokens".into()));
    }
    let sites = if args.compare.is_empty() { vec![args.policy.policy] } else { args.compare.clone() };
    let options = options(args, &files, &prompts)?;
    // Only stop strings need the tokenizer.
    let stop = match &tokenizer {
        _ if args.restrictions.stop.is_empty() => None,
        Ok(tokenizer) => Some(StopStrings::new(tokenizer, &args.restrictions.stop)?),
        Err(error) => return Err(CliError::Message(error.to_string())),
    };
    let job = Generate { files, dtype: args.model.dtype.dtype, prompts, sites, options, stop };
    let mut responses = run_on(device, job)?;
    if !args.compare.is_empty() {
        return print_comparison(args, &responses, tokenizer.as_ref(), stop);
    }
    let responses = responses.pop().unwrap_or_default();
    match &args.json {
        Some(path) => Ok(write_atomically(path, format!("{}\n", as_json(&responses)).as_bytes())?),
        None => print(&responses, args.prompt.as_deref(), tokenizer.as_ref().ok(), stop),
    }
}

struct Generate<'a> {
    files: ModelFiles,
    dtype: DtypeChoice,
    prompts: Vec<Vec<u32>>,
    sites: Vec<PolicySite>,
    options: GenerateOptions,
    stop: Option<StopStrings<'a>>,
}

impl Job for Generate<'_> {
    /// The responses to all prompts, by site.
    type Output = Vec<Vec<Response>>;

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let model = load_for_inference::<B>(&self.files, self.dtype, device)?;
        let bar = StepBar::new("responses", self.sites.len() * self.prompts.len());
        let mut responses = Vec::with_capacity(self.sites.len());
        for site in self.sites {
            let options = GenerateOptions { site, ..self.options.clone() };
            responses.push(generate_watched(&model.decoder, &self.prompts, &options, self.stop, &|| bar.step())?);
        }
        Ok(responses)
    }
}

fn options(args: &GenerateArgs, files: &ModelFiles, prompts: &[Vec<u32>]) -> Result<GenerateOptions, CliError> {
    let config = load_config(files)?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    warn_of_positions(&config, longest + args.max_new_tokens);
    let (temperature, sampling) = args.restrictions.resolve(&args.sampling, files)?;
    let eos_token_ids = if args.ignore_eos { Vec::new() } else { load_eos_token_ids(files, &config)? };
    Ok(GenerateOptions {
        site: args.policy.policy,
        norm: args.policy.norm.norm,
        temperature,
        sampling,
        max_new_tokens: args.max_new_tokens,
        eos_token_ids,
        seed: args.sampling.seed,
        first_row: 0,
        batch: prompts.len(),
    })
}

fn as_json(responses: &[Response]) -> Value {
    let column = |value: fn(&Response) -> Value| responses.iter().map(value).collect::<Vec<_>>();
    json!({
        "tokens": column(|response| json!(response.tokens)),
        "log_probs": column(|response| json!(response.log_probs)),
    })
}

/// Prints one column per policy, within the width of the terminal, or writes JSON.
fn print_comparison(
    args: &GenerateArgs,
    responses: &[Vec<Response>],
    tokenizer: Result<&TextTokenizer, &ModelError>,
    stop: Option<StopStrings<'_>>,
) -> Result<(), CliError> {
    let names: Vec<String> = args.compare.iter().map(ToString::to_string).collect();
    if let Some(path) = &args.json {
        let by_site: Map<String, Value> =
            names.into_iter().zip(responses.iter().map(|responses| as_json(responses))).collect();
        return Ok(write_atomically(path, format!("{}\n", Value::Object(by_site)).as_bytes())?);
    }
    let tokenizer = tokenizer.map_err(|error| CliError::Message(error.to_string()))?;
    let texts =
        responses.iter().flatten().map(|response| text(response, tokenizer, stop)).collect::<Result<Vec<_>, _>>()?;
    outln!("{}", args.prompt.as_deref().unwrap_or_default());
    out!("{}", columns(&names, &texts, terminal_width()));
    Ok(())
}

/// Prints texts, or token ids if there is no tokenizer.
fn print(
    responses: &[Response],
    prompt: Option<&str>,
    tokenizer: Option<&TextTokenizer>,
    stop: Option<StopStrings<'_>>,
) -> Result<(), CliError> {
    for response in responses {
        match tokenizer {
            Some(tokenizer) => outln!("{}{}", prompt.unwrap_or_default(), text(response, tokenizer, stop)?),
            None => outln!("{:?}", response.tokens),
        }
    }
    Ok(())
}

/// The text of a response, up to a stop string.
fn text(response: &Response, tokenizer: &TextTokenizer, stop: Option<StopStrings<'_>>) -> Result<String, ModelError> {
    let text = tokenizer.decode(&response.tokens)?;
    Ok(stop.map_or(text.as_str(), |stop| stop.truncate(&text)).to_string())
}
