//! Settings from a TOML file and `key=value` pairs, over the defaults.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::explain::{in_file, in_settings, unknown};
use super::train_config::TrainConfig;
use crate::RlError;
use crate::loss::LossPreset;

impl TrainConfig {
    /// The defaults, overridden by a TOML file if one is given, then by `key=value` pairs such as
    /// `rollout.prompts=64` or `phases.0.steps=5`.
    ///
    /// # Errors
    /// If the file cannot be read, a key is unknown, or a value has the wrong type, is out of range, or contradicts another.
    pub fn load(file: Option<&Path>, pairs: &[String]) -> Result<Self, RlError> {
        let mut settings = Table::try_from(Self::default()).map_err(|error| RlError::Config(error.to_string()))?;
        let changes = file.map_or(Ok(Table::new()), read_table)?;
        // The preset's defaults are applied first, so that single settings override them wherever `loss` is set.
        let mut named = Table::new();
        named.extend(changes.get("loss").map(|name| ("loss".to_string(), name.clone())));
        for pair in pairs.iter().filter(|pair| pair.starts_with("loss=")) {
            set(&mut named, pair)?;
        }
        if let Some(name) = named.remove("loss") {
            let name: LossPreset = name.try_into().map_err(|error: toml::de::Error| in_settings(&error))?;
            merge(&mut settings, name.defaults());
        }
        merge(&mut settings, changes);
        for pair in pairs {
            set(&mut settings, pair)?;
        }
        refuse_restrictions(&settings)?;
        let config: Self = settings.try_into().map_err(|error: toml::de::Error| in_settings(&error))?;
        config.check()?;
        Ok(config)
    }

    /// These settings as TOML text, which [`Self::load`] reads back.
    ///
    /// # Errors
    /// If they cannot be represented in TOML.
    pub fn to_toml(&self) -> Result<String, RlError> {
        toml::to_string(self).map_err(|error| RlError::Config(error.to_string()))
    }
}

fn read_table(path: &Path) -> Result<Table, RlError> {
    let text = fs::read_to_string(path).map_err(RlError::io("read", path))?;
    let table = text.parse::<Table>().map_err(|error| in_file(path, &text, &error))?;
    refuse_restrictions(&table).map_err(|error| RlError::Config(format!("{}: {error}", path.display())))?;
    // Deserialized alone for an error message with line and column.
    toml::from_str::<TrainConfig>(&text).map_err(|error| in_file(path, &text, &error))?;
    Ok(table)
}

/// Restrictions of sampling are settings of other commands; in training they are refused with the reason.
fn refuse_restrictions(settings: &Table) -> Result<(), RlError> {
    let rollout = settings.get("rollout").and_then(Value::as_table);
    let restrictions = ["top_k", "top_p", "min_p", "repetition_penalty", "stop"];
    match restrictions.iter().find(|key| rollout.is_some_and(|rollout| rollout.contains_key(**key))) {
        Some(key) => Err(RlError::Config(format!(
            "rollout.{key} is not possible in training: responses would come from another distribution than the one whose \
             log-probs the loss compares, which biases its ratios; remove it (generate, eval and analyze have it as an option)"
        ))),
        None => Ok(()),
    }
}

/// Tables are merged key by key; anything else, lists included, is replaced.
fn merge(settings: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (settings.get_mut(&key), change) {
            (Some(Value::Table(inner)), Value::Table(change)) => merge(inner, change),
            (_, change) => {
                settings.insert(key, change);
            }
        }
    }
}

fn set(settings: &mut Table, pair: &str) -> Result<(), RlError> {
    let (path, text) = pair
        .split_once('=')
        .ok_or_else(|| RlError::Config(format!("`{pair}` is not key=value, such as rollout.prompts=64")))?;
    // A value that is not TOML is a bare string: site=layer:3.
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let mut place = settings;
    let mut before: Vec<&str> = Vec::new();
    let mut keys = parents.into_iter().flat_map(|parents| parents.split('.'));
    while let Some(key) = keys.next() {
        let known: Vec<String> = place.keys().cloned().collect();
        place = match place.get_mut(key) {
            Some(Value::Table(table)) => table,
            Some(Value::Array(list)) => {
                let (index, count) = (keys.next().unwrap_or(last), list.len());
                let item = index.parse::<usize>().ok().and_then(|index| list.get_mut(index));
                item.and_then(Value::as_table_mut).ok_or_else(|| {
                    let indices: Vec<String> = (0..count).map(|index| index.to_string()).collect();
                    unknown(index, &[&before[..], &[key]].concat(), &indices)
                })?
            }
            _ => return Err(unknown(key, &before, &known)),
        };
        before.push(key);
    }
    // `layer` is an alias of `site`.
    let last = if last == "layer" && path.starts_with("phases.") { "site" } else { last };
    place.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bupo_core::PolicySite;

    use super::*;
    use crate::config::KeepRollouts;
    use crate::phases::PhaseSite;

    fn load(pairs: &[&str]) -> Result<TrainConfig, String> {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        TrainConfig::load(None, &pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn pairs_set_nested_keys() -> Result<(), String> {
        let config = load(&["seed=7", "phases.0.site=layer:2", "phases.1.steps=5", "objective.clip_high=0.28"])?;
        assert_eq!(
            (config.seed, config.phases[0].site, config.phases[1].steps),
            (7, PhaseSite::At(PolicySite::Layer(2)), 5)
        );
        assert_eq!(config.objective.clip_high, 0.28);
        assert_eq!(load(&["phases.0.layer=auto"])?.phases[0].site, PhaseSite::Auto);
        assert_eq!(load(&["phases.0.layer=4"])?.phases[0].site, PhaseSite::At(PolicySite::Layer(4)));
        Ok(())
    }

    #[test]
    fn written_settings_load_unchanged() -> Result<(), Box<dyn std::error::Error>> {
        let config = load(&["algorithm=grpo", "model=some/folder"])?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        fs::write(&path, config.to_toml()?)?;
        assert_eq!(TrainConfig::load(Some(&path), &[])?, config);
        for (pair, keep) in [("all", KeepRollouts::All), ("none", KeepRollouts::None), ("7", KeepRollouts::First(7))] {
            let config = load(&[&format!("rollout.keep={pair}")])?;
            fs::write(&path, config.to_toml()?)?;
            assert_eq!(TrainConfig::load(Some(&path), &[])?.rollout.keep, keep);
        }
        Ok(())
    }

    #[test]
    fn the_commented_file_is_the_default() -> Result<(), RlError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/arithmetic.toml");
        assert_eq!(TrainConfig::load(Some(&path), &[])?, TrainConfig::default());
        Ok(())
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        for (pair, expected) in [
            ("rollout.promts=4", "there is no setting promts in [rollout]; did you mean prompts?"),
            ("nothing.at.all=4", "there is no setting nothing; there are algorithm, "),
            ("rolout.prompts=4", "there is no setting rolout; did you mean rollout?"),
            ("rollout=5", "rollout is 5; it must be a table of settings"),
            ("data.train=a.jsonl", "data.train is \"a.jsonl\"; it must be a list"),
            ("rollout.temperature=hot", "rollout.temperature is \"hot\"; it must be a number"),
            ("data.shuffle=1", "data.shuffle is 1; it must be true or false"),
            ("phases.7.steps=4", "there is no setting 7 in [phases]; there are 0, 1"),
            ("rollout.prompts=many", "rollout.prompts is \"many\"; it must be a whole number, 0 or more"),
            ("rollout.prompts=-1", "rollout.prompts is -1; it must be a whole number"),
            ("rollout.prompts=30", "does not divide"),
            ("rollout.keep=0", "it is 0"),
            ("rollout.keep=some", "it is \"some\""),
            ("rollout.keep=-1", "it must be"),
            ("rollout.group_size=0", "rollout.group_size is 0"),
            ("optimizer.learning_rate=nan", "learning_rate"),
            ("optimizer.learning_rate=1e39", "at most 1"),
            ("optimizer.beta1=1.0", "beta1"),
            ("optimizer.moments=8bits", "did you mean \"8bit\"?"),
            ("optimizer.weights=bf16", "it can be \"f32-master\" or \"stochastic\""),
            ("task.max_number=1", "task.max_number is 1"),
            ("seed=1\nfoo=2", "whole number"),
            ("phases.0.site=layer:0", "layer:0"),
            ("algorithm=ppo", "algorithm is \"ppo\"; it can be \"bupo\" or \"grpo\""),
            ("loss=grp", "did you mean \"grpo\"?"),
            ("reward.rule=nice", "nice"),
            ("rollout.top_p=0.9", "rollout.top_p is not possible in training"),
            ("rollout.stop=['a']", "biases its ratios"),
            ("rollout.overlong_share=1.0", "overlong_share"),
            ("rollout.overlong_share=0.01", "rounds to 0 tokens"),
            ("objective.dual_clip=0.5", "at least 1"),
            ("reward.truncated=drop", "drop"),
            ("update.epochs=0", "update.epochs is 0"),
            ("objective.surrogate=ppo", "surrogate"),
            ("objective.top_entropy_share=0", "above 0 and at most 1"),
            ("objective.covariance.share=1.5", "objective.covariance.share is 1.5"),
            ("objective.covariance.low=6.0", "low must be below high"),
            ("objective.sapo.positive=0.0", "objective.sapo.positive is 0"),
            ("objective.entropy_target.entropy=-1.0", "objective.entropy_target.entropy is -1"),
            ("data.drop_after=1", "data.drop_after needs data.train"),
            ("reward.trunc=zero", "trunc"),
            ("data.validation=['a.parquet']", "data.train"),
            ("seed", "key=value"),
            ("dtype=f16", "f16"),
        ] {
            let message = load(&[pair]).err().unwrap_or_default();
            assert!(message.contains(expected), "{pair}: {message}");
        }
        for (pairs, expected) in [
            (["objective.positive_weight=0.0", "objective.negative_weight=0.0"], "leaves no sample"),
            (["objective.ratio=sequence", "objective.surrogate=cispo"], "of objective.surrogate = \"clip\" alone"),
            (["objective.ratio=sequence", "objective.top_entropy_share=0.2"], "choose tokens"),
            (["objective.surrogate=gmpo", "objective.covariance.mode=kl"], "choose tokens"),
            (["objective.advantage=reinforce++", "objective.scale_rewards=batch"], "scale_rewards has no effect"),
            (["objective.reward_kl.coefficient=0.1", "reward.truncated=mask"], "log-probs of every response"),
            (["data.train=['a']", "data.drop_after=2"], ""),
            (["data.drop_after=2", "rollout.group_size=1"], "data.drop_after"),
        ] {
            let message = load(&pairs).err().unwrap_or_default();
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{pairs:?}: {message}");
        }
    }

    #[test]
    fn restrictions_of_sampling_in_a_file_are_refused_with_the_reason() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        for key in ["top_k = 5", "top_p = 0.9", "min_p = 0.1", "repetition_penalty = 1.1", "stop = [\"x\"]"] {
            fs::write(&path, format!("[rollout]\n{key}\n"))?;
            let message = TrainConfig::load(Some(&path), &[]).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains("config.toml") && message.contains("biases its ratios"), "{key}: {message}");
        }
        Ok(())
    }

    #[test]
    fn grpo_has_one_phase_with_the_steps_of_all() -> Result<(), Box<dyn std::error::Error>> {
        let schedule = load(&["algorithm=grpo", "phases.0.steps=3", "phases.1.steps=4"])?.schedule(4)?;
        assert_eq!((schedule.steps(), schedule.at(1).1.site), (7, PolicySite::Full));
        Ok(())
    }

    #[test]
    fn single_settings_override_a_loss_preset() -> Result<(), Box<dyn std::error::Error>> {
        let dapo = load(&["loss=dapo"])?;
        assert_eq!((dapo.objective.clip_high, dapo.rollout.max_draws > 1), (0.28, true));
        // In either order.
        for pairs in [["loss=dapo", "objective.clip_high=0.3"], ["objective.clip_high=0.3", "loss=dapo"]] {
            let config = load(&pairs)?;
            assert_eq!((config.objective.clip_high, config.rollout.max_draws), (0.3, dapo.rollout.max_draws));
        }
        assert_eq!(dapo.rollout.overlong_penalty, 0.5);
        let high_entropy = load(&["loss=high-entropy"])?;
        assert_eq!((high_entropy.objective.clip_high, high_entropy.objective.top_entropy_share), (0.28, 0.2));
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        fs::write(&path, "loss = \"gspo\"\n[objective]\nclip_low = 0.1\n")?;
        let gspo = TrainConfig::load(Some(&path), &[])?;
        assert_eq!((gspo.objective.clip_low, gspo.objective.clip_high), (0.1, 4e-4));
        // The loss of a pair overrides that of the file.
        let changed = TrainConfig::load(Some(&path), &["loss=grpo".into()])?;
        assert_eq!((changed.objective.clip_low, changed.objective.clip_high), (0.1, 0.2));
        Ok(())
    }

    #[test]
    fn a_layer_outside_the_model_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let error = load(&["phases.0.site=layer:9"])?.schedule(6).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("policy site `layer:9` is outside the model, which has layers 1 to 6"));
        Ok(())
    }
}
