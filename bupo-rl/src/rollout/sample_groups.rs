//! Sampling of one step's groups, with dynamic sampling.

use std::time::{Duration, Instant};

use bupo_core::{Norm, PolicySite, SamplingParams};
use bupo_eval::{Group, Sampler, Sampling};

use super::metrics::RolloutMetrics;
use super::reward_shaping::has_variance;
use crate::RlError;
use crate::config::RolloutConfig;
use crate::data::Questions;
use crate::random::{Purpose, stream_seed};

/// A step's groups.
pub(crate) struct Rollout {
    /// The groups to train on.
    pub(crate) groups: Vec<Group>,
    /// All sampled groups, in the order of the draws.
    pub(crate) sampled: Vec<Group>,
    /// Metrics of all sampled groups.
    pub(crate) metrics: RolloutMetrics,
    /// The time that grading took.
    pub(crate) grading: Duration,
}

/// How the responses of a draw are sampled.
pub(crate) fn training_sampling(settings: &RolloutConfig, seed: u64, draw: usize) -> Sampling {
    Sampling {
        site: PolicySite::Full,
        norm: Norm::None,
        samples: settings.group_size,
        temperature: settings.temperature,
        params: SamplingParams::default(),
        max_new_tokens: settings.max_new_tokens,
        batch: settings.batch,
        seed: stream_seed(seed, Purpose::Rollouts, draw),
    }
}

/// Samples a step's groups from the full policy. `steps` are done; `draws` counts the draws of prompts over the whole
/// run.
///
/// With dynamic sampling, groups without reward variance are dropped and further prompts drawn, until there are
/// `settings.prompts` groups or `settings.max_draws` draws were made.
pub(crate) fn rollout(
    sampler: &Sampler<'_>,
    questions: &dyn Questions,
    settings: &RolloutConfig,
    seed: u64,
    steps: usize,
    draws: &mut usize,
) -> Result<Rollout, RlError> {
    let mut groups = Vec::new();
    let mut sampled = Vec::new();
    let mut grading = Duration::ZERO;
    for _ in 0..settings.max_draws {
        *draws += 1;
        let sampling = training_sampling(settings, seed, *draws);
        let drawn = sampler.sample(&questions.training(*draws)?, 0, &sampling, |answered| {
            let started = Instant::now();
            let graded = questions.grade(answered);
            grading += started.elapsed();
            graded
        })?;
        let dynamic = settings.max_draws > 1;
        groups.extend(drawn.iter().filter(|group| !dynamic || has_variance(group)).cloned());
        sampled.extend(drawn);
        if groups.len() >= settings.prompts {
            groups.truncate(settings.prompts);
            break;
        }
    }
    Ok(Rollout { groups, metrics: RolloutMetrics::of(&sampled, steps), sampled, grading })
}
