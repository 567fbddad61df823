//! `bupo replay`

use bupo_models::adapter::write_adapter;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::{Adapter, LoadedModel, ModelFiles, SaveOptions, load_model, save_checkpoint};
use bupo_rl::{
    AdamWSettings, DecoderOptimizer, LossSpec, PolicySpec, RecordedRollout, UpdateStats, make_empty_folder,
    read_rollouts, replay,
};
use bupo_runs::JsonLinesWriter;
use burn::tensor::backend::Backend;
use serde::Serialize;

use crate::args::ReplayArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::{CliError, at_least_one};
use crate::model::{Attached, model_files};

pub fn run(args: &ReplayArgs) -> Result<(), CliError> {
    if !(args.lr > 0.0 && args.lr <= 1.0) {
        return Err(CliError::Message(format!("--lr is {}; it must be above 0 and at most 1", args.lr)));
    }
    at_least_one(&[("--updates", Some(args.updates)), ("--max-tokens-per-batch", Some(args.max_tokens_per_batch))])?;
    let (loss, optimizer) = (loss_spec(args)?, AdamWSettings::for_replay(&args.set, args.lr)?);
    let device = resolve(args.model.device.device)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let config = bupo_models::pretrained::load_config(&files)?;
    let rollouts = read_rollouts(&args.rollouts, config.vocab_size)?;
    args.policy.policy.depth(config.num_hidden_layers).map_err(bupo_models::ModelError::from)?;
    let attached = Attached::open(&args.model.adapter, &args.policy.norm, &[args.policy.policy], &files)?;
    let what = if attached.adapter.is_some() { "adapter" } else { "model" };
    run_on(device, Replay { args, files, attached, rollouts, loss, optimizer })?;
    outln!("wrote the updated {what} and updates.jsonl to {}", args.out.display());
    Ok(())
}

struct Replay<'a> {
    args: &'a ReplayArgs,
    files: ModelFiles,
    /// With the adapter that is updated in place of the model, if it is given.
    attached: Attached,
    rollouts: Vec<RecordedRollout>,
    loss: LossSpec,
    optimizer: AdamWSettings,
}

impl Job for Replay<'_> {
    type Output = ();

    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self { args, files, attached, rollouts, loss, optimizer } = self;
        let dtype = args.model.dtype.dtype.for_model::<B>(&files, device)?;
        optimizer.check::<B>(dtype, device)?;
        let LoadedModel { mut decoder, assets, .. } = load_model::<B>(&files, device)?;
        decoder = attached.attach(optimizer.weights.stored(decoder.with_compute_dtype(dtype)));
        if attached.adapter.is_some() {
            let ids = decoder.adapter_ids();
            decoder = decoder.train_only(ids);
        }
        make_empty_folder(&args.out)?;
        let mut updates = JsonLinesWriter::create(&args.out.join("updates.jsonl"))?;
        let mut optimizer = DecoderOptimizer::<B>::new(optimizer);
        replay(&mut decoder, &mut optimizer, &rollouts, &loss, args.updates, |update, stats| {
            print_update(args, update, stats);
            Ok(updates.append(&UpdateLine { update, stats })?)
        })?;
        if let Some(adapter) = attached.adapter {
            let updated = Adapter::of(&decoder, &adapter.config);
            return Ok(write_adapter(&args.out, &updated, args.model.model.as_deref())?);
        }
        let options = SaveOptions { dtype: Some(args.save_dtype), ..SaveOptions::default() };
        Ok(save_checkpoint(&args.out, &decoder, &assets, options)?)
    }
}

/// A line of `updates.jsonl`.
#[derive(Serialize)]
struct UpdateLine<'a> {
    update: usize,
    #[serde(flatten)]
    stats: &'a UpdateStats,
}

fn loss_spec(args: &ReplayArgs) -> Result<LossSpec, CliError> {
    let policy = PolicySpec { site: args.policy.policy, norm: args.policy.norm.norm, temperature: args.temperature };
    Ok(LossSpec::for_replay(&args.set, policy, args.max_tokens_per_batch)?)
}

fn print_update(args: &ReplayArgs, update: usize, stats: &UpdateStats) {
    outln!(
        "update {update}/{}  loss {:.6}  grad_norm {:.6}  clip_ratio {:.4}{}",
        args.updates,
        stats.loss,
        stats.grad_norm,
        stats.clip_ratio,
        if stats.skipped { "  skipped: the gradient is not finite" } else { "" }
    );
}
