//! `bupo tune-lens`

use std::fs;
use std::path::PathBuf;

use bupo_engine::RemoteEngine;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::{load_config, load_eos_token_ids};
use bupo_models::{LoadedModel, ModelConfig, ModelFiles, Sequence, TUNED_LENS, TextTokenizer, TunedLens};
use bupo_rl::{HELD_OUT_EVERY, LayerFit, TuneLensConfig, tune_lens};
use burn::tensor::backend::Backend;

use crate::args::TuneLensArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::{CliError, at_least_one};
use crate::files::{check_overwrite, check_writable};
use crate::model::{Attached, load_for_inference, model_adapter, model_files, warn_of_positions};
use crate::responses::ResponseSource;
use crate::screen::StepBar;

/// Steps between printed lines.
const LINE_EVERY: usize = 20;

pub fn run(args: &TuneLensArgs) -> Result<(), CliError> {
    args.responses.check()?;
    at_least_one(&[
        ("--steps", Some(args.steps)),
        ("--responses-per-step", Some(args.responses_per_step)),
        ("--tokens", Some(args.tokens)),
    ])?;
    if !(args.lr > 0.0 && args.lr <= 1.0) {
        return Err(CliError::Message(format!("--lr is {}; it must be above 0 and at most 1", args.lr)));
    }
    if args.model.adapter.adapter.is_some() && args.responses.engine.has_servers() {
        let text =
            "--adapter is of a model that samples here; remove --engine, or merge it (bupo merge) and serve the result";
        return Err(CliError::Message(text.into()));
    }
    let device = resolve(args.model.device.device)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let out = out(args, &files)?;
    let config = load_config(&files)?;
    let tokenizer = TextTokenizer::load(&files)?;
    tokenizer.check_vocabulary(config.vocab_size)?;
    let eos = load_eos_token_ids(&files, &config)?;
    let source = ResponseSource::open(&args.responses, &files, Some(&tokenizer), &eos, config.vocab_size)?;
    let responses = source.len(&args.responses);
    if responses < HELD_OUT_EVERY {
        return Err(CliError::Message(format!(
            "there are {responses} responses; give at least {HELD_OUT_EVERY}, one of which is held out"
        )));
    }
    let longest = source.max_tokens(&args.responses);
    let servers = args.responses.engine.connect(&config, longest)?;
    warn_of_positions(&config, longest);
    let adapter = model_adapter(args.model.adapter.adapter.as_deref(), &files)?;
    let attached = Attached { adapter, ..Attached::default() };
    let (lens, fits) = run_on(device, TuneLens { args, files, config, tokenizer, source, servers, attached })?;
    print_fits(&fits);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).map_err(CliError::io("create", folder))?;
    }
    lens.write(&out)?;
    outln!("wrote the tuned lens to {}", out.display());
    Ok(())
}

/// The file that the lens is written to. `tuned_lens/` in the model's folder is created once there is a lens to write.
fn out(args: &TuneLensArgs, files: &ModelFiles) -> Result<PathBuf, CliError> {
    let path = match (&args.out, files) {
        (Some(path), _) => path.clone(),
        (None, _) if args.model.adapter.adapter.is_some() => {
            let text =
                "the lens of a model with an adapter is not that of the model alone; give --out FILE.safetensors";
            return Err(CliError::Message(text.into()));
        }
        (None, ModelFiles::Folder(folder)) => folder.join(TUNED_LENS),
        (None, ModelFiles::Embedded(_)) => {
            return Err(CliError::Message("the embedded model has no folder; give --out FILE.safetensors".into()));
        }
    };
    match (files, path.parent()) {
        (ModelFiles::Folder(model), Some(folder)) if args.out.is_none() && !folder.exists() => {
            check_writable(&model.join("tuned_lens"))?;
        }
        _ => check_writable(&path)?,
    }
    check_overwrite(&path, args.force)?;
    Ok(path)
}

struct TuneLens<'a> {
    args: &'a TuneLensArgs,
    files: ModelFiles,
    config: ModelConfig,
    tokenizer: TextTokenizer,
    source: ResponseSource,
    /// What samples, if not the model itself.
    servers: Option<RemoteEngine>,
    attached: Attached,
}

impl Job for TuneLens<'_> {
    type Output = (TunedLens, Vec<LayerFit>);

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let model = load_for_inference::<B>(&self.files, &self.attached, self.args.model.dtype.dtype, device)?;
        let responses = self.responses(&model)?;
        let args = self.args;
        let config = TuneLensConfig {
            seed: args.responses.sampling.seed,
            steps: args.steps,
            batch: args.responses_per_step,
            tokens: args.tokens,
            learning_rate: args.lr,
        };
        let bar = StepBar::new("steps", args.steps);
        Ok(tune_lens(model.decoder, &self.config, &responses, &config, |step, loss| {
            bar.step();
            if step == 1 || step % LINE_EVERY == 0 {
                bar.line(&format!("step {step:>4}/{}  KL(full || lens), mean over layers {loss:.4}", args.steps));
            }
        })?)
    }
}

impl TuneLens<'_> {
    fn responses<B: Backend>(&self, model: &LoadedModel<B>) -> Result<Vec<Sequence>, CliError> {
        let args = &self.args.responses;
        outln!("{}", self.source.describe(args));
        let count = self.source.len(args);
        let bar = StepBar::new("responses", count);
        let mut responses = Vec::with_capacity(count);
        while responses.len() < count {
            let next = self.source.next(
                responses.len(),
                model,
                self.servers.as_ref(),
                Some(&self.tokenizer),
                args,
                &|sampled| bar.advance(sampled),
            )?;
            responses.extend(next.into_iter().map(|response| response.sequence));
        }
        Ok(responses)
    }
}

fn print_fits(fits: &[LayerFit]) {
    outln!("KL(full || layer) on the responses held out, nats per token");
    outln!("layer  logit lens  tuned lens");
    for fit in fits {
        outln!("{:>5}  {:>10.4}  {:>10.4}", fit.layer, fit.logit_lens, fit.tuned_lens);
    }
}
