//! Checks of ranges and of settings against one another.

use bupo_models::{ComputeDtype, DtypeChoice};

use super::train_config::TrainConfig;
use crate::RlError;

impl TrainConfig {
    pub(super) fn check(&self) -> Result<(), RlError> {
        let counts = [
            ("rollout.prompts", self.rollout.prompts),
            ("rollout.group_size", self.rollout.group_size),
            ("rollout.max_new_tokens", self.rollout.max_new_tokens),
            ("rollout.batch", self.rollout.batch),
            ("rollout.max_draws", self.rollout.max_draws),
            ("rollout.timeout", self.rollout.timeout as usize),
            ("rollout.concurrency", self.rollout.concurrency),
            ("data.max_prompt_tokens", self.data.max_prompt_tokens),
            ("update.mini_batch_prompts", self.update.mini_batch_prompts),
            ("update.epochs", self.update.epochs),
            ("update.max_tokens_per_batch", self.update.max_tokens_per_batch),
            ("evaluation.problems", self.evaluation.problems),
            ("evaluation.samples", self.evaluation.samples),
            ("probe.prompts", self.probe.prompts),
            ("checkpoint.keep_last", self.checkpoint.keep_last),
            ("guard.max_skipped", self.guard.max_skipped),
            ("distributed.timeout", self.distributed.timeout as usize),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(RlError::Config(format!("{name} is 0; it must be at least 1")));
        }
        let numbers = [
            ("rollout.temperature", self.rollout.temperature),
            ("rollout.max_logp_difference", self.rollout.max_logp_difference),
            ("rollout.correction.max", self.rollout.correction.max.unwrap_or(1.0)),
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
        // With the number 1 only there are too few problems to hold any out.
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
        if self.rollout.overlong_share > 0.0 && self.rollout.overlong_tokens() == 0 {
            return Err(RlError::Config(format!(
                "rollout.overlong_share {} of rollout.max_new_tokens {} rounds to 0 tokens; raise one of them, or set the share to 0",
                self.rollout.overlong_share, self.rollout.max_new_tokens
            )));
        }
        let dual_clip = self.objective.dual_clip;
        if dual_clip > 0.0 && dual_clip < 1.0 {
            return Err(RlError::Config(format!(
                "objective.dual_clip is {dual_clip}; it must be at least 1, or 0 to disable it: below 1 it would clip at a ratio of 1"
            )));
        }
        self.check_objective()?;
        self.check_critic()?;
        self.reward.rewards().check()?;
        self.check_task()?;
        if self.data.drop_after > 0 && self.rollout.group_size == 1 {
            return Err(RlError::Config(
                "data.drop_after compares the rewards of a group, but rollout.group_size is 1; raise it, or set data.drop_after to 0"
                    .into(),
            ));
        }
        if self.data.drop_after > 0 && self.rollout.ahead > 0 {
            return Err(RlError::Config(
                "data.drop_after is not possible with rollout.ahead = 1, which draws a step before the rewards of the last are counted; \
                 set one of them to 0"
                    .into(),
            ));
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
        if self.dtype == DtypeChoice::F32 {
            self.optimizer.weights.check(ComputeDtype::F32)?;
        }
        if !self.rollout.prompts.is_multiple_of(self.update.mini_batch_prompts) {
            return Err(RlError::Config(format!(
                "update.mini_batch_prompts {} does not divide rollout.prompts {}; set one to a multiple of the other",
                self.update.mini_batch_prompts, self.rollout.prompts
            )));
        }
        self.check_trained()?;
        self.check_benchmarks()?;
        self.check_engine()
    }

    /// Checks that the settings of servers are given if servers sample, and only then.
    fn check_engine(&self) -> Result<(), RlError> {
        let rollout = &self.rollout;
        let error = |text: String| Err(RlError::Config(text));
        if rollout.ahead > 1 {
            return error(format!("rollout.ahead is {}; it must be 0 or 1", rollout.ahead));
        }
        if rollout.has_servers() && rollout.urls.is_empty() {
            return error(format!(
                "rollout.engine is {} but rollout.urls is empty; give the addresses of its servers, such as \"http://127.0.0.1:8000\"",
                rollout.engine
            ));
        }
        let of_servers = [
            ("rollout.urls", !rollout.urls.is_empty()),
            ("rollout.weights_dir", rollout.weights_dir.is_some()),
            ("rollout.ahead", rollout.ahead > 0),
        ];
        if let Some((name, _)) = of_servers.iter().find(|(_, is_set)| *is_set && !rollout.has_servers()) {
            return error(format!(
                "{name} has no effect with rollout.engine = \"own\"; set the engine to vllm or sglang, or remove it"
            ));
        }
        if let Some((index, url)) =
            rollout.urls.iter().enumerate().find(|(index, url)| rollout.urls[..*index].contains(url))
        {
            return error(format!("rollout.urls has {url} twice, the second time as number {}; remove one", index + 1));
        }
        if rollout.correction.max.is_some() && rollout.correction().is_none() {
            return error(
                "rollout.correction.max has no effect without a rollout.correction.mode; set both, or remove it".into(),
            );
        }
        Ok(())
    }
}
