//! Sampling of one step's groups, with dynamic sampling.

use std::ops::Range;
use std::time::{Duration, Instant};

use bupo_collective::Processes;
use bupo_core::{Norm, PolicySite, SamplingParams};
use bupo_eval::{GradingInput, Group, Question, Sampler, Sampling};
use bupo_grade::GradedItem;

use super::metrics::RolloutMetrics;
use super::reward_shaping::has_variance;
use crate::RlError;
use crate::agree::Agree;
use crate::config::RolloutConfig;
use crate::data::{Curriculum, Questions};
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

/// What samples and grades, by one or several processes.
pub(crate) struct Samplers<'a> {
    /// That of this process.
    pub(crate) own: Sampler<'a>,
    /// All processes.
    pub(crate) processes: &'a Processes,
    /// Whether process 0 samples everything: it speaks to the servers, which share the work out themselves.
    pub(crate) first_samples_all: bool,
}

impl Samplers<'_> {
    /// Samples and grades responses to each question: each process its share, all of which every process gets.
    ///
    /// # Errors
    /// As [`Sampler::sample`], in all processes.
    pub(crate) fn sample(
        &self,
        asked: &[Question],
        sampling: &Sampling,
        grade: impl FnOnce(&[GradingInput<'_>]) -> Vec<GradedItem>,
    ) -> Result<Vec<Group>, RlError> {
        let own = share(asked.len(), self.first_samples_all, self.processes);
        let sampled = if own.is_empty() {
            Ok(Vec::new())
        } else {
            self.own.sample(&asked[own.clone()], own.start, sampling, grade)
        };
        Ok(self.processes.agreed(sampled.map_err(RlError::from))?.concat())
    }
}

/// The questions of this process.
pub(crate) fn share(count: usize, first_samples_all: bool, processes: &Processes) -> Range<usize> {
    match (first_samples_all, processes.is_first()) {
        (true, true) => 0..count,
        (true, false) => 0..0,
        (false, _) => processes.slice(count),
    }
}

/// Samples a step's groups from the full policy. `steps` are done; `draws` counts the draws of prompts over the whole
/// run.
///
/// With dynamic sampling, groups without reward variance are dropped and further prompts drawn, until there are
/// `settings.prompts` groups or `settings.max_draws` draws were made.
pub(crate) fn rollout(
    samplers: &Samplers<'_>,
    questions: &dyn Questions,
    curriculum: &Curriculum,
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
        let drawn = samplers.sample(&questions.training(*draws, curriculum)?, &sampling, |answered| {
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
