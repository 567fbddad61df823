//! The settings that may change when a run is resumed.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::train_config::TrainConfig;
use crate::RlError;

/// Settings that may change when a run is resumed; `*` stands for a phase's index. The last ones change memory use, speed and
/// where servers are, and results only by rounding.
pub const MAY_CHANGE: [&str; 23] = [
    "save_dtype",
    "phases.*.steps",
    "optimizer.learning_rate",
    "learning_rate_schedule.warmup_steps",
    "learning_rate_schedule.decay",
    "learning_rate_schedule.final_share",
    "evaluation.every",
    "evaluation.patience",
    "checkpoint.every",
    "checkpoint.keep_last",
    "checkpoint.keep_every",
    "guard.phase_guard",
    "rollout.keep",
    "rollout.batch",
    "update.max_tokens_per_batch",
    "update.recompute",
    "rollout.urls",
    "rollout.weights_dir",
    "rollout.timeout",
    "rollout.concurrency",
    "rollout.max_logp_difference",
    "distributed.shard",
    "distributed.timeout",
];

/// The settings of a run to resume: those in its folder, changed by `key=value` pairs.
///
/// # Errors
/// If its settings cannot be read, or a pair changes a setting that is not in [`MAY_CHANGE`].
pub fn resumed_config(run: &Path, pairs: &[String]) -> Result<TrainConfig, RlError> {
    let file = run.join("config.toml");
    let (old, new) = (TrainConfig::load(Some(&file), &[])?, TrainConfig::load(Some(&file), pairs)?);
    let flat = |config: &TrainConfig| -> Result<BTreeMap<String, String>, RlError> {
        let mut all = BTreeMap::new();
        let table = config.to_toml()?.parse::<Table>().map_err(|error| RlError::Config(error.to_string()))?;
        flatten("", &Value::Table(table), &mut all);
        Ok(all)
    };
    let (old, new_flat) = (flat(&old)?, flat(&new)?);
    let changed = old.keys().chain(new_flat.keys()).filter(|key| old.get(*key) != new_flat.get(*key));
    for key in changed {
        if !MAY_CHANGE.iter().any(|allowed| matches(allowed, key)) {
            return Err(RlError::Config(format!(
                "{key} cannot change when a run is resumed, only {}; start a new run from its checkpoint with --fork",
                MAY_CHANGE.join(", ")
            )));
        }
    }
    Ok(new)
}

/// Collects settings under their dotted names.
pub(crate) fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&below(key), value, all)),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            list.iter().enumerate().for_each(|(index, value)| flatten(&below(&index.to_string()), value, all));
        }
        other => {
            all.insert(path.to_string(), other.to_string());
        }
    }
}

fn matches(allowed: &str, key: &str) -> bool {
    let (allowed, key): (Vec<&str>, Vec<&str>) = (allowed.split('.').collect(), key.split('.').collect());
    allowed.len() == key.len() && allowed.iter().zip(key).all(|(allowed, part)| *allowed == "*" || *allowed == part)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::KeepRollouts;

    #[test]
    fn only_listed_settings_may_change() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("config.toml"), TrainConfig::default().to_toml()?)?;
        let with = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
            resumed_config(folder.path(), &pairs).map_err(|error| error.to_string())
        };
        let config =
            with(&["phases.1.steps=99", "optimizer.learning_rate=1e-5", "checkpoint.every=7", "rollout.keep=3"])?;
        assert_eq!((config.phases[1].steps, config.checkpoint.every), (99, 7));
        assert_eq!(config.rollout.keep, KeepRollouts::First(3));
        for pair in ["seed=1", "phases.0.site=layer:2", "rollout.prompts=16", "model=other", "optimizer.beta1=0.8"] {
            let error = with(&[pair]).err().unwrap_or_default();
            let key = pair.split('=').next().unwrap_or_default();
            assert!(error.contains(key) && error.contains("--fork"), "{pair}: {error}");
        }
        Ok(())
    }
}
