//! `bupo train`

use std::path::PathBuf;

use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_rl::{Algorithm, Start, TrainConfig, resumed_config, shrink_to_memory, train};
use burn::tensor::backend::Backend;

use super::{free_folder, model_files, stop_on_interrupt};
use crate::args::{AlgorithmArg, TrainArgs};
use crate::backend::{DeviceChoice, Job, device_name, memory, resolved, run_on};
use crate::error::CliError;
use crate::screen::TrainScreen;

/// Of the memory that is free, what a run may be planned to take: estimates leave out a little, and others use the machine too.
const SHARE: f64 = 0.9;

pub fn run(args: TrainArgs) -> Result<(), CliError> {
    let device = resolved(args.device.device)?;
    if let Some(folder) = args.resume {
        let config = resumed_config(&folder, &args.set)?;
        // It has its batches already, and keeps them unless it is told to take less.
        return run_on(device, Train { config, folder, start: Start::Resume, device, memory: args.memory_limit });
    }
    let settings = args.fork.as_ref().map(|run| run.join("config.toml"));
    let mut config = TrainConfig::load(settings.as_deref().or(args.config.as_deref()), &args.set)?;
    if let Some(algorithm) = args.algorithm {
        config.algorithm = match algorithm {
            AlgorithmArg::Bupo => Algorithm::Bupo,
            AlgorithmArg::Grpo => Algorithm::Grpo,
        };
    }
    config.seed = args.seed.unwrap_or(config.seed);
    config.model = args.model.or(config.model);
    config.dtype = args.dtype.unwrap_or(config.dtype);
    config.save_dtype = args.save_dtype.or(config.save_dtype);
    let folder = args.out.unwrap_or_else(|| {
        free_folder(match config.algorithm {
            Algorithm::Bupo => "bupo",
            Algorithm::Grpo => "grpo",
        })
    });
    let start = args.fork.map_or(Start::New, |from| Start::Fork { from, step: args.from_step });
    let memory = args.memory_limit.or_else(|| memory(device).map(|memory| (memory.free as f64 * SHARE) as u64));
    run_on(device, Train { config, folder, start, device, memory })
}

struct Train {
    config: TrainConfig,
    folder: PathBuf,
    start: Start,
    /// What it computes on.
    device: DeviceChoice,
    /// What it may take of it, in bytes; nothing where it has its batches already, or where nobody knows.
    memory: Option<u64>,
}

impl Job for Train {
    fn run<B: Backend>(mut self, device: &B::Device) -> Result<(), CliError> {
        let files = model_files(self.config.model.as_deref(), Wanted::Model)?;
        let dtype = self.config.dtype.for_model::<B>(&files, device)?;
        self.config.dtype = dtype.into();
        if let Some(memory) = self.memory {
            let sizes = load_config(&files)?;
            for cut in shrink_to_memory(&mut self.config, &sizes, memory)? {
                outln!("to fit the memory: {cut}");
            }
        }
        let mut screen = TrainScreen::new(self.device, format!("{}, {dtype}", device_name(self.device)?));
        let stop = stop_on_interrupt("the step is finished and kept")?;
        let outcome = train::<B>(&self.config, &files, &self.folder, &self.start, &stop, device, &mut screen)?;
        screen.outcome(&outcome);
        if outcome.after.is_none() {
            return Ok(());
        }
        // The run is whole without it.
        match super::report::write_page(&outcome.folder) {
            Ok(page) => outln!("page         {}", page.display()),
            Err(error) => eprintln!("warning: the run's page could not be made: {error}"),
        }
        Ok(())
    }
}
