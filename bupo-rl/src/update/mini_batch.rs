//! One mini-batch: its loss, its gradient accumulated over micro-batches, and the optimizer step.

use bupo_collective::Processes;
use bupo_core::{PolicyGradient, ResidualDecoder, TokenDerivatives, TokenStats};
use bupo_models::decoder::Gradients;
use bupo_models::{Decoder, PaddedBatch, Sequence, token_batches};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::adamw::DecoderOptimizer;
use super::policy_stats::{PolicySpec, policy};
use crate::RlError;
use crate::agree::Agree;
use crate::config::TrainConfig;
use crate::loss::{BatchSize, Correction, Objective, RatioStats, ResponseLoss, ResponseValues};

/// A response with the inputs of its loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Prompt and response.
    pub sequence: Sequence,
    /// The response's advantage within its group.
    pub advantage: f64,
    /// Log-probs of the response's tokens before the step, at the site of the loss; `None` in the first update of a step, whose
    /// own log-probs are the old ones.
    pub old_log_probs: Option<Vec<f32>>,
    /// Log-probs under the frozen reference, if the loss has a KL term.
    pub ref_log_probs: Option<Vec<f32>>,
    /// Log-probs by which the loss is corrected for the engine that sampled the response, if it is.
    pub sampling: Option<SamplingLogProbs>,
}

/// Log-probs of a response's tokens under the full policy, in the engine that sampled it and in the trainer.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingLogProbs {
    /// In the engine, at sampling.
    pub engine: Vec<f32>,
    /// In the trainer, before the step; `None` if the loss is of the full policy, whose old log-probs they are.
    pub trainer: Option<Vec<f32>>,
}

/// The loss of an update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSpec {
    /// The policy whose log-probs are in the loss.
    pub policy: PolicySpec,
    /// The loss as a function of log-probs.
    pub objective: Objective,
    /// The longest response allowed, by which `seq-mean-token-sum-norm` divides; `None` for the longest in the mini-batch.
    pub norm_length: Option<usize>,
    /// Tokens per micro-batch, padding included.
    pub max_tokens_per_batch: usize,
    /// Whether layers are recomputed in the backward pass instead of saving their activations.
    pub recompute: bool,
    /// How tokens are weighted by the ratio of the trainer's and the engine's probabilities, where samples have both.
    pub correction: Option<Correction>,
}

impl LossSpec {
    /// The loss of a run's settings for a policy.
    pub fn from_config(config: &TrainConfig, policy: PolicySpec) -> Self {
        Self {
            policy,
            objective: config.objective,
            norm_length: Some(config.rollout.max_new_tokens),
            max_tokens_per_batch: config.update.max_tokens_per_batch,
            recompute: config.update.recompute,
            correction: config.rollout.correction(),
        }
    }
}

/// Statistics of an update. Means are over the mini-batch's response tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct UpdateStats {
    /// The loss before the update.
    pub loss: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: f64,
    /// Share of tokens clipped at the lower bound.
    pub clip_ratio_low: f64,
    /// Share of tokens clipped at the upper bound.
    pub clip_ratio_high: f64,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: f64,
    /// Mean of `logp_old - logp`.
    pub kl: f64,
    /// Mean of the estimated KL to the reference; 0 without one.
    pub ref_kl: f64,
    /// Mean entropy of the policy in nats, before the update.
    pub entropy: f64,
    /// The importance ratio furthest from 1.
    pub extreme_ratio: f64,
    /// Importance ratios of the full policy between trainer and engine, if the loss is corrected by them.
    pub importance: RatioStats,
    /// Response tokens in the mini-batch.
    pub tokens: usize,
    /// Whether the update was skipped because its loss or gradient was not finite.
    pub skipped: bool,
}

/// Makes one optimizer step on a mini-batch, in micro-batches of `loss.max_tokens_per_batch` tokens, whose size changes the result
/// only by rounding. Neighbouring samples of similar length need little padding.
///
/// # Errors
/// If the policy's site is outside the model.
pub fn update<B: Backend>(
    decoder: &mut Decoder<B>,
    optimizer: &mut DecoderOptimizer<B>,
    samples: &[Sample],
    loss: &LossSpec,
) -> Result<UpdateStats, RlError> {
    let size = BatchSize::of(samples.iter().map(|sample| sample.sequence.response.len()), loss.norm_length);
    update_among(decoder, optimizer, samples, &size, loss, &Processes::alone())
}

/// The same by several processes, each with its own samples of a mini-batch of this size: gradients and statistics are summed, so
/// that the update is that of one process with all samples.
///
/// # Errors
/// As [`update`], in all processes.
pub(crate) fn update_among<B: Backend>(
    decoder: &mut Decoder<B>,
    optimizer: &mut DecoderOptimizer<B>,
    samples: &[Sample],
    size: &BatchSize,
    loss: &LossSpec,
    processes: &Processes,
) -> Result<UpdateStats, RlError> {
    let mut gradients = decoder.gradients();
    let own = sums(decoder, &mut gradients, samples, size, loss);
    let Sums { entropy, loss: total, importance } = processes.agreed(own)?.into_iter().fold(Sums::default(), Sums::and);
    // The same sum in all processes: none of them or all of them make the step.
    let grad_norm = if total.loss.is_finite() { optimizer.step(decoder, gradients, processes)? } else { f64::NAN };
    let tokens = size.tokens().max(1) as f64;
    Ok(UpdateStats {
        loss: total.loss,
        grad_norm,
        clip_ratio: total.clipped() as f64 / tokens,
        clip_ratio_low: total.clipped_low as f64 / tokens,
        clip_ratio_high: total.clipped_high as f64 / tokens,
        dual_clip_ratio: total.dual_clipped as f64 / tokens,
        kl: total.kl_sum / tokens,
        ref_kl: total.ref_kl_sum / tokens,
        entropy: entropy / tokens,
        extreme_ratio: total.extreme_ratio,
        importance,
        tokens: size.tokens(),
        skipped: !grad_norm.is_finite(),
    })
}

/// Sums over response tokens.
#[derive(Serialize, Deserialize)]
struct Sums {
    entropy: f64,
    loss: ResponseLoss,
    importance: RatioStats,
}

impl Default for Sums {
    fn default() -> Self {
        Self { entropy: 0.0, loss: ResponseLoss::NOTHING, importance: RatioStats::default() }
    }
}

impl Sums {
    fn and(mut self, other: Self) -> Self {
        self.entropy += other.entropy;
        self.loss.add(&other.loss);
        self.importance.add(&other.importance);
        self
    }
}

/// Adds the gradients of the loss over `samples`, part of a mini-batch of this size.
fn sums<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    samples: &[Sample],
    size: &BatchSize,
    loss: &LossSpec,
) -> Result<Sums, RlError> {
    let mut sums = Sums::default();
    // Dropped before the optimizer's step, which changes weights that nobody else holds in place.
    let packed = decoder.with_packed_weights(loss.policy.site.depth(decoder.num_layers())?);
    let parts = token_batches(samples, |sample| sample.sequence.len(), loss.max_tokens_per_batch);
    for (index, part) in parts.into_iter().enumerate() {
        let batch = PaddedBatch::new(part.iter().map(|sample| &sample.sequence));
        let decoder = packed.clone().with_dropout_of(index);
        accumulate(&decoder, gradients, &batch, &loss.policy, loss.recompute, |stats| {
            sums.entropy += stats.entropy.iter().copied().map(f64::from).sum::<f64>();
            let mut d_log_probs = Vec::with_capacity(batch.targets.len());
            let mut d_entropy = Vec::with_capacity(batch.targets.len());
            let values = batch.split(&stats.log_probs).zip(batch.split(&stats.entropy));
            for (sample, (log_probs, entropy)) in part.iter().zip(values) {
                let old_log_probs = sample.old_log_probs.as_deref().unwrap_or(log_probs);
                let corrected = loss.correction.zip(sample.sampling.as_ref());
                let weights = corrected.map(|(correction, sampling)| {
                    correction.weights(sampling.trainer.as_deref().unwrap_or(old_log_probs), &sampling.engine)
                });
                sums.importance.add(&weights.as_ref().map(|weights| weights.ratios).unwrap_or_default());
                let values = ResponseValues {
                    log_probs,
                    old_log_probs,
                    ref_log_probs: sample.ref_log_probs.as_deref(),
                    entropy,
                    advantage: sample.advantage,
                    weights: weights.as_ref().map(|weights| weights.weights.as_slice()),
                };
                let share = loss.objective.response(&values, size);
                d_log_probs.extend(share.d_log_probs.iter().map(|d| *d as f32));
                d_entropy.extend(std::iter::repeat_n(share.d_entropy as f32, log_probs.len()));
                sums.loss.add(&share);
            }
            let needs_entropy = loss.objective.entropy_coefficient != 0.0;
            TokenDerivatives { log_probs: d_log_probs, entropy: needs_entropy.then_some(d_entropy) }
        })?;
    }
    Ok(sums)
}

/// Adds the gradient of a loss over one micro-batch. `derivatives` maps the log-probs and entropies of its response tokens to the
/// loss's derivatives with respect to them.
pub(crate) fn accumulate<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    batch: &PaddedBatch,
    spec: &PolicySpec,
    recompute: bool,
    derivatives: impl FnOnce(&TokenStats) -> TokenDerivatives,
) -> Result<(), RlError> {
    if batch.targets.is_empty() {
        return Ok(());
    }
    let saved = decoder.forward_train(batch.tokens(&decoder.device()), spec.site, spec.norm, recompute)?;
    let policy = policy(batch.gather_states(saved.states.clone()), decoder, spec);
    let forward = policy.forward(&batch.targets);
    let derivatives = derivatives(&forward.stats);
    let states = if gradients.wants(decoder.unembedding_id()) {
        let PolicyGradient { states, unembedding } = forward.backward(&derivatives);
        gradients.add(decoder.unembedding_id(), unembedding);
        states
    } else {
        forward.backward_states(&derivatives)
    };
    decoder.backward(saved, batch.scatter_grad(states), gradients);
    Ok(())
}
