//! One mini-batch: its loss, its gradient by micro-batches, and the optimizer's step.

use bupo_core::{PolicyGradient, TokenDerivatives, TokenStats};
use bupo_models::decoder::differentiable;
use bupo_models::{Block, Decoder, Sequence};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use serde::Serialize;

use crate::RlError;
use crate::batch::{PolicySpec, policy, site_states};
use crate::objective::{BatchSize, Objective, ResponseLoss, ResponseValues};
use crate::optimizer::{DecoderOptimizer, Gradients};

/// A response with what its loss needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Prompt and response.
    pub sequence: Sequence,
    /// The response's advantage within its group.
    pub advantage: f64,
    /// Log-probs of the response's tokens under the policy before the step, at the loss's own site.
    pub old_log_probs: Vec<f32>,
    /// The same under the frozen reference, where the loss needs one.
    pub ref_log_probs: Option<Vec<f32>>,
}

/// What an update minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSpec {
    /// The policy whose log-probs the loss is of.
    pub policy: PolicySpec,
    /// The loss of given log-probs.
    pub objective: Objective,
    /// The longest response allowed, which `seq-mean-token-sum-norm` divides by; nothing for the longest there is.
    pub norm_length: Option<usize>,
    /// How many sequences are run at once.
    pub micro_batch: usize,
}

/// What an update did. Means are over the mini-batch's response tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct UpdateStats {
    /// The objective's value before the update.
    pub loss: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: f64,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: f64,
    /// Mean of `logp_old - logp`.
    pub kl: f64,
    /// Mean of the estimated KL to the reference; 0 without one.
    pub ref_kl: f64,
    /// The importance ratio furthest from 1.
    pub extreme_ratio: f64,
    /// Response tokens in the mini-batch.
    pub tokens: usize,
    /// Whether the update was left out because its gradient was not finite.
    pub skipped: bool,
}

/// Updates the decoder once on a mini-batch, `loss.micro_batch` sequences at a time; their number
/// changes nothing but memory.
///
/// # Errors
/// If the policy's site is outside the model.
pub fn update<A: AutodiffBackend>(
    decoder: &mut Decoder<A::InnerBackend>,
    optimizer: &mut DecoderOptimizer<A>,
    samples: &[Sample],
    loss: &LossSpec,
) -> Result<UpdateStats, RlError> {
    let size = BatchSize::of(samples.iter().map(|sample| sample.sequence.response.len()), loss.norm_length);
    let mut gradients = Gradients::<A>::new();
    let mut total = ResponseLoss::NOTHING;
    for part in samples.chunks(loss.micro_batch.max(1)) {
        let block = Block::new(part.iter().map(|sample| &sample.sequence));
        accumulate(decoder, &mut gradients, &block, &loss.policy, |stats| {
            let mut d_log_probs = Vec::with_capacity(block.targets.len());
            let mut d_entropy = Vec::with_capacity(block.targets.len());
            let values = block.split(&stats.log_probs).zip(block.split(&stats.entropy));
            for (sample, (log_probs, entropy)) in part.iter().zip(values) {
                let values = ResponseValues {
                    log_probs,
                    old_log_probs: &sample.old_log_probs,
                    ref_log_probs: sample.ref_log_probs.as_deref(),
                    entropy,
                    advantage: sample.advantage,
                };
                let share = loss.objective.response(&values, &size);
                d_log_probs.extend(share.d_log_probs.iter().map(|d| *d as f32));
                d_entropy.extend(std::iter::repeat_n(share.d_entropy as f32, log_probs.len()));
                total.add(&share);
            }
            let needs_entropy = loss.objective.entropy_coefficient != 0.0;
            TokenDerivatives { log_probs: d_log_probs, entropy: needs_entropy.then_some(d_entropy) }
        })?;
    }
    let grad_norm = if total.loss.is_finite() { optimizer.step(decoder, gradients) } else { f64::NAN };
    let tokens = size.tokens().max(1) as f64;
    Ok(UpdateStats {
        loss: total.loss,
        grad_norm,
        clip_ratio: total.clipped as f64 / tokens,
        dual_clip_ratio: total.dual_clipped as f64 / tokens,
        kl: total.kl_sum / tokens,
        ref_kl: total.ref_kl_sum / tokens,
        extreme_ratio: total.extreme_ratio,
        tokens: size.tokens(),
        skipped: !grad_norm.is_finite(),
    })
}

/// Adds the gradient of a loss over one block of sequences. `derivatives` sees the log-probs and entropies of the block's response
/// tokens and gives the loss's derivatives with respect to them.
///
/// The layers run under automatic differentiation; the unembedding does not: its closed gradient is computed by chunks
/// and pushed into the layers as `(states * d_states).sum()`.
pub(crate) fn accumulate<A: AutodiffBackend>(
    decoder: &Decoder<A::InnerBackend>,
    gradients: &mut Gradients<A>,
    block: &Block,
    spec: &PolicySpec,
    derivatives: impl FnOnce(&TokenStats) -> TokenDerivatives,
) -> Result<(), RlError> {
    if block.targets.is_empty() {
        return Ok(());
    }
    let lifted = differentiable::<A>(decoder);
    let states = site_states(block, &lifted, spec)?;
    let read = policy(states.clone().inner(), decoder, spec);
    let derivatives = derivatives(&read.token_stats(&block.targets));
    let PolicyGradient { states: d_states, unembedding } = read.backward(&block.targets, &derivatives);
    gradients.add(&lifted, (states * Tensor::from_inner(d_states)).sum().backward());
    gradients.add_one(decoder.unembedding_id(), unembedding);
    Ok(())
}
