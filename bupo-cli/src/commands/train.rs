//! `bupo train`

use std::path::{Path, PathBuf};

use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_models::{ComputeDtype, ModelConfig, ModelFiles};
use bupo_rl::{Algorithm, Outcome, Start, TrainConfig, resumed_config, shrink_to_memory, train};
use bupo_runs::CheckpointStore;
use burn::tensor::backend::Backend;

use super::report::write_page;
use crate::args::{AlgorithmArg, TrainArgs};
use crate::backend::{DeviceChoice, Job, resolve, run_on};
use crate::error::{CliError, sentence};
use crate::files::{check_run, free_folder};
use crate::interrupt::stop_on_interrupt;
use crate::model::{model_files, position_warning};
use crate::plan::{max_tokens, print_plan, usable_memory};
use crate::screen::TrainScreen;

pub fn run(args: TrainArgs) -> Result<(), CliError> {
    let device = resolve(args.device.device)?;
    let limit = args.memory.memory_limit;
    args.resume.iter().chain(&args.fork).try_for_each(|run| check_run(run))?;
    if let (Some(run), Some(step)) = (&args.fork, args.from_step) {
        check_step(run, step)?;
    }
    if let Some(folder) = args.resume {
        let config = resumed_config(&folder, &args.settings.set)?;
        // The batches of the first start are kept, so that the run stays reproducible, unless a new limit is given.
        return start(config, folder, Start::Resume, device, limit.map(|limit| limit.as_u64()));
    }
    let config = new_config(&args)?;
    if args.dry_run {
        return print_plan(&config, device, limit);
    }
    let folder = args.out.unwrap_or_else(|| {
        free_folder(match config.algorithm {
            Algorithm::Bupo => "bupo",
            Algorithm::Grpo => "grpo",
        })
    });
    let from = args.fork.map_or(Start::New, |from| Start::Fork { from, step: args.from_step });
    start(config, folder, from, device, usable_memory(limit, device))
}

/// Checks that a run has a checkpoint of a step.
fn check_step(run: &Path, step: usize) -> Result<(), CliError> {
    let mut steps = CheckpointStore::new(run).list()?;
    if steps.contains(&step) {
        return Ok(());
    }
    steps.reverse();
    let there = match &steps[..] {
        [] => "it has no checkpoints".into(),
        steps => format!("there are {}", steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    Err(CliError::Message(format!("{} has no checkpoint of step {step} (--from-step); {there}", run.display())))
}

fn new_config(args: &TrainArgs) -> Result<TrainConfig, CliError> {
    let forked = args.fork.as_ref().map(|run| run.join("config.toml"));
    let file = forked.as_deref().or(args.settings.config.as_deref());
    let mut config = TrainConfig::load(file, &args.settings.set)?;
    if let Some(algorithm) = args.algorithm {
        config.algorithm = match algorithm {
            AlgorithmArg::Bupo => Algorithm::Bupo,
            AlgorithmArg::Grpo => Algorithm::Grpo,
        };
    }
    config.seed = args.seed.unwrap_or(config.seed);
    config.model = args.model.clone().or(config.model);
    config.dtype = args.dtype.unwrap_or(config.dtype);
    config.save_dtype = args.save_dtype.or(config.save_dtype);
    Ok(config)
}

/// Trains, prints the outcome and writes the report.
fn start(
    config: TrainConfig,
    folder: PathBuf,
    start: Start,
    device: DeviceChoice,
    usable_memory: Option<u64>,
) -> Result<(), CliError> {
    let files = model_files(config.model.as_deref(), Wanted::Model)?;
    let model = load_config(&files)?;
    let job = Train { config, files, model, folder, start, device, usable_memory };
    let (mut screen, outcome) = run_on(device, job)?;
    screen.outcome(&outcome);
    if outcome.after.is_none() {
        return Ok(());
    }
    match write_page(&outcome.folder) {
        Ok(page) => outln!("report       {}", page.display()),
        Err(error) => {
            eprintln!("warning: the run is complete, but its report could not be written: {}", sentence(&error))
        }
    }
    Ok(())
}

struct Train {
    config: TrainConfig,
    files: ModelFiles,
    model: ModelConfig,
    folder: PathBuf,
    start: Start,
    device: DeviceChoice,
    /// The limit that batches are reduced to; nothing if they are kept.
    usable_memory: Option<u64>,
}

impl Job for Train {
    type Output = (TrainScreen, Outcome);

    fn run<B: Backend>(mut self, device: &B::Device) -> Result<Self::Output, CliError> {
        let dtype = self.config.dtype.for_model::<B>(&self.files, device)?;
        self.prepare(dtype)?;
        let warning = position_warning(&self.model, max_tokens(&self.config));
        let mut screen = TrainScreen::new(self.device, dtype, warning);
        let stop = stop_on_interrupt("the current step is finished and saved")?;
        let Self { config, files, folder, start, .. } = self;
        let outcome = train::<B>(&config, &files, &folder, &start, &stop, device, &mut screen)?;
        Ok((screen, outcome))
    }
}

impl Train {
    /// Records the compute dtype and reduces the batches to the memory.
    fn prepare(&mut self, dtype: ComputeDtype) -> Result<(), CliError> {
        self.config.dtype = dtype.into();
        let Some(usable) = self.usable_memory else { return Ok(()) };
        for change in shrink_to_memory(&mut self.config, &self.model, self.device.is_cpu(), usable)? {
            outln!("reduced to fit the memory: {change}");
        }
        Ok(())
    }
}
