//! All settings of a run, with the defaults of the embedded task.

use bupo_core::PolicySite;
use bupo_grade::Rewards;
use bupo_models::{DtypeChoice, SaveDtype};
use serde::{Deserialize, Serialize};

use super::sections::{
    CheckpointConfig, DataConfig, EvaluationConfig, GuardConfig, ProbeConfig, RolloutConfig, TaskConfig, UpdateConfig,
};
use crate::RlError;
use crate::loss::{LossPreset, Objective};
use crate::phases::{PhaseConfig, PhaseSite, Schedule};
use crate::update::{AdamWSettings, LearningRateSchedule};

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
    pub loss: LossPreset,
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

impl Default for TrainConfig {
    fn default() -> Self {
        let phase = |site, steps| PhaseConfig { site: PhaseSite::At(site), steps, norm: Default::default() };
        Self {
            seed: 0,
            algorithm: Algorithm::Bupo,
            loss: LossPreset::Grpo,
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

impl TrainConfig {
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
}
