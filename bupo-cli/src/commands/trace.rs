//! `bupo trace`

use std::collections::HashMap;

use bupo_models::{load_model, trace};
use burn::tensor::backend::AutodiffBackend;
use safetensors::tensor::{Dtype, TensorView};

use super::{check_writable, model_files, read_tokens};
use crate::args::TraceArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;

pub fn run(args: TraceArgs) -> Result<(), CliError> {
    check_writable(&args.out)?;
    run_on(args.model.device.device, Trace(args))
}

struct Trace(TraceArgs);

impl Job for Trace {
    fn run<A: AutodiffBackend>(self, device: &A::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let rows = read_tokens(&args.tokens)?;
        let model = load_model::<A::InnerBackend>(&model_files(args.model.model.as_deref())?, device)?;
        let stored: Vec<(String, Vec<usize>, Vec<u8>)> = trace(&model.decoder, &rows)?
            .into_iter()
            .map(|(name, data)| (name, data.shape.to_vec(), data.iter::<f32>().flat_map(f32::to_le_bytes).collect()))
            .collect();
        let failed = |error| CliError::Message(format!("cannot write {}: {error}", args.out.display()));
        let views = stored
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize_to_file(views, Some(metadata), &args.out).map_err(failed)?;
        println!("wrote {} tensors to {}", stored.len(), args.out.display());
        Ok(())
    }
}
