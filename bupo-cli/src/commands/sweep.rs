//! `bupo sweep`

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_models::{ModelConfig, ModelFiles};
use bupo_report::sweep_report;
use bupo_rl::{
    FirstStep, RunResult, Start, SweepFolder, SweepPlan, SweepProgress, SweepResult, SweepRun, TrainConfig, Variant,
    prompt_renderer, resumed_config, shrink_to_memory, train,
};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;

use crate::args::SweepArgs;
use crate::backend::{DeviceChoice, Job, resolve, run_on};
use crate::error::{CliError, at_least_one};
use crate::files::free_folder;
use crate::interrupt::stop_on_interrupt;
use crate::model::{model_files, position_warning};
use crate::plan::{max_tokens, usable_memory};
use crate::screen::{TrainScreen, print_sweep};
use crate::verbosity::{Verbosity, verbosity};

/// The page's name in a sweep's folder.
const PAGE: &str = "sweep.html";

pub fn run(args: &SweepArgs) -> Result<(), CliError> {
    at_least_one(&[("--steps", args.steps)])?;
    let device = resolve(args.device.device)?;
    let mut settings = TrainConfig::load(args.settings.config.as_deref(), &args.settings.set)?;
    settings.model = args.model.clone().or(settings.model);
    settings.adapter = args.adapter.adapter.clone().or(settings.adapter);
    settings.dtype = args.dtype.unwrap_or(settings.dtype);
    let variants =
        if args.layers.is_empty() { Variant::of_sites(&args.sites)? } else { Variant::of_layers(&args.layers)? };
    let mut plan = SweepPlan { settings, steps: args.steps, variants, seeds: args.seeds.clone() };
    let files = model_files(plan.settings.model.as_deref(), Wanted::Model)?;
    let model = load_config(&files)?;
    plan.check(&model)?;
    let out = args.out.clone().unwrap_or_else(|| free_folder("sweep"));
    let folder = SweepFolder::open(&out)?;
    // A sweep that goes on has the prompts of the day it was started.
    if !plan.settings.data.is_embedded_task() && plan.settings.data.template_date.is_none() {
        plan.settings.data.template_date = match folder.template_date() {
            Some(date) => Some(date),
            None => prompt_renderer(&plan.settings.data, &files)?.date(),
        };
    }
    let limit = args.memory.memory_limit;
    let stop = stop_on_interrupt("the current step is finished and saved")?;
    let job = Sweep {
        plan: &plan,
        files: &files,
        model: &model,
        folder,
        device,
        usable_memory: usable_memory(limit, device),
        keeps_models: args.keep_models,
        stop: &stop,
    };
    let Done { folder, finished, all } = run_on(device, job)?;
    if finished.len() < all {
        outln!("stopped after {} of {all} runs; the same command with --out {} goes on", finished.len(), out.display());
        return Ok(());
    }
    finish(&plan, &folder, &finished)
}

/// Prints the table and writes the result and the page.
fn finish(plan: &SweepPlan, folder: &SweepFolder, finished: &[(SweepRun, RunResult)]) -> Result<(), CliError> {
    let selectors = folder.selectors();
    let result = SweepResult::new(plan, finished, selectors.as_ref())?;
    print_sweep(&result);
    let written = folder.write_result(&result)?;
    let page: PathBuf = folder.path().join(PAGE);
    let name = folder.path().file_name().map_or_else(|| "sweep".into(), |name| name.to_string_lossy());
    let report = sweep_report(&name, &result, plan.settings.model.as_deref(), &plan.measured()?.to_toml()?);
    write_atomically(&page, report.html()?.as_bytes())?;
    outln!();
    for (name, path) in [("numbers", &written[0]), ("table", &written[1]), ("report", &page)] {
        outln!("{name:<12} {}", path.display());
    }
    outln!("{:<12} {}", "runs", folder.path().join("runs").display());
    Ok(())
}

struct Sweep<'a> {
    plan: &'a SweepPlan,
    files: &'a ModelFiles,
    model: &'a ModelConfig,
    folder: SweepFolder,
    device: DeviceChoice,
    /// The limit that batches are reduced to; nothing if it is unknown.
    usable_memory: Option<u64>,
    keeps_models: bool,
    stop: &'a AtomicBool,
}

struct Done {
    folder: SweepFolder,
    finished: Vec<(SweepRun, RunResult)>,
    /// The number of runs.
    all: usize,
}

impl Job for Sweep<'_> {
    type Output = Done;

    fn run<B: Backend>(mut self, device: &B::Device) -> Result<Done, CliError> {
        let runs = self.plan.runs()?;
        self.measure::<B>(device)?;
        let (mut finished, all) = (Vec::new(), runs.len());
        for (index, run) in runs.into_iter().enumerate() {
            let progress = self.folder.progress(&run)?;
            if progress != SweepProgress::Finished {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                let what = format!("run {} of {all}: {}, seed {}", index + 1, run.variant, run.seed);
                note(&format!("{}{what}", if index > 0 { "\n" } else { "" }));
                if !self.train::<B>(&run, progress, device)? {
                    break;
                }
            }
            if !self.keeps_models {
                self.folder.prune(&run)?;
            }
            let result = RunResult::read(&run, &self.folder.run(&run))?;
            finished.push((run, result));
        }
        Ok(Done { folder: self.folder, finished, all })
    }
}

impl Sweep<'_> {
    /// Writes the settings once model and data are read, and measures the model before training.
    fn measure<B: Backend>(&mut self, device: &B::Device) -> Result<(), CliError> {
        let has_selectors = self.folder.selectors().is_some();
        if has_selectors {
            return Ok(self.folder.begin(self.plan)?);
        }
        let first = FirstStep::<B>::new(&self.plan.measured()?, self.files, device)?;
        self.folder.begin(self.plan)?;
        note("measuring the layers on the responses of the first step ...");
        let sites: Vec<_> = self.plan.variants.iter().map(|variant| variant.site()).collect();
        Ok(self.folder.write_selectors(&first.selectors(&sites)?)?)
    }

    /// Starts or resumes a run; false if it was stopped.
    fn train<B: Backend>(&self, run: &SweepRun, progress: SweepProgress, device: &B::Device) -> Result<bool, CliError> {
        let folder = self.folder.run(run);
        let (config, start) = match progress {
            SweepProgress::Begun => (resumed_config(&folder, &[])?, Start::Resume),
            _ => (self.fitted(run)?, Start::New),
        };
        let dtype = config.dtype.for_model::<B>(self.files, device)?;
        let warning = position_warning(self.model, max_tokens(&config));
        let mut screen = TrainScreen::new(self.device, dtype, warning);
        let outcome = train::<B>(&config, self.files, &folder, &start, self.stop, device, &mut screen)?;
        Ok(outcome.after.is_some())
    }

    /// The settings of a run with batches that fit the memory.
    fn fitted(&self, run: &SweepRun) -> Result<TrainConfig, CliError> {
        let mut config = run.config.clone();
        if let Some(usable) = self.usable_memory {
            for change in shrink_to_memory(&mut config, self.model, self.device.is_cpu(), usable)? {
                outln!("reduced to fit the memory: {change}");
            }
        }
        Ok(config)
    }
}

/// Prints a line of progress; nothing with --quiet.
fn note(text: &str) {
    if verbosity() != Verbosity::Quiet {
        outln!("{text}");
    }
}
