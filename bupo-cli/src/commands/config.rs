//! `bupo config`

use std::path::Path;

use bupo_models::ModelConfig;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_rl::{RunPlan, TrainConfig};

use super::model_files;
use crate::args::{CheckArgs, ConfigArgs, ConfigCommand};
use crate::backend::device_name;
use crate::error::CliError;

/// The default settings, with what each means; a test holds them equal to the program's own.
const DEFAULTS: &str = include_str!("../../../configs/arithmetic.toml");

pub fn run(args: ConfigArgs) -> Result<(), CliError> {
    match args.command {
        None => {
            out!("{DEFAULTS}");
            Ok(())
        }
        Some(ConfigCommand::Check(args)) => check(&args),
    }
}

fn check(args: &CheckArgs) -> Result<(), CliError> {
    let config = TrainConfig::load(Some(&args.file), &args.set)?;
    print_files(&config);
    let model = args.model.as_deref().or(config.model.as_deref());
    let sizes = load_config(&model_files(model, Wanted::Config)?).map_err(CliError::from)?;
    print_plan(&config, model.unwrap_or("the model inside the program"), &sizes)?;
    outln!("device: {}", device_name(args.device.device)?);
    Ok(())
}

fn print_files(config: &TrainConfig) {
    let named = |name: &str, files: &[std::path::PathBuf]| {
        for file in files {
            outln!(
                "{name} {}{}",
                file.display(),
                if Path::new(file).is_file() { "" } else { "  (there is no such file)" }
            );
        }
    };
    named("trains on", &config.data.train);
    named("measures on", &config.data.validation);
    if config.data.train.is_empty() {
        outln!("trains on the embedded arithmetic problems");
    }
}

fn print_plan(config: &TrainConfig, model: &str, sizes: &ModelConfig) -> Result<(), CliError> {
    let plan = RunPlan::new(config, sizes)?;
    outln!("model {model}: {} layers, {:.3} billion parameters", sizes.num_hidden_layers, plan.parameters as f64 / 1e9);
    for (index, phase) in plan.phases.iter().enumerate() {
        outln!(
            "phase {}: {} (norm {}), {} steps, {} updates, runs {} layers, trains {:.3} billion parameters",
            index + 1,
            if phase.auto { format!("auto, at most {}", phase.phase.site) } else { phase.phase.site.to_string() },
            phase.phase.norm,
            phase.phase.steps,
            phase.updates,
            phase.layers,
            phase.trained as f64 / 1e9
        );
    }
    outln!(
        "each step: {} prompts x {} responses = {} responses, {} tokens at most; mini-batches of {} prompts, {} tokens run at once",
        config.rollout.prompts,
        config.rollout.group_size,
        plan.responses_per_step,
        plan.most_tokens_per_step,
        config.update.mini_batch_prompts,
        config.update.max_tokens_per_batch
    );
    if config.rollout.max_draws > 1 {
        outln!("dynamic sampling draws up to {} times as many", config.rollout.max_draws);
    }
    let memory = plan.memory;
    outln!("memory at the longest sequences, estimated, all in f32");
    for (name, bytes) in [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("reference", memory.reference),
        ("activations", memory.activations),
        ("logits", memory.logits),
        ("cache", memory.cache),
        ("prefill", memory.prefill),
        ("lowered", memory.lowered),
        ("while generating", memory.rollout()),
        ("while updating", memory.update()),
        ("peak", memory.peak()),
    ] {
        outln!("  {name:<18} {:>10.3} GB", bytes as f64 / 1e9);
    }
    Ok(())
}
