//! `bupo train`

use std::path::{Path, PathBuf};

use bupo_collective::{Launch, Processes};
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_models::{DtypeChoice, ModelConfig, ModelFiles};
use bupo_rl::{Algorithm, Outcome, RlError, Start, TrainConfig, resumed_config, shrink_to_memory, train_among};
use bupo_runs::CheckpointStore;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::report::write_page;
use crate::args::{AlgorithmArg, TrainArgs};
use crate::backend::{DeviceChoice, Job, run_on};
use crate::distributed::{device, join, launch};
use crate::error::{CliError, sentence};
use crate::files::{check_run, free_folder};
use crate::interrupt::{stop_on_interrupt, stop_silently_on_interrupt};
use crate::model::{model_files, position_warning};
use crate::plan::{max_tokens, print_plan, usable_memory};
use crate::screen::{RankLog, TrainScreen};

pub fn run(args: TrainArgs) -> Result<(), CliError> {
    let launch = launch();
    let device = device(args.device.device, &launch)?;
    let processes = join(args.dist_backend, device)?;
    let _abort = processes.abort_on_panic(|text| eprintln!("error: {text}"));
    match run_among(args, device, &launch, &processes) {
        // All processes have this error; the first one prints it.
        Err(CliError::Rl(RlError::Process { .. })) if !processes.is_first() => Err(CliError::Printed),
        Err(error) if !processes.is_alone() && !matches!(error, CliError::Rl(RlError::Process { .. })) => {
            eprintln!("error: process {} of {}: {}", processes.rank(), processes.size(), sentence(&error));
            processes.abort();
        }
        result => result,
    }
}

fn run_among(args: TrainArgs, device: DeviceChoice, launch: &Launch, processes: &Processes) -> Result<(), CliError> {
    // The settings and the folder are those of the first process.
    let own = if processes.is_first() { plan(args, device)? } else { None };
    let Some(plan) = processes.from_first(|| own)? else { return Ok(()) };
    let mut files = None;
    // The first process of a machine downloads; the others find what it has downloaded.
    for has_turn in [launch.local_rank == 0, launch.local_rank > 0] {
        if has_turn {
            files = Some(model_files(plan.config.model.as_deref(), Wanted::Model)?);
        }
        processes.gather(())?;
    }
    let Some(files) = files else { return Ok(()) };
    let model = load_config(&files)?;
    let shares = if device.is_cpu() { launch.local_size as u64 } else { 1 };
    let usable_memory = match plan.limit {
        Limit::Given(bytes) => Some(bytes),
        Limit::OfDevice => usable_memory(None, device).map(|bytes| bytes / shares),
        Limit::None => None,
    };
    let job = Train {
        config: plan.config,
        files,
        model,
        folder: plan.folder,
        start: plan.start,
        device,
        usable_memory,
        processes,
    };
    let (screen, outcome) = run_on(device, job)?;
    if processes.is_first() { finish(screen, &outcome) } else { Ok(()) }
}

/// What all processes do.
#[derive(Serialize, Deserialize)]
struct Plan {
    config: TrainConfig,
    folder: PathBuf,
    start: Start,
    limit: Limit,
}

/// The memory that batches are reduced to.
#[derive(Serialize, Deserialize)]
enum Limit {
    Given(u64),
    OfDevice,
    None,
}

/// What the options ask for; `None` if it is done.
fn plan(args: TrainArgs, device: DeviceChoice) -> Result<Option<Plan>, CliError> {
    let limit = args.memory.memory_limit;
    let given = limit.map(|limit| Limit::Given(limit.as_u64()));
    args.resume.iter().chain(&args.fork).try_for_each(|run| check_run(run))?;
    if let (Some(run), Some(step)) = (&args.fork, args.from_step) {
        check_step(run, step)?;
    }
    if let Some(folder) = args.resume {
        let config = resumed_config(&folder, &args.settings.set)?;
        // The batches of the first start are kept, so that the run stays reproducible, unless a new limit is given.
        return Ok(Some(Plan { config, folder, start: Start::Resume, limit: given.unwrap_or(Limit::None) }));
    }
    let config = new_config(&args)?;
    if args.dry_run {
        return print_plan(&config, device, limit).map(|()| None);
    }
    let folder = args.out.unwrap_or_else(|| {
        free_folder(match config.algorithm {
            Algorithm::Bupo => "bupo",
            Algorithm::Grpo => "grpo",
        })
    });
    let start = args.fork.map_or(Start::New, |from| Start::Fork { from, step: args.from_step });
    Ok(Some(Plan { config, folder, start, limit: given.unwrap_or(Limit::OfDevice) }))
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
    config.adapter = args.adapter.adapter.clone().or(config.adapter);
    config.dtype = args.dtype.unwrap_or(config.dtype);
    config.save_dtype = args.save_dtype.or(config.save_dtype);
    Ok(config)
}

/// Prints the outcome and writes the report.
fn finish(mut screen: TrainScreen, outcome: &Outcome) -> Result<(), CliError> {
    screen.outcome(outcome);
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

struct Train<'a> {
    config: TrainConfig,
    files: ModelFiles,
    model: ModelConfig,
    folder: PathBuf,
    start: Start,
    device: DeviceChoice,
    /// The limit that batches are reduced to; nothing if they are kept.
    usable_memory: Option<u64>,
    processes: &'a Processes,
}

impl Job for Train<'_> {
    type Output = (TrainScreen, Outcome);

    fn run<B: Backend>(mut self, device: &B::Device) -> Result<Self::Output, CliError> {
        let processes = self.processes;
        let dtype = self.config.dtype.for_model::<B>(&self.files, device)?;
        // `auto` is what it is for the first process.
        self.config.dtype = processes.from_first(|| DtypeChoice::from(dtype))?;
        let dtype = self.config.dtype.for_model::<B>(&self.files, device)?;
        self.fit_memory()?;
        let warning = position_warning(&self.model, max_tokens(&self.config));
        let mut screen = RankLog::new(TrainScreen::new(self.device, dtype, warning), processes);
        let stop = if processes.is_first() {
            stop_on_interrupt("the current step is finished and saved")?
        } else {
            stop_silently_on_interrupt()?
        };
        let Self { config, files, folder, start, .. } = self;
        let trained = train_among::<B>(&config, &files, &folder, &start, &stop, device, &mut screen, processes);
        if let Err(error) = &trained {
            screen.line(&format!("error: {}", sentence(error)));
        }
        Ok((screen.into_screen(), trained?))
    }
}

impl Train<'_> {
    /// Reduces the batches to the memory.
    fn fit_memory(&mut self) -> Result<(), CliError> {
        let Some(usable) = self.usable_memory else { return Ok(()) };
        for change in shrink_to_memory(&mut self.config, &self.model, self.device.is_cpu(), usable)? {
            if self.processes.is_first() {
                outln!("reduced to fit the memory: {change}");
            }
        }
        Ok(())
    }
}
