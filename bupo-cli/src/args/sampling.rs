//! Options of sampling.

use clap::Args;

use crate::error::CliError;

#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Sampling temperature: divides the logits; 0 is greedy decoding
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Random seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl SamplingArgs {
    /// # Errors
    /// If an option is out of its range.
    pub fn check(&self) -> Result<(), CliError> {
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        Err(CliError::Message(format!("--temperature is {}; it must be 0 or more", self.temperature)))
    }
}
