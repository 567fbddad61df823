//! `bupo train`

use std::path::PathBuf;

use bupo_models::hub::Wanted;
use bupo_rl::{Algorithm, Start, TrainConfig, resumed_config, train};
use burn::tensor::backend::Backend;

use super::{free_folder, model_files, stop_on_interrupt};
use crate::args::{AlgorithmArg, TrainArgs};
use crate::backend::{Job, run_on};
use crate::error::CliError;
use crate::screen::TrainScreen;

pub fn run(args: TrainArgs) -> Result<(), CliError> {
    if let Some(folder) = args.resume {
        let config = resumed_config(&folder, &args.set)?;
        return run_on(args.device.device, Train { config, folder, start: Start::Resume });
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
    config.save_dtype = args.save_dtype.or(config.save_dtype);
    let folder = args.out.unwrap_or_else(|| {
        free_folder(match config.algorithm {
            Algorithm::Bupo => "bupo",
            Algorithm::Grpo => "grpo",
        })
    });
    let start = args.fork.map_or(Start::New, |from| Start::Fork { from, step: args.from_step });
    run_on(args.device.device, Train { config, folder, start })
}

struct Train {
    config: TrainConfig,
    folder: PathBuf,
    start: Start,
}

impl Job for Train {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let files = model_files(self.config.model.as_deref(), Wanted::Model)?;
        let mut screen = TrainScreen::new(B::name(device));
        let stop = stop_on_interrupt("the step is finished and kept")?;
        let outcome = train::<B>(&self.config, &files, &self.folder, &self.start, &stop, device, &mut screen)?;
        screen.outcome(&outcome);
        if outcome.after.is_none() {
            return Ok(());
        }
        // The run is whole without it.
        match super::report::write_page(&outcome.folder) {
            Ok(page) => say!("page         {}", page.display()),
            Err(error) => eprintln!("warning: the run's page could not be made: {error}"),
        }
        Ok(())
    }
}
