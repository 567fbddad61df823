//! Options of sampling.

use bupo_core::SamplingParams;
use bupo_models::pretrained::{RecommendedSampling, load_recommended_sampling};
use bupo_models::{ModelError, ModelFiles};
use clap::Args;

use crate::error::CliError;

#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Sampling temperature: divides the logits; 0 is greedy decoding [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Random seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl SamplingArgs {
    /// # Errors
    /// If an option is out of its range.
    pub fn check(&self) -> Result<(), CliError> {
        match self.temperature {
            Some(temperature) if !(temperature.is_finite() && temperature >= 0.0) => {
                Err(CliError::Message(format!("--temperature is {temperature}; it must be 0 or more")))
            }
            _ => Ok(()),
        }
    }
}

/// Options that restrict the tokens that are sampled.
#[derive(Debug, Args)]
pub struct RestrictionArgs {
    /// Sample from the K most probable tokens only; 0 is all [default: 0]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample from the smallest set of tokens with a total probability of at least P (nucleus sampling) [default: 1]
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Sample from tokens that are at least P times as probable as the most probable one [default: 0]
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Divide positive logits of earlier tokens by X and multiply negative ones [default: 1]
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// End a response at this text; can be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Take temperature, top-k, top-p, min-p and repetition penalty from the model's generation_config.json, if not given
    #[arg(long)]
    pub recommended_sampling: bool,
}

impl RestrictionArgs {
    /// Temperature and restrictions, the model's recommended ones as defaults if they were asked for.
    ///
    /// # Errors
    /// If generation_config.json cannot be read, or a value is out of its range.
    pub fn resolve(&self, sampling: &SamplingArgs, files: &ModelFiles) -> Result<(f64, SamplingParams), CliError> {
        let recommended =
            if self.recommended_sampling { load_recommended_sampling(files)? } else { RecommendedSampling::default() };
        let defaults = recommended.params();
        let params = SamplingParams {
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        };
        params.check().map_err(ModelError::from)?;
        Ok((sampling.temperature.or(recommended.temperature).unwrap_or(1.0), params))
    }
}
