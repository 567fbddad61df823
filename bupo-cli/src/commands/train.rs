//! `bupo train`

use std::path::PathBuf;

use bupo_models::hub::Wanted;
use bupo_rl::{Algorithm, TrainConfig, train};
use burn::tensor::backend::Backend;

use super::{free_folder, model_files};
use crate::args::{AlgorithmArg, TrainArgs};
use crate::backend::{Job, run_on};
use crate::error::CliError;
use crate::screen::TrainScreen;

pub fn run(args: TrainArgs) -> Result<(), CliError> {
    let mut config = TrainConfig::load(args.config.as_deref(), &args.set)?;
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
    run_on(args.device.device, Train { config, folder })
}

struct Train {
    config: TrainConfig,
    folder: PathBuf,
}

impl Job for Train {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let files = model_files(self.config.model.as_deref(), Wanted::Model)?;
        let mut screen = TrainScreen::new(B::name(device));
        let outcome = train::<B>(&self.config, &files, &self.folder, device, &mut screen)?;
        screen.outcome(&outcome);
        // The run is whole without it.
        match super::report::write_page(&outcome.folder) {
            Ok(page) => say!("page         {}", page.display()),
            Err(error) => eprintln!("warning: the run's page could not be made: {error}"),
        }
        Ok(())
    }
}
