//! Prints what a training run would do: phases, tokens and memory.

use std::path::PathBuf;
use std::time::Duration;

use bupo_engine::{RemoteEngine, RemoteSettings};
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_models::{DtypeChoice, ModelConfig};
use bupo_rl::{MemoryPlan, RunPlan, TrainConfig, shrink_to_memory};
use bytesize::ByteSize;

use crate::backend::{DeviceChoice, device_name, memory};
use crate::embedded::EMBEDDED_NAME;
use crate::error::CliError;
use crate::model::{model_files, warn_of_positions};

/// The share of the free memory that a run may take by the estimate. The rest is for what the estimate leaves out and for other
/// processes.
const USABLE_SHARE: f64 = 0.9;

/// The memory that a run may take on a device: `limit`, or a share of the free memory; nothing if that is unknown.
pub fn usable_memory(limit: Option<ByteSize>, device: DeviceChoice) -> Option<u64> {
    let usable = |free: u64| (free as f64 * USABLE_SHARE) as u64;
    limit.map(|limit| limit.as_u64()).or_else(|| memory(device).map(|memory| usable(memory.free)))
}

/// The maximum length of prompt and response together, in tokens. Prompts of the embedded problems are short.
pub fn max_tokens(config: &TrainConfig) -> usize {
    let prompt = if config.data.is_embedded_task() { 0 } else { config.data.max_prompt_tokens };
    prompt + config.longest_response()
}

/// Prints the plan of a run on a device.
///
/// # Errors
/// If the model's config.json cannot be read, or the settings do not fit the model.
pub fn print_plan(config: &TrainConfig, device: DeviceChoice, limit: Option<ByteSize>) -> Result<(), CliError> {
    print_files(config);
    let model = load_config(&model_files(config.model.as_deref(), Wanted::Config)?)?;
    warn_of_positions(&model, max_tokens(config));
    let plan = RunPlan::new(config, &model, device.is_cpu())?;
    let name = config.model.as_deref().unwrap_or(EMBEDDED_NAME);
    outln!("model {name}: {} layers, {:.2} M parameters", model.num_hidden_layers, millions(plan.parameters));
    print_phases(config, &plan);
    print_critic(config);
    print_step(config, &plan);
    print_engine(config, &model, &plan);
    print_memory(config, &plan.memory);
    print_fit(config, &model, device, limit)
}

fn print_files(config: &TrainConfig) {
    let print = |name: &str, files: &[PathBuf]| {
        for file in files {
            let missing = if file.is_file() { "" } else { "  (there is no such file)" };
            outln!("{name} {}{missing}", file.display());
        }
    };
    print("training data", &config.data.train);
    print("validation data", &config.data.validation);
    let benchmarks = &config.evaluation.benchmarks;
    print("benchmark", &benchmarks.iter().map(|benchmark| benchmark.file.clone()).collect::<Vec<_>>());
    if config.data.is_embedded_task() {
        outln!("training data: the embedded arithmetic problems");
    } else if config.data.train.is_empty() {
        outln!("training data: word problems of arithmetic");
    }
}

fn print_phases(config: &TrainConfig, plan: &RunPlan) {
    let what = config.trained_text().map_or(String::new(), |what| format!(": {what}"));
    for (index, phase) in plan.phases.iter().enumerate() {
        let site = phase.phase.site;
        outln!(
            "phase {}: {} (norm {}), {} steps, {} updates, runs {} layers, trains {:.2} M parameters{what}",
            index + 1,
            if phase.auto { format!("auto, at most {site}") } else { site.to_string() },
            phase.phase.norm,
            phase.phase.steps,
            phase.updates,
            phase.layers,
            millions(phase.trained)
        );
    }
}

fn print_critic(config: &TrainConfig) {
    let critic = &config.critic;
    if !config.has_critic() {
        return;
    }
    let warmup = match critic.warmup_steps {
        0 => String::new(),
        steps => format!(", trained alone in the first {steps} steps"),
    };
    let model = if critic.detached { "the model is a constant in its loss" } else { "its loss trains the model too" };
    outln!("critic: a value head on {}, {model}{warmup}", critic.site);
}

fn print_step(config: &TrainConfig, plan: &RunPlan) {
    outln!(
        "each step: {} prompts x {} responses = {} responses, at most {} tokens; mini-batches of {} prompts, micro-batches of {} tokens",
        config.rollout.prompts,
        config.rollout.group_size,
        plan.responses_per_step,
        plan.most_tokens_per_step,
        config.update.mini_batch_prompts,
        config.update.max_tokens_per_batch
    );
    if config.rollout.max_draws > 1 {
        outln!("dynamic sampling draws up to {} times as many responses", config.rollout.max_draws);
    }
}

/// Prints what samples and where weights go.
fn print_engine(config: &TrainConfig, model: &ModelConfig, plan: &RunPlan) {
    let rollout = &config.rollout;
    if !rollout.has_servers() {
        return;
    }
    let number = if config.dtype == DtypeChoice::Bf16 { 2 } else { 4 };
    let folder =
        rollout.weights_dir.as_ref().map_or("weights in the run's folder".into(), |dir| dir.display().to_string());
    let servers = if rollout.urls.len() == 1 { "server" } else { "servers" };
    outln!(
        "sampling: {} {} {servers}, {} prompts each at once",
        rollout.urls.len(),
        rollout.engine,
        rollout.concurrency
    );
    let mut take_adapters = config.lora.is_on();
    for url in &rollout.urls {
        let one = RemoteSettings { urls: vec![url.clone()], timeout: Duration::from_secs(2), ..rollout.servers() };
        match RemoteEngine::connect(&one, model, max_tokens(config)) {
            Ok(engine) => {
                take_adapters &= engine.takes_adapters();
                engine.models().for_each(|(url, model)| outln!("  {url} serves {model}"));
            }
            Err(error) => {
                take_adapters = false;
                outln!("  {error}");
            }
        }
    }
    outln!("weights are handed over before each step in {folder}, which the servers must be able to read");
    if take_adapters {
        let largest = plan.phases.iter().map(|phase| phase.trained).max().unwrap_or_default();
        outln!("  the adapter alone, {}", ByteSize(4 * largest));
    } else {
        outln!("  all weights {}, the newest two and their base are kept", ByteSize(number * plan.parameters));
    }
    if rollout.engine.takes_changed_weights() && !take_adapters {
        for (index, phase) in plan.phases.iter().enumerate().filter(|(_, phase)| phase.layers < model.num_hidden_layers)
        {
            outln!("  in phase {} what has changed: {}", index + 1, ByteSize(number * phase.trained));
        }
    }
    match (rollout.ahead, rollout.correction()) {
        (0, _) => outln!("training waits for the responses of each step"),
        _ => outln!("each step is sampled while the one before is trained, with weights one step older"),
    }
    match rollout.correction() {
        Some(correction) => outln!("correction of the loss: {}, ratios at most {}", correction.mode, correction.max),
        None => outln!("warning: the loss is not corrected for the difference between servers and trainer"),
    }
}

fn print_memory(config: &TrainConfig, memory: &MemoryPlan) {
    let dtype = match config.dtype {
        DtypeChoice::F32 => "f32",
        DtypeChoice::Bf16 => "bf16",
        DtypeChoice::Auto => "auto (planned as f32)",
    };
    let (moments, weights) = (config.optimizer.moments, config.optimizer.weights);
    outln!(
        "estimated memory at the maximum sequence length, compute dtype {dtype}, moments {moments}, weights {weights}"
    );
    for (name, bytes) in [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("reference", memory.reference),
        ("activations", memory.activations),
        ("logits", memory.logits),
        ("KV cache", memory.cache),
        ("prefill", memory.prefill),
        ("bf16 weights", memory.lowered.max(memory.packed)),
        ("program", memory.program),
        ("critic", memory.critic),
        ("rollout", memory.rollout()),
        ("update", memory.update()),
        ("peak", memory.peak()),
    ] {
        if name == "critic" && !config.has_critic() {
            continue;
        }
        outln!("  {name:<18} {:>12}", ByteSize(bytes).to_string());
    }
}

/// Prints whether the run fits the device, and what `train` would reduce if it does not.
fn print_fit(
    config: &TrainConfig,
    model: &ModelConfig,
    device: DeviceChoice,
    limit: Option<ByteSize>,
) -> Result<(), CliError> {
    outln!("device {}", device_name(device));
    let Some(usable) = usable_memory(limit, device) else {
        outln!("the device does not report its free memory; give --memory-limit to check whether the run fits");
        return Ok(());
    };
    match limit {
        Some(limit) => outln!("memory limit {limit}"),
        None => outln!("usable memory {}, {:.0}% of the free memory", ByteSize(usable), 100.0 * USABLE_SHARE),
    }
    if RunPlan::new(config, model, device.is_cpu())?.memory.peak() <= usable {
        outln!("the run fits");
        return Ok(());
    }
    let mut reduced = config.clone();
    match shrink_to_memory(&mut reduced, model, device.is_cpu(), usable) {
        Ok(changes) => {
            outln!("the run does not fit with these settings; train would reduce");
            for change in changes {
                outln!("  {change}");
            }
            outln!(
                "to an estimated peak of {}",
                ByteSize(RunPlan::new(&reduced, model, device.is_cpu())?.memory.peak())
            );
        }
        Err(error) => outln!("the run does not fit, and train would refuse it: {error}"),
    }
    Ok(())
}

fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}
