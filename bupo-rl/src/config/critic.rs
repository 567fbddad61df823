//! `[critic]`: the values of `objective.advantage = "gae"`, and its checks.

use bupo_core::PolicySite;
use bupo_models::ModelConfig;
use serde::{Deserialize, Serialize};

use super::train_config::TrainConfig;
use crate::RlError;
use crate::loss::Advantage;

/// The weight of the value loss where it is not set: TRL's `vf_coef`.
const VALUE_COEFFICIENT: f64 = 0.1;

/// The critic: a linear map with a bias from the states of a layer of the model that is trained, after the final norm, to the value of
/// each response token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticConfig {
    /// `full`, the states of the full policy, or `layer:N`, the stream after a layer.
    pub site: PolicySite,
    /// The constant learning rate of the critic's AdamW; its other settings are those of `[optimizer]`.
    pub learning_rate: f64,
    /// The discount of rewards to come.
    pub gamma: f64,
    /// The lambda of generalised advantage estimation.
    pub gae_lambda: f64,
    /// The distance from the values before the step at which values are clipped in the loss (`cliprange_value` of TRL and verl); 0: not
    /// clipped.
    pub clip_value: f64,
    /// The first steps of a run in which the critic alone is trained.
    pub warmup_steps: usize,
    /// Whether the model is a constant in the value loss. Otherwise the loss is added to that of the policy.
    pub detached: bool,
    /// The weight of the value loss in the model's; `None` for 0.1. Only with `detached = false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_coefficient: Option<f64>,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self {
            site: PolicySite::Full,
            learning_rate: 1e-3,
            gamma: 1.0,
            gae_lambda: 1.0,
            clip_value: 0.5,
            warmup_steps: 0,
            detached: true,
            value_coefficient: None,
        }
    }
}

impl CriticConfig {
    /// The weight of the value loss in the model's loss; `None` if the model is a constant in it.
    pub(crate) fn model_weight(&self) -> Option<f64> {
        (!self.detached).then(|| self.value_coefficient.unwrap_or(VALUE_COEFFICIENT))
    }
}

impl TrainConfig {
    /// Whether there is a critic.
    pub fn has_critic(&self) -> bool {
        self.objective.advantage == Advantage::Gae
    }

    /// Whether a step, from 1, trains the critic alone.
    pub(crate) fn is_critic_warmup(&self, step: usize) -> bool {
        self.has_critic() && step <= self.critic.warmup_steps
    }

    /// Checks `[critic]` by itself and against the other settings.
    pub(super) fn check_critic(&self) -> Result<(), RlError> {
        let error = |text: String| Err(RlError::Config(text));
        let critic = &self.critic;
        if !self.has_critic() {
            if *critic == CriticConfig::default() {
                return Ok(());
            }
            return error(
                "[critic] has no effect on this objective.advantage; set loss = \"ppo\" (objective.advantage = \"gae\"), or remove it".into(),
            );
        }
        if !(critic.learning_rate > 0.0 && critic.learning_rate <= 1.0) {
            return error(format!(
                "critic.learning_rate is {}; it must be above 0 and at most 1",
                critic.learning_rate
            ));
        }
        for (name, value) in [("critic.gamma", critic.gamma), ("critic.gae_lambda", critic.gae_lambda)] {
            if !(0.0..=1.0).contains(&value) {
                return error(format!("{name} is {value}; it must be between 0 and 1"));
            }
        }
        if !(critic.clip_value.is_finite() && critic.clip_value >= 0.0) {
            return error(format!(
                "critic.clip_value is {}; it must be above 0, or 0 to disable it",
                critic.clip_value
            ));
        }
        if let Some(value) = critic.value_coefficient {
            if critic.detached {
                return error(
                    "critic.value_coefficient has no effect with critic.detached = true, where the value loss trains the value head alone; \
                     set detached = false, or remove it"
                        .into(),
                );
            }
            if !(value.is_finite() && value > 0.0) {
                return error(format!("critic.value_coefficient is {value}; it must be a positive number"));
            }
        }
        if !matches!(critic.site, PolicySite::Full | PolicySite::Layer(_)) {
            return error(format!("critic.site is {}; it must be full or layer:N", critic.site));
        }
        let steps = self.phases.iter().map(|phase| phase.steps).sum::<usize>();
        if steps > 0 && critic.warmup_steps >= steps {
            return error(format!(
                "critic.warmup_steps is {} and the phases have {steps} steps, which leaves none that trains the policy; lower it, or raise \
                 phases.*.steps",
                critic.warmup_steps
            ));
        }
        self.check_token_advantages()
    }

    /// Checks that nothing takes one advantage for a whole response.
    fn check_token_advantages(&self) -> Result<(), RlError> {
        let of_responses = [
            (
                self.objective.is_of_response(),
                "objective.ratio = \"sequence\" and surrogate = \"gmpo\" are of whole responses",
            ),
            (self.objective.covariance.is_on(), "objective.covariance takes one advantage per response"),
            (
                self.phases.iter().any(|phase| phase.without_prompt),
                "phases.*.without_prompt has no states of the prompt for the critic",
            ),
        ];
        match of_responses.iter().find(|(is_set, _)| *is_set) {
            Some((_, what)) => Err(RlError::Config(format!(
                "{what}, but objective.advantage = \"gae\" has one for each token of a response to its prompt; set one of the two back"
            ))),
            None => Ok(()),
        }
    }

    /// Checks the critic against a model: its layer is in it, and the gradient of its loss, if it has one in the model, ends in layers
    /// that every phase trains.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn check_critic_in(&self, model: &ModelConfig) -> Result<(), RlError> {
        if !self.has_critic() {
            return Ok(());
        }
        let layers = model.num_hidden_layers;
        let (site, own) = (self.critic.site, self.critic.site.depth(layers)?);
        if self.critic.detached {
            return Ok(());
        }
        let error =
            |text: String| Err(RlError::Config(format!("critic.detached is false and critic.site {site}, {text}")));
        let schedule = self.schedule(layers)?;
        for (index, (phase, auto)) in schedule.phases().iter().zip(schedule.auto()).enumerate() {
            if phase.steps == 0 {
                continue;
            }
            let number = index + 1;
            if *auto {
                return error(format!(
                    "but phase {number} has layer = \"auto\", which may be below it; give its layer, or set detached = true"
                ));
            }
            let depth = phase.site.depth(layers)?;
            let is_part = matches!(phase.site, PolicySite::Attn(_) | PolicySite::Ffn(_));
            if own > depth || (own == depth && is_part) {
                return error(format!(
                    "above {} of phase {number}, where layers above its policy are not trained; give a lower site, or set detached = true",
                    phase.site
                ));
            }
            let (_, lowest) = self.trained_params(model, depth, phase.has_final_norm());
            if own < lowest {
                return error(format!(
                    "which depends on no layer that is trained: the lowest is {lowest}; give a higher site, or set detached = true"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[&str]) -> Result<TrainConfig, String> {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        TrainConfig::load(None, &pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn the_preset_has_a_critic_and_its_settings_are_read_back() -> Result<(), Box<dyn std::error::Error>> {
        assert!(!load(&[])?.has_critic());
        let config =
            load(&["loss=ppo", "critic.site=layer:2", "critic.detached=false", "critic.value_coefficient=0.5"])?;
        assert!(config.has_critic() && config.critic.model_weight() == Some(0.5));
        assert_eq!(load(&["loss=ppo", "critic.detached=false"])?.critic.model_weight(), Some(0.1));
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()?)?;
        assert_eq!(TrainConfig::load(Some(&path), &[])?, config);
        Ok(())
    }

    #[test]
    fn warm_up_is_of_the_first_steps() -> Result<(), String> {
        let config = load(&["loss=ppo", "critic.warmup_steps=2"])?;
        assert_eq!([1, 2, 3].map(|step| config.is_critic_warmup(step)), [true, true, false]);
        assert!(!load(&["loss=ppo"])?.is_critic_warmup(1));
        Ok(())
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_the_mend() {
        for (pairs, expected) in [
            (&["critic.gamma=0.9"][..], "[critic] has no effect on this objective.advantage; set loss = \"ppo\""),
            (&["loss=ppo", "critic.learning_rate=0.0"], "critic.learning_rate is 0; it must be above 0"),
            (&["loss=ppo", "critic.learning_rate=nan"], "critic.learning_rate is NaN"),
            (&["loss=ppo", "critic.gamma=1.5"], "critic.gamma is 1.5; it must be between 0 and 1"),
            (&["loss=ppo", "critic.gae_lambda=-0.1"], "critic.gae_lambda is -0.1"),
            (&["loss=ppo", "critic.clip_value=-1.0"], "critic.clip_value is -1"),
            (&["loss=ppo", "critic.site=attn:2"], "critic.site is attn:2; it must be full or layer:N"),
            (&["loss=ppo", "critic.value_coefficient=0.5"], "has no effect with critic.detached = true"),
            (&["loss=ppo", "critic.detached=false", "critic.value_coefficient=0.0"], "must be a positive number"),
            (&["loss=ppo", "critic.warmup_steps=80"], "the phases have 80 steps, which leaves none"),
            (&["loss=ppo", "critic.warmup_stps=3"], "did you mean warmup_steps?"),
            (&["loss=ppo", "objective.ratio=sequence"], "are of whole responses, but objective.advantage = \"gae\""),
            (&["loss=ppo", "objective.surrogate=gmpo"], "set one of the two back"),
            (&["loss=ppo", "objective.covariance.mode=kl"], "one advantage per response"),
            (&["loss=ppo", "phases.0.without_prompt=true"], "no states of the prompt"),
            (&["loss=ppo", "objective.scale_rewards=batch"], "scale_rewards has no effect"),
        ] {
            let message = load(pairs).err().unwrap_or_default();
            assert!(message.contains(expected), "{pairs:?}: {message}");
        }
    }

    #[test]
    fn a_critic_that_cannot_be_in_the_model_is_refused_before_the_run() -> Result<(), Box<dyn std::error::Error>> {
        let model = ModelConfig::from_json(
            r#"{"model_type": "qwen3", "vocab_size": 50, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 4,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "tie_word_embeddings": false}"#,
        )?;
        let check = |pairs: &[&str]| -> Result<(), String> {
            load(&[&["loss=ppo"], pairs].concat())?.check_critic_in(&model).map_err(|error| error.to_string())
        };
        // A constant in the value loss, the model may be run to any layer.
        check(&[])?;
        check(&["critic.site=layer:4"])?;
        check(&["critic.detached=false", "critic.site=layer:3"])?;
        check(&["critic.detached=false", "phases.0.steps=0"])?;
        for (pairs, expected) in [
            (&["critic.site=layer:5"][..], "outside the model"),
            (&["critic.detached=false"], "above layer:3 of phase 1"),
            (&["critic.detached=false", "critic.site=layer:3", "phases.0.site=ffn:3"], "above ffn:3 of phase 1"),
            (&["critic.detached=false", "critic.site=layer:1", "phases.0.layer=auto"], "layer = \"auto\""),
            (
                &[
                    "critic.detached=false",
                    "critic.site=layer:1",
                    "train.parameters.layers='2-4'",
                    "train.parameters.embedding=false",
                ],
                "the lowest is 2; give a higher site",
            ),
        ] {
            let message = check(pairs).err().unwrap_or_default();
            assert!(message.contains(expected), "{pairs:?}: {message}");
        }
        Ok(())
    }
}
