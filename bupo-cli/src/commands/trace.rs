//! `bupo trace`

use std::collections::BTreeMap;

use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::{StoredTensor, load_config, write_safetensors};
use bupo_models::{DtypeChoice, ModelFiles, SaveDtype, trace};
use burn::tensor::TensorData;
use burn::tensor::backend::Backend;

use crate::args::TraceArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::CliError;
use crate::files::{check_writable, read_tokens};
use crate::model::{Attached, load_for_inference, model_adapter, model_files, warn_of_positions};

pub fn run(args: &TraceArgs) -> Result<(), CliError> {
    check_writable(&args.out)?;
    let device = resolve(args.model.device.device)?;
    let rows = read_tokens(&args.tokens)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    warn_of_positions(&load_config(&files)?, rows.iter().map(Vec::len).max().unwrap_or(0));
    let adapter = model_adapter(args.model.adapter.adapter.as_deref(), &files)?;
    let attached = Attached { adapter, ..Attached::default() };
    let tensors = run_on(device, Trace { files, attached, dtype: args.model.dtype.dtype, rows })?;
    let stored: Vec<StoredTensor> =
        tensors.into_iter().map(|(name, data)| StoredTensor::new(name, &data, SaveDtype::F32)).collect();
    write_safetensors(&args.out, &stored)?;
    outln!("wrote {} tensors to {}", stored.len(), args.out.display());
    Ok(())
}

struct Trace {
    files: ModelFiles,
    attached: Attached,
    dtype: DtypeChoice,
    rows: Vec<Vec<u32>>,
}

impl Job for Trace {
    type Output = BTreeMap<String, TensorData>;

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let model = load_for_inference::<B>(&self.files, &self.attached, self.dtype, device)?;
        Ok(trace(&model.decoder, &self.rows)?)
    }
}
