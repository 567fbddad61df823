//! Settings of a training run: TOML in, every value checked before work starts.

use std::fs;
use std::path::{Path, PathBuf};

use bupo_core::PolicySite;
use bupo_grade::Rewards;
use bupo_models::{DtypeChoice, SaveDtype};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::RlError;
use crate::learning_rate::LearningRateSchedule;
use crate::loss::LossName;
use crate::objective::Objective;
use crate::optimizer::AdamWSettings;
use crate::phase_guard::PhaseGuardMode;
use crate::questions::{ChatChoice, Overlong};
use crate::schedule::{PhaseConfig, PhaseSite, Schedule};
use crate::task::Arithmetic;

/// Which algorithm the phases are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Bottom-up Policy Optimization: the phases as they stand.
    Bupo,
    /// GRPO: one phase on the full policy, of as many steps as all phases together.
    Grpo,
}

/// All settings of a run. Every field has a default; `bupo train` without a file uses them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seeds everything random. The same seed gives the same run.
    pub seed: u64,
    /// BuPO, or GRPO on the same number of steps.
    pub algorithm: Algorithm,
    /// What every phase minimises: sets the defaults of `[objective]` and of `[rollout]`'s sampling rules.
    pub loss: LossName,
    /// A model folder or a Hub id, `org/name` or `org/name@revision`; nothing for the model inside the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the layers compute in: f32, bf16, or auto, which is recorded as what it came to. Parameters, moments and all that is
    /// summed are f32.
    pub dtype: DtypeChoice,
    /// The dtype the trained model is saved in; nothing for the one it was loaded from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_dtype: Option<SaveDtype>,
    /// Which policy is trained for how many steps, in order.
    pub phases: Vec<PhaseConfig>,
    /// The embedded problems, where no files are named.
    pub task: TaskConfig,
    /// Problems from files.
    pub data: DataConfig,
    /// What answers to those are worth.
    pub reward: Rewards,
    /// How responses are made.
    pub rollout: RolloutConfig,
    /// How they change the model.
    pub update: UpdateConfig,
    /// The loss.
    pub objective: Objective,
    /// AdamW.
    pub optimizer: AdamWSettings,
    /// How its step size changes from step to step.
    pub learning_rate_schedule: LearningRateSchedule,
    /// How the model is measured before, after and in between.
    pub evaluation: EvaluationConfig,
    /// What is kept to go on from.
    pub checkpoint: CheckpointConfig,
    /// What a run that goes wrong is kept from.
    pub guard: GuardConfig,
    /// How its internal policies are watched in between.
    pub probe: ProbeConfig,
}

/// The embedded arithmetic task's sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// The most numbers in a problem, from 2.
    pub max_terms: usize,
    /// The largest number in a problem.
    pub max_number: u32,
}

/// Problems from Parquet and JSON lines. Without training files, the embedded arithmetic problems are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Training files.
    pub train: Vec<PathBuf>,
    /// Files to measure on; without any, `evaluation.problems` rows of the training files are set apart.
    pub validation: Vec<PathBuf>,
    /// The column of prompts, chat messages or text; nothing for the well-known names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_column: Option<String>,
    /// The column of right answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_column: Option<String>,
    /// The column that says where a row comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// Prompts of more tokens are over-long.
    pub max_prompt_tokens: usize,
    /// What becomes of over-long prompts.
    pub overlong: Overlong,
    /// Whether rows are put in a new order each epoch; rows that do not fill a step at its end are left out.
    pub shuffle: bool,
    /// Which chat template makes prompts.
    pub chat_template: ChatChoice,
    /// What chat templates know as `enable_thinking`; nothing for the template's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<bool>,
}

/// How responses are made, from the full policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutConfig {
    /// Prompts per step.
    pub prompts: usize,
    /// Responses per prompt, G.
    pub group_size: usize,
    /// Divides the logits, here and in the loss.
    pub temperature: f64,
    /// The longest response, in tokens.
    pub max_new_tokens: usize,
    /// Responses generated at once; it changes memory and speed, not the responses.
    pub batch: usize,
    /// Dynamic sampling (DAPO, arXiv 2503.14476): groups whose rewards are all equal are left out and further prompts
    /// are drawn, this many times the prompts per step at most; 1 leaves it off.
    pub max_draws: usize,
    /// Over-long reward shaping (DAPO): within this last share of `max_new_tokens` a response's reward falls linearly
    /// with its length, by `overlong_penalty` at the limit; 0 leaves it off.
    pub overlong_share: f64,
    /// What a response of `max_new_tokens` loses by it.
    pub overlong_penalty: f64,
}

/// How a step's responses change the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Prompts per update, with all their responses; it divides the prompts per step.
    pub mini_batch_prompts: usize,
    /// Tokens run at once, padding included; it changes memory and speed, not the update. A longer sequence is run alone.
    pub max_tokens_per_batch: usize,
    /// Whether layers are run again on the way back rather than remembered: a third more work, a fraction of the memory.
    pub recompute: bool,
}

/// What is kept to go on from: weights, moments and all that a run needs to be the same run afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// A checkpoint after every one of this many steps, and after the last; 0 after the last alone.
    pub every: usize,
    /// How many of the newest are kept, at least 1.
    pub keep_last: usize,
    /// Those of every one of this many steps are kept too; 0 none.
    pub keep_every: usize,
}

/// What a run that goes wrong is kept from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Updates in a row that may be left out because a loss or a gradient was not finite.
    pub max_skipped: usize,
    /// What happens when a phase that trains an internal policy starts to hurt the full one.
    pub phase_guard: PhaseGuardMode,
}

/// How the model is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Held-out problems.
    pub problems: usize,
    /// Responses per problem, K of Avg@K and Pass@K.
    pub samples: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// Measured after every one of this many steps too; 0 before and after alone.
    pub every: usize,
    /// The run ends early after this many of these evaluations in a row without a better Avg@K; 0 never.
    pub patience: usize,
}

/// How the internal policies are watched while training: on the responses of the first evaluation, the same ones every time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Before the first step and after every one of this many; 0 never.
    pub every: usize,
    /// On one response to each of this many held-out problems.
    pub prompts: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let phase = |site, steps| PhaseConfig { site: PhaseSite::At(site), steps, norm: Default::default() };
        Self {
            seed: 0,
            algorithm: Algorithm::Bupo,
            loss: LossName::Grpo,
            model: None,
            dtype: DtypeChoice::Auto,
            save_dtype: None,
            phases: vec![phase(PolicySite::Layer(3), 10), phase(PolicySite::Full, 70)],
            task: TaskConfig::default(),
            data: DataConfig::default(),
            reward: Rewards::default(),
            rollout: RolloutConfig::default(),
            update: UpdateConfig::default(),
            objective: Objective::default(),
            // The paper's 1e-6 is for billions of parameters.
            optimizer: AdamWSettings { learning_rate: 1e-4, ..AdamWSettings::default() },
            learning_rate_schedule: LearningRateSchedule::default(),
            evaluation: EvaluationConfig::default(),
            checkpoint: CheckpointConfig::default(),
            guard: GuardConfig::default(),
            probe: ProbeConfig::default(),
        }
    }
}

impl Default for TaskConfig {
    fn default() -> Self {
        let Arithmetic { max_terms, max_number } = Arithmetic::default();
        Self { max_terms, max_number }
    }
}

impl TaskConfig {
    /// The task of these sizes.
    pub fn task(&self) -> Arithmetic {
        Arithmetic { max_terms: self.max_terms, max_number: self.max_number }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            prompt_column: None,
            answer_column: None,
            source_column: None,
            max_prompt_tokens: 1024,
            overlong: Overlong::Drop,
            shuffle: true,
            chat_template: ChatChoice::Auto,
            thinking: None,
        }
    }
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            prompts: 32,
            group_size: 8,
            temperature: 1.0,
            max_new_tokens: 32,
            batch: 2048,
            max_draws: 1,
            overlong_share: 0.0,
            overlong_penalty: 1.0,
        }
    }
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self { mini_batch_prompts: 16, max_tokens_per_batch: 4096, recompute: false }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 20, keep_last: 2, keep_every: 0 }
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { max_skipped: 3, phase_guard: PhaseGuardMode::Warn }
    }
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { problems: 200, samples: 8, temperature: 1.0, every: 0, patience: 0 }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { every: 10, prompts: 16 }
    }
}

impl TrainConfig {
    /// The defaults, changed by a TOML file if one is given, then by `key=value` pairs such as
    /// `rollout.prompts=64` or `phases.0.steps=5`.
    ///
    /// # Errors
    /// If the file cannot be read, a key is unknown, or a value is of another kind or does not fit the others.
    pub fn load(file: Option<&Path>, pairs: &[String]) -> Result<Self, RlError> {
        let mut settings = Table::try_from(Self::default()).map_err(|error| RlError::Config(error.to_string()))?;
        let changes = file.map_or(Ok(Table::new()), read_table)?;
        // The loss's own defaults come before everything said of single settings, wherever it is named.
        let mut named = Table::new();
        named.extend(changes.get("loss").map(|name| ("loss".to_string(), name.clone())));
        for pair in pairs.iter().filter(|pair| pair.starts_with("loss=")) {
            set(&mut named, pair)?;
        }
        if let Some(name) = named.remove("loss") {
            let name: LossName = name.try_into().map_err(|error: toml::de::Error| RlError::Config(one_line(&error)))?;
            merge(&mut settings, name.defaults());
        }
        merge(&mut settings, changes);
        for pair in pairs {
            set(&mut settings, pair)?;
        }
        let config: Self = settings.try_into().map_err(|error: toml::de::Error| RlError::Config(one_line(&error)))?;
        config.check()?;
        Ok(config)
    }

    /// The text of a file that loads as these settings.
    ///
    /// # Errors
    /// If they cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, RlError> {
        toml::to_string(self).map_err(|error| RlError::Config(error.to_string()))
    }

    /// The phases as the algorithm reads them, for a model of `num_layers` layers.
    ///
    /// # Errors
    /// If a site is outside the model, or there are no steps.
    pub fn schedule(&self, num_layers: usize) -> Result<Schedule, RlError> {
        let phases = match self.algorithm {
            Algorithm::Bupo => self.phases.clone(),
            Algorithm::Grpo => {
                let steps = self.phases.iter().map(|phase| phase.steps).sum();
                vec![PhaseConfig { site: PhaseSite::At(PolicySite::Full), steps, norm: Default::default() }]
            }
        };
        Schedule::new(&phases, num_layers)
    }

    fn check(&self) -> Result<(), RlError> {
        let counts = [
            ("rollout.prompts", self.rollout.prompts),
            ("rollout.group_size", self.rollout.group_size),
            ("rollout.max_new_tokens", self.rollout.max_new_tokens),
            ("rollout.batch", self.rollout.batch),
            ("rollout.max_draws", self.rollout.max_draws),
            ("data.max_prompt_tokens", self.data.max_prompt_tokens),
            ("update.mini_batch_prompts", self.update.mini_batch_prompts),
            ("update.max_tokens_per_batch", self.update.max_tokens_per_batch),
            ("evaluation.problems", self.evaluation.problems),
            ("evaluation.samples", self.evaluation.samples),
            ("probe.prompts", self.probe.prompts),
            ("checkpoint.keep_last", self.checkpoint.keep_last),
            ("guard.max_skipped", self.guard.max_skipped),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(RlError::Config(format!("{name} is 0; it must be at least 1")));
        }
        let numbers = [
            ("rollout.temperature", self.rollout.temperature),
            ("evaluation.temperature", self.evaluation.temperature),
            ("optimizer.learning_rate", self.optimizer.learning_rate),
            ("optimizer.max_grad_norm", self.optimizer.max_grad_norm),
            ("optimizer.epsilon", self.optimizer.epsilon),
        ];
        if let Some((name, value)) = numbers.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(RlError::Config(format!("{name} is {value}; it must be a positive number")));
        }
        for (name, beta) in [("optimizer.beta1", self.optimizer.beta1), ("optimizer.beta2", self.optimizer.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(RlError::Config(format!("{name} is {beta}; it must be at least 0 and below 1")));
            }
        }
        let at_least_zero = [
            ("optimizer.weight_decay", self.optimizer.weight_decay),
            ("objective.clip_low", self.objective.clip_low),
            ("objective.clip_high", self.objective.clip_high),
            ("objective.dual_clip", self.objective.dual_clip),
            ("objective.kl_coefficient", self.objective.kl_coefficient),
            ("objective.entropy_coefficient", self.objective.entropy_coefficient),
            ("rollout.overlong_penalty", self.rollout.overlong_penalty),
        ];
        if let Some((name, value)) = at_least_zero.iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            return Err(RlError::Config(format!("{name} is {value}; it must be 0 or more")));
        }
        // With numbers of 1 alone there are so few problems that none is held out.
        for (name, value) in
            [("task.max_terms", self.task.max_terms), ("task.max_number", self.task.max_number as usize)]
        {
            if value < 2 {
                return Err(RlError::Config(format!("{name} is {value}; it must be at least 2")));
            }
        }
        if !(0.0..1.0).contains(&self.rollout.overlong_share) {
            let share = self.rollout.overlong_share;
            return Err(RlError::Config(format!(
                "rollout.overlong_share is {share}; it must be at least 0 and below 1"
            )));
        }
        self.reward.check()?;
        if self.data.train.is_empty() && !self.data.validation.is_empty() {
            return Err(RlError::Config("data.validation names files but data.train does not; name both".into()));
        }
        let share = self.learning_rate_schedule.final_share;
        if !(0.0..=1.0).contains(&share) {
            return Err(RlError::Config(format!(
                "learning_rate_schedule.final_share is {share}; it must be between 0 and 1"
            )));
        }
        if self.evaluation.patience > 0 && self.evaluation.every == 0 {
            return Err(RlError::Config("evaluation.patience needs evaluation.every; give both".into()));
        }
        if self.optimizer.learning_rate > 1.0 {
            let rate = self.optimizer.learning_rate;
            return Err(RlError::Config(format!("optimizer.learning_rate is {rate}; it must be at most 1")));
        }
        if !self.rollout.prompts.is_multiple_of(self.update.mini_batch_prompts) {
            return Err(RlError::Config(format!(
                "update.mini_batch_prompts {} does not divide rollout.prompts {}",
                self.update.mini_batch_prompts, self.rollout.prompts
            )));
        }
        Ok(())
    }
}

fn read_table(path: &Path) -> Result<Table, RlError> {
    let text = fs::read_to_string(path).map_err(RlError::io("read", path))?;
    let table = text.parse::<Table>().map_err(|error| in_file(path, &error))?;
    // Alone, for the parser's own message with line and column.
    toml::from_str::<TrainConfig>(&text).map_err(|error| in_file(path, &error))?;
    Ok(table)
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
    // What does not read as TOML is a bare string: site=layer:3.
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let unknown = || RlError::Config(format!("there is no setting `{path}`"));
    let mut place = settings;
    let mut keys = parents.into_iter().flat_map(|parents| parents.split('.')).peekable();
    while let Some(key) = keys.next() {
        place = match place.get_mut(key) {
            Some(Value::Table(table)) => table,
            Some(Value::Array(list)) => {
                let item = keys.next().and_then(|index| index.parse::<usize>().ok()).and_then(|i| list.get_mut(i));
                item.and_then(Value::as_table_mut).ok_or_else(unknown)?
            }
            _ => return Err(unknown()),
        };
    }
    // The other name of a phase's site.
    let last = if last == "layer" && path.starts_with("phases.") { "site" } else { last };
    place.insert(last.to_string(), value);
    Ok(())
}

fn in_file(path: &Path, error: &toml::de::Error) -> RlError {
    RlError::Config(format!("{}: {}", path.display(), one_line(error)))
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[&str]) -> Result<TrainConfig, String> {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        TrainConfig::load(None, &pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn pairs_reach_every_place() -> Result<(), String> {
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
    fn what_is_written_loads_the_same() -> Result<(), Box<dyn std::error::Error>> {
        let config = load(&["algorithm=grpo", "model=some/folder"])?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        fs::write(&path, config.to_toml()?)?;
        assert_eq!(TrainConfig::load(Some(&path), &[])?, config);
        Ok(())
    }

    #[test]
    fn the_commented_file_is_the_default() -> Result<(), RlError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/arithmetic.toml");
        assert_eq!(TrainConfig::load(Some(&path), &[])?, TrainConfig::default());
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (pair, expected) in [
            ("rollout.promts=4", "promts"),
            ("nothing.at.all=4", "nothing.at.all"),
            ("phases.7.steps=4", "phases.7.steps"),
            ("rollout.prompts=many", "invalid type"),
            ("rollout.prompts=-1", "invalid value"),
            ("rollout.prompts=30", "does not divide"),
            ("rollout.group_size=0", "rollout.group_size is 0"),
            ("optimizer.learning_rate=nan", "learning_rate"),
            ("optimizer.learning_rate=1e39", "at most 1"),
            ("optimizer.beta1=1.0", "beta1"),
            ("task.max_number=1", "task.max_number is 1"),
            ("seed=1\nfoo=2", "invalid type"),
            ("phases.0.site=layer:0", "layer:0"),
            ("algorithm=ppo", "ppo"),
            ("loss=ppo", "ppo"),
            ("reward.rule=nice", "nice"),
            ("rollout.overlong_share=1.0", "overlong_share"),
            ("data.validation=['a.parquet']", "data.train"),
            ("seed", "key=value"),
            ("dtype=f16", "f16"),
        ] {
            let message = load(&[pair]).err().unwrap_or_default();
            assert!(message.contains(expected), "{pair}: {message}");
        }
    }

    #[test]
    fn grpo_has_one_phase_of_as_many_steps() -> Result<(), Box<dyn std::error::Error>> {
        let schedule = load(&["algorithm=grpo", "phases.0.steps=3", "phases.1.steps=4"])?.schedule(4)?;
        assert_eq!((schedule.steps(), schedule.at(1).1.site), (7, PolicySite::Full));
        Ok(())
    }

    #[test]
    fn a_loss_sets_defaults_that_single_settings_change() -> Result<(), Box<dyn std::error::Error>> {
        let dapo = load(&["loss=dapo"])?;
        assert_eq!((dapo.objective.clip_high, dapo.rollout.max_draws > 1), (0.28, true));
        // Whichever comes first.
        for pairs in [["loss=dapo", "objective.clip_high=0.3"], ["objective.clip_high=0.3", "loss=dapo"]] {
            let config = load(&pairs)?;
            assert_eq!((config.objective.clip_high, config.rollout.max_draws), (0.3, dapo.rollout.max_draws));
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        fs::write(&path, "loss = \"gspo\"\n[objective]\nclip_low = 0.1\n")?;
        let gspo = TrainConfig::load(Some(&path), &[])?;
        assert_eq!((gspo.objective.clip_low, gspo.objective.clip_high), (0.1, 4e-4));
        // A pair's loss wins over the file's.
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
