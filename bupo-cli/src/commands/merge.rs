//! `bupo merge`

use bupo_models::pretrained::hub::Wanted;
use bupo_models::{Adapter, LoadedModel, ModelFiles, SaveOptions, load_model, save_checkpoint};
use bupo_rl::make_empty_folder;
use burn::tensor::backend::Backend;

use crate::args::MergeArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::CliError;
use crate::model::{model_adapter, model_files};

pub fn run(args: &MergeArgs) -> Result<(), CliError> {
    let device = resolve(args.device.device)?;
    let files = model_files(args.model.as_deref(), Wanted::Model)?;
    let Some(adapter) = model_adapter(Some(&args.adapter), &files)? else { return Ok(()) };
    make_empty_folder(&args.out)?;
    run_on(device, Merge { args, files, adapter })?;
    outln!("wrote the merged model to {}", args.out.display());
    Ok(())
}

struct Merge<'a> {
    args: &'a MergeArgs,
    files: ModelFiles,
    adapter: Adapter,
}

impl Job for Merge<'_> {
    type Output = ();

    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let LoadedModel { decoder, assets, .. } = load_model::<B>(&self.files, device)?;
        let merged = decoder.with_adapter(&self.adapter).merged();
        let options = SaveOptions { dtype: self.args.save_dtype, ..SaveOptions::default() };
        Ok(save_checkpoint(&self.args.out, &merged, &assets, options)?)
    }
}
