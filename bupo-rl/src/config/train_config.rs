//! All settings of a run. The defaults are for the embedded arithmetic task.

use std::path::PathBuf;

use bupo_core::PolicySite;
use bupo_eval::PromptOptions;
use bupo_grade::Rule;
use bupo_models::{AdapterConfig, DtypeChoice, SaveDtype};
use serde::{Deserialize, Serialize};

use super::critic::CriticConfig;
use super::generated_task::TaskConfig;
use super::sections::{
    CheckpointConfig, DataConfig, DistributedConfig, EvaluationConfig, GuardConfig, ProbeConfig, RewardConfig,
    RolloutConfig, TruncatedReward, UpdateConfig,
};
use super::trained::TrainSection;
use crate::RlError;
use crate::loss::{LossPreset, Objective};
use crate::phases::{PhaseConfig, PhaseSite, Schedule, written_out};
use crate::update::{AdamWSettings, LearningRateSchedule};

/// How the phases are interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Bottom-up Policy Optimization: the phases as given.
    Bupo,
    /// GRPO: a single phase on the full policy with the steps of all phases together.
    Grpo,
}

/// All settings of a run. Every field has a default; `bupo train` without a file uses them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The seed of all random numbers.
    pub seed: u64,
    /// BuPO, or GRPO with the same number of steps.
    pub algorithm: Algorithm,
    /// The loss preset of every phase: sets the defaults of `[objective]` and of some of `[rollout]`.
    pub loss: LossPreset,
    /// A model folder or a Hub id, `org/name` or `org/name@revision`; `None` for the embedded model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// An adapter folder in PEFT's layout. With `[lora]`, training starts from it; without, it is merged into the model first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// The tuned lens of phases with norm "tuned", as `bupo tune-lens` writes it; `None` for the one in the model's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned_lens: Option<PathBuf>,
    /// The dtype in which layers compute: f32, bf16, or auto, which is recorded as the dtype it resolved to. Parameters and
    /// moments are f32 unless `optimizer` says otherwise, sums always.
    pub dtype: DtypeChoice,
    /// The dtype of the saved model; `None` for the dtype it was loaded from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_dtype: Option<SaveDtype>,
    /// The phases in order: which policy is trained for how many steps. A range of layers is written out when it is read.
    #[serde(deserialize_with = "written_out")]
    pub phases: Vec<PhaseConfig>,
    /// The embedded task, used if `data.train` names no files.
    pub task: TaskConfig,
    /// Problems from files.
    pub data: DataConfig,
    /// The reward rule of problems from files, and how truncated responses are treated.
    pub reward: RewardConfig,
    /// Sampling of responses.
    pub rollout: RolloutConfig,
    /// Mini-batches and micro-batches.
    pub update: UpdateConfig,
    /// The loss.
    pub objective: Objective,
    /// The critic of `objective.advantage = "gae"`.
    pub critic: CriticConfig,
    /// AdamW.
    pub optimizer: AdamWSettings,
    /// Warm-up and decay of the learning rate.
    pub learning_rate_schedule: LearningRateSchedule,
    /// Evaluation before, during and after training.
    pub evaluation: EvaluationConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Skipped updates and the phase guard.
    pub guard: GuardConfig,
    /// Measurements of the internal policies during training.
    pub probe: ProbeConfig,
    /// Training by several processes.
    pub distributed: DistributedConfig,
    /// The adapter that is trained in place of the model's own parameters (LoRA), if its rank is above 0.
    pub lora: AdapterConfig,
    /// Which of the model's own parameters are trained.
    pub train: TrainSection,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let phase = |site, steps| PhaseConfig::of_site(PhaseSite::At(site), steps);
        Self {
            seed: 0,
            algorithm: Algorithm::Bupo,
            loss: LossPreset::Grpo,
            model: None,
            adapter: None,
            tuned_lens: None,
            dtype: DtypeChoice::Auto,
            save_dtype: None,
            phases: vec![phase(PolicySite::Layer(3), 10), phase(PolicySite::Full, 70)],
            task: TaskConfig::default(),
            data: DataConfig::default(),
            reward: RewardConfig::default(),
            rollout: RolloutConfig::default(),
            update: UpdateConfig::default(),
            objective: Objective::default(),
            critic: CriticConfig::default(),
            // The paper's 1e-6 suits models of billions of parameters.
            optimizer: AdamWSettings { learning_rate: 1e-4, ..AdamWSettings::default() },
            learning_rate_schedule: LearningRateSchedule::default(),
            evaluation: EvaluationConfig::default(),
            checkpoint: CheckpointConfig::default(),
            guard: GuardConfig::default(),
            probe: ProbeConfig::default(),
            distributed: DistributedConfig::default(),
            lora: AdapterConfig::default(),
            train: TrainSection::default(),
        }
    }
}

impl TrainConfig {
    /// How truncated responses are treated.
    pub fn truncated_reward(&self) -> TruncatedReward {
        let default = if self.data.is_embedded_task() { TruncatedReward::Zero } else { TruncatedReward::Grade };
        self.reward.truncated.unwrap_or(default)
    }

    /// How rows become prompts. Scorers get reference answers as they are.
    pub fn prompt_options(&self) -> PromptOptions {
        let has_scorer = self.reward.rules().iter().any(|rule| matches!(rule, Rule::Command(_)));
        PromptOptions { extract_answers: self.data.extract_answers && !has_scorer, ..self.data.prompt_options() }
    }

    /// The name of the folder in a run's that the result is saved in: a whole model, or an adapter.
    pub fn result(&self) -> &'static str {
        if self.lora.is_on() { "adapter" } else { "model" }
    }

    /// The phases as `algorithm` interprets them, for a model of `num_layers` layers.
    ///
    /// # Errors
    /// If a site is outside the model, or there are no steps.
    pub fn schedule(&self, num_layers: usize) -> Result<Schedule, RlError> {
        let phases = match self.algorithm {
            Algorithm::Bupo => self.phases.clone(),
            Algorithm::Grpo => {
                let steps = self.phases.iter().map(|phase| phase.steps).sum();
                vec![PhaseConfig::of_site(PhaseSite::At(PolicySite::Full), steps)]
            }
        };
        Schedule::new(&phases, num_layers)
    }
}
