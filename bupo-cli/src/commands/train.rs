//! `bupo train`

use std::path::{Path, PathBuf};

use bupo_rl::{Algorithm, TrainConfig, train};
use burn::tensor::backend::{AutodiffBackend, Backend};

use super::model_files;
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
    let folder = args.out.unwrap_or_else(|| free_folder(config.algorithm));
    run_on(args.device.device, Train { config, folder })
}

struct Train {
    config: TrainConfig,
    folder: PathBuf,
}

impl Job for Train {
    fn run<A: AutodiffBackend>(self, device: &A::Device) -> Result<(), CliError> {
        let files = model_files(self.config.model.as_deref())?;
        let mut screen = TrainScreen::new(A::InnerBackend::name(device));
        let outcome = train::<A>(&self.config, &files, &self.folder, device, &mut screen)?;
        screen.outcome(&outcome);
        Ok(())
    }
}

/// The first of `runs/bupo-1`, `runs/bupo-2`, ... that is not there.
fn free_folder(algorithm: Algorithm) -> PathBuf {
    let name = match algorithm {
        Algorithm::Bupo => "bupo",
        Algorithm::Grpo => "grpo",
    };
    let mut number = 1;
    loop {
        let folder = Path::new("runs").join(format!("{name}-{number}"));
        if !folder.exists() {
            return folder;
        }
        number += 1;
    }
}
