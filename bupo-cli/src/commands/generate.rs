//! `bupo generate`

mod output;
mod prompts;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bupo_core::PolicySite;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::{load_config, load_eos_token_ids};
use bupo_models::{
    DtypeChoice, GenerateOptions, ModelError, ModelFiles, Response, StopStrings, TextTokenizer, generate_with,
};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;
use serde_json::{Map, Value, json};

use self::output::Output;
use self::prompts::read;
use crate::args::GenerateArgs;
use crate::backend::{Job, resolve, run_on};
use crate::chat::TextInput;
use crate::error::{CliError, at_least_one};
use crate::files::{check_overwrite, check_writable};
use crate::interrupt::stop_on_interrupt;
use crate::model::{Attached, load_for_inference, model_files, warn_of_positions};
use crate::screen::{columns, terminal_width};

pub fn run(args: &GenerateArgs) -> Result<(), CliError> {
    check(args)?;
    let device = resolve(args.model.device.device)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let tokenizer = TextTokenizer::load(&files);
    let input = TextInput::open(&args.chat, &files)?;
    let prompts = read(args, &input, tokenizer.as_ref())?;
    let rows: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    let sites = if args.compare.is_empty() { vec![args.policy.policy] } else { args.compare.clone() };
    let options = options(args, &files, &rows)?;
    // Only stop strings need the tokenizer.
    let stop = match &tokenizer {
        _ if args.restrictions.stop.is_empty() => None,
        Ok(tokenizer) => Some(StopStrings::new(tokenizer, &args.restrictions.stop)?),
        Err(error) => return Err(CliError::Message(error.to_string())),
    };
    if args.tokens.is_none() {
        input.warn()?;
    }
    let output = Output::new(args, &prompts, tokenizer.as_ref().ok(), stop);
    let attached = Attached::open(&args.model.adapter, &args.policy.norm, &sites, &files)?;
    let job = Generate { files, attached, dtype: args.model.dtype.dtype, rows, sites, options, stop, output };
    let mut responses = run_on(device, job)?;
    if !args.compare.is_empty() {
        return print_comparison(args, &responses, tokenizer.as_ref(), stop);
    }
    match &args.json {
        Some(path) => {
            let responses = responses.pop().unwrap_or_default();
            Ok(write_atomically(path, format!("{}\n", as_json(&responses)).as_bytes())?)
        }
        None => Ok(()),
    }
}

fn check(args: &GenerateArgs) -> Result<(), CliError> {
    args.sampling.check()?;
    at_least_one(&[("--batch", Some(args.batch))])?;
    if args.tokens.is_some() && args.chat.is_active() {
        let message =
            "--chat, --system and --thinking are of texts, and --tokens has token ids; give --prompt or --prompts";
        return Err(CliError::Message(message.into()));
    }
    for path in args.json.iter().chain(&args.out) {
        check_writable(path)?;
    }
    args.out.as_deref().map_or(Ok(()), |path| check_overwrite(path, args.force))
}

struct Generate<'a> {
    files: ModelFiles,
    attached: Attached,
    dtype: DtypeChoice,
    rows: Vec<Vec<u32>>,
    sites: Vec<PolicySite>,
    options: GenerateOptions,
    stop: Option<StopStrings<'a>>,
    output: Output<'a>,
}

impl Job for Generate<'_> {
    /// The responses to all prompts, by site.
    type Output = Vec<Vec<Response>>;

    fn run<B: Backend>(mut self, device: &B::Device) -> Result<Self::Output, CliError> {
        let model = load_for_inference::<B>(&self.files, &self.attached, self.dtype, device)?;
        self.output.open()?;
        let interrupted = stop_on_interrupt("complete responses are kept")?;
        let (mut all, mut tokens) = (Vec::with_capacity(self.sites.len()), 0);
        let started = Instant::now();
        for site in self.sites {
            let options = GenerateOptions { site, ..self.options.clone() };
            let mut failed = None;
            let responses = generate_with(&model.decoder, &self.rows, &options, self.stop, &mut |progress| {
                tokens += usize::from(!progress.response.tokens.is_empty());
                failed = self.output.progress(progress).err();
                let stops = failed.is_some() || interrupted.load(Ordering::Relaxed);
                if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            failed.map_or(Ok(()), Err)?;
            all.push(responses);
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        self.output.finish(interrupted.load(Ordering::Relaxed))?;
        eprintln!("{tokens} tokens in {seconds:.1} s, {:.1} tokens/s", tokens as f64 / seconds.max(1e-9));
        Ok(all)
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
        batch: args.batch.min(prompts.len()),
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
    let texts = responses
        .iter()
        .flatten()
        .map(|response| output::text(response, tokenizer, stop))
        .collect::<Result<Vec<_>, _>>()?;
    outln!("{}", args.prompt.as_deref().unwrap_or_default());
    out!("{}", columns(&names, &texts, terminal_width()));
    Ok(())
}
