//! What the first step of a run samples, without a run: for measures of the model before training.

use bupo_collective::Processes;
use bupo_core::PolicySite;
use bupo_engine::OwnEngine;
use bupo_eval::Sampler;
use bupo_models::{LoadedModel, ModelFiles, TextTokenizer};
use burn::tensor::backend::Backend;

use super::setup::questions;
use super::trained::load_for_training;
use crate::RlError;
use crate::config::TrainConfig;
use crate::data::{Curriculum, Questions};
use crate::rollout::{Samplers, rollout};
use crate::sweep::Selectors;

/// A run's model and questions before its first step.
pub struct FirstStep<B: Backend> {
    config: TrainConfig,
    model: LoadedModel<B>,
    tokenizer: TextTokenizer,
    questions: Box<dyn Questions>,
}

impl<B: Backend> FirstStep<B> {
    /// Loads the model and reads the questions.
    ///
    /// # Errors
    /// If one of them cannot be read, or they do not fit the settings.
    pub fn new(config: &TrainConfig, files: &ModelFiles, device: &B::Device) -> Result<Self, RlError> {
        let tokenizer = TextTokenizer::load(files)?;
        let questions = questions(config, files, &tokenizer)?;
        let model = load_for_training::<B>(config, files, device)?;
        Ok(Self { config: config.clone(), model, tokenizer, questions })
    }

    /// Samples and grades what the first step would, by the own generation, and measures sites on it.
    ///
    /// # Errors
    /// If the policy's logits are not finite, or a site is outside the model.
    pub fn selectors(&self, sites: &[PolicySite]) -> Result<Selectors, RlError> {
        let processes = Processes::alone();
        let engine = OwnEngine::new(&self.model.decoder, &self.tokenizer);
        let own = Sampler::new(&engine, &self.tokenizer, &self.model.eos_token_ids);
        let samplers = Samplers { own, processes: &processes, first_samples_all: false };
        let (settings, seed, mut draws) = (&self.config.rollout, self.config.seed, 0);
        let questions = self.questions.as_ref();
        let sampled = rollout(&samplers, questions, &Curriculum::default(), settings, seed, 0, &mut draws)?.sampled;
        Selectors::measure(&self.model.decoder, &sampled, sites, &self.config)
    }
}
