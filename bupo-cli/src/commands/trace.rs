//! `bupo trace`

use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::{StoredTensor, write_safetensors};
use bupo_models::{SaveDtype, trace};
use burn::tensor::backend::Backend;

use super::{check_writable, load_to_read, model_files, read_tokens};
use crate::args::TraceArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;

pub fn run(args: TraceArgs) -> Result<(), CliError> {
    check_writable(&args.out)?;
    run_on(args.model.device.device, Trace(args))
}

struct Trace(TraceArgs);

impl Job for Trace {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let rows = read_tokens(&args.tokens)?;
        let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
        let model = load_to_read::<B>(&files, args.model.dtype.dtype, device)?;
        let stored: Vec<StoredTensor> = trace(&model.decoder, &rows)?
            .into_iter()
            .map(|(name, data)| StoredTensor::new(name, &data, SaveDtype::F32))
            .collect();
        write_safetensors(&args.out, &stored)?;
        outln!("wrote {} tensors to {}", stored.len(), args.out.display());
        Ok(())
    }
}
