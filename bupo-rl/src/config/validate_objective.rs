//! Checks of the settings of the loss that are not plain ranges.

use super::sections::TruncatedReward;
use super::train_config::TrainConfig;
use crate::RlError;
use crate::loss::{Ratio, Surrogate};

impl TrainConfig {
    pub(super) fn check_objective(&self) -> Result<(), RlError> {
        let objective = &self.objective;
        let error = |text: String| Err(RlError::Config(text));
        let at_least_zero = [
            ("objective.positive_weight", objective.positive_weight),
            ("objective.negative_weight", objective.negative_weight),
            ("objective.covariance.kl_coefficient", objective.covariance.kl_coefficient),
            ("objective.reward_kl.coefficient", objective.reward_kl.coefficient),
            ("objective.entropy_target.entropy", objective.entropy_target.entropy),
        ];
        if let Some((name, value)) = at_least_zero.iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            return error(format!("{name} is {value}; it must be 0 or more"));
        }
        let positive = [
            ("objective.sapo.positive", objective.sapo.positive),
            ("objective.sapo.negative", objective.sapo.negative),
            ("objective.entropy_target.step", objective.entropy_target.step),
            ("objective.entropy_target.max", objective.entropy_target.max),
        ];
        if let Some((name, value)) = positive.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return error(format!("{name} is {value}; it must be a positive number"));
        }
        for (name, share) in [
            ("objective.top_entropy_share", objective.top_entropy_share),
            ("objective.covariance.share", objective.covariance.share),
        ] {
            if !(share > 0.0 && share <= 1.0) {
                return error(format!("{name} is {share}; it must be above 0 and at most 1"));
            }
        }
        if objective.positive_weight == 0.0 && objective.negative_weight == 0.0 {
            return error(
                "objective.positive_weight and objective.negative_weight are both 0, which leaves no sample; set one above 0".into(),
            );
        }
        let (low, high) = (objective.covariance.low, objective.covariance.high);
        if low.is_nan() || high.is_nan() || low >= high {
            return error(format!("objective.covariance.low is {low} and high is {high}; low must be below high"));
        }
        if objective.surrogate != Surrogate::Clip && objective.ratio == Ratio::Sequence {
            return error(
                "objective.ratio = \"sequence\" is of objective.surrogate = \"clip\" alone; set one of the two back"
                    .into(),
            );
        }
        if objective.chooses_tokens() && objective.is_of_response() {
            return error(
                "objective.top_entropy_share and objective.covariance choose tokens, but with objective.ratio = \"sequence\" or \
                 objective.surrogate = \"gmpo\" every token's loss is of the whole response; set one of the two back"
                    .into(),
            );
        }
        if objective.scale_rewards.is_some() && !objective.advantage.can_be_scaled() {
            return error(
                "objective.scale_rewards has no effect on this objective.advantage; use it with \"grpo\", \"dr-grpo\" or \"rloo\"".into(),
            );
        }
        if self.phases.iter().any(|phase| phase.without_prompt) && self.rollout.correction().is_some() {
            return error(
                "phases.*.without_prompt has no probabilities to correct: those of the engine are with the prompt; set rollout.correction.mode \
                 to \"off\", or remove it"
                    .into(),
            );
        }
        if objective.reward_kl.is_on() && self.truncated_reward() == TruncatedReward::Mask {
            return error(
                "objective.reward_kl needs log-probs of every response, but reward.truncated = \"mask\" leaves the truncated ones out; \
                 use objective.kl_coefficient, or another reward.truncated"
                    .into(),
            );
        }
        Ok(())
    }
}
