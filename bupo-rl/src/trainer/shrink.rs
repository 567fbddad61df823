//! Smaller batches, so that a run fits its memory.

use bupo_models::ModelConfig;

use super::memory_plan::RunPlan;
use crate::RlError;
use crate::config::TrainConfig;

/// Tokens per micro-batch below which matrix products are too small to be fast.
const FEW_TOKENS: usize = 512;

/// Reduces batch sizes until the estimated peak is at most `limit` bytes: `rollout.batch`, then `update.max_tokens_per_batch`,
/// then `update.recompute`, then still fewer tokens. Changes only speed and rounding. Returns the changes, one text each.
///
/// # Errors
/// If the run does not fit even at the smallest sizes.
pub fn shrink_to_memory(
    config: &mut TrainConfig,
    model: &ModelConfig,
    on_cpu: bool,
    limit: u64,
) -> Result<Vec<String>, RlError> {
    let before = config.clone();
    loop {
        let memory = RunPlan::new(config, model, on_cpu)?.memory;
        if memory.peak() <= limit {
            break;
        }
        let cut = (memory.rollout() > limit && cut_rollout(config)) || (memory.update() > limit && cut_update(config));
        if !cut {
            let fixed = memory.weights + memory.gradients + memory.optimizer + memory.reference;
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            return Err(RlError::Config(format!(
                "training needs {:.2} GiB of memory by the estimate, {:.2} GiB of it for weights, gradients and moments, and {:.2} GiB \
                 are allowed; shorten rollout.max_new_tokens or data.max_prompt_tokens, choose a smaller model or another --device, or \
                 give a larger --memory-limit",
                gib(memory.peak()),
                gib(fixed),
                gib(limit)
            )));
        }
    }
    Ok(cuts(&before, config))
}

/// Halves the responses generated at once. Returns whether that was possible.
pub(crate) fn cut_rollout(config: &mut TrainConfig) -> bool {
    let rollout = &mut config.rollout;
    if rollout.has_servers() {
        return false;
    }
    // A batch larger than the number of responses takes no more memory.
    let rows = rollout.batch.min(rollout.prompts * rollout.group_size);
    if rows > 1 {
        rollout.batch = rows / 2;
    }
    rows > 1
}

/// Reduces the memory of an update: halves large micro-batches, then turns recomputation on, then runs one sequence at a time.
/// Returns whether any reduction was left.
pub(crate) fn cut_update(config: &mut TrainConfig) -> bool {
    let longest = config.data.max_prompt_tokens + config.rollout.max_new_tokens;
    let update = &mut config.update;
    let tokens = update.max_tokens_per_batch.min(update.mini_batch_prompts * config.rollout.group_size * longest);
    if tokens / 2 >= longest.max(FEW_TOKENS) {
        update.max_tokens_per_batch = tokens / 2;
    } else if !update.recompute {
        update.recompute = true;
    } else if tokens > longest {
        update.max_tokens_per_batch = longest;
    } else {
        return false;
    }
    true
}

/// The changed settings, one text each.
pub(crate) fn cuts(before: &TrainConfig, after: &TrainConfig) -> Vec<String> {
    let sizes = |config: &TrainConfig| {
        [
            ("rollout.batch", config.rollout.batch.to_string()),
            ("update.max_tokens_per_batch", config.update.max_tokens_per_batch.to_string()),
            ("update.recompute", config.update.recompute.to_string()),
        ]
    };
    let pairs = sizes(before).into_iter().zip(sizes(after));
    let changed = pairs.filter(|((_, before), (_, after))| before != after);
    changed.map(|((name, before), (_, after))| format!("{name} {before} -> {after}")).collect()
}
