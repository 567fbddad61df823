//! `bupo replay`

use bupo_models::pretrained::hub::Wanted;
use bupo_models::{LoadedModel, SaveOptions, load_model, save_checkpoint};
use bupo_rl::{
    AdamWSettings, DecoderOptimizer, LossSpec, Objective, PolicySpec, UpdateStats, make_empty_folder, read_rollouts,
    replay,
};
use bupo_runs::JsonLinesWriter;
use burn::tensor::backend::Backend;
use serde::Serialize;

use super::model_files;
use crate::args::ReplayArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;

pub fn run(args: ReplayArgs) -> Result<(), CliError> {
    if !(args.lr > 0.0 && args.lr <= 1.0) {
        return Err(CliError::Message(format!("--lr is {}; it must be above 0 and at most 1", args.lr)));
    }
    if args.updates == 0 || args.max_tokens_per_batch == 0 {
        return Err(CliError::Message("--updates and --max-tokens-per-batch must be at least 1".into()));
    }
    run_on(args.model.device.device, Replay(args))
}

struct Replay(ReplayArgs);

/// A line of `updates.jsonl`.
#[derive(Serialize)]
struct UpdateLine<'a> {
    update: usize,
    #[serde(flatten)]
    stats: &'a UpdateStats,
}

impl Job for Replay {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
        let LoadedModel { mut decoder, assets, .. } = load_model::<B>(&files, device)?;
        decoder = decoder.with_compute_dtype(args.model.dtype.dtype.for_model::<B>(&files, device)?);
        let rollouts = read_rollouts(&args.rollouts, decoder.vocab_size())?;
        args.policy.policy.depth(decoder.layers.len()).map_err(bupo_models::ModelError::from)?;
        make_empty_folder(&args.out)?;
        let mut updates = JsonLinesWriter::create(&args.out.join("updates.jsonl"))?;
        let settings = AdamWSettings { learning_rate: args.lr, ..AdamWSettings::default() };
        let mut optimizer = DecoderOptimizer::<B>::new(settings);
        let policy = PolicySpec { site: args.policy.policy, norm: args.policy.norm, temperature: 1.0 };
        let loss = LossSpec {
            policy,
            objective: Objective::default(),
            norm_length: None,
            max_tokens_per_batch: args.max_tokens_per_batch,
            recompute: false,
        };
        replay(&mut decoder, &mut optimizer, &rollouts, &loss, args.updates, |update, stats| {
            outln!(
                "update {update}/{}  loss {:.6}  grad_norm {:.6}  clip_ratio {:.4}{}",
                args.updates,
                stats.loss,
                stats.grad_norm,
                stats.clip_ratio,
                if stats.skipped { "  skipped: the gradient is not finite" } else { "" }
            );
            Ok(updates.append(&UpdateLine { update, stats })?)
        })?;
        let options = SaveOptions { dtype: Some(args.save_dtype), ..SaveOptions::default() };
        save_checkpoint(&args.out, &decoder, &assets, options)?;
        outln!("wrote the updated model and updates.jsonl to {}", args.out.display());
        Ok(())
    }
}
