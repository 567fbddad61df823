//! One mini-batch: its loss, its gradient by micro-batches, and the optimizer's step.

use bupo_core::{PolicyGradient, TokenStats};
use bupo_models::Decoder;
use bupo_models::decoder::differentiable;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use serde::Serialize;

use crate::RlError;
use crate::batch::{Block, PolicySpec, Sequence, policy};
use crate::objective::{BatchSize, Objective, ResponseLoss};
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
}

/// What an update minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossSpec {
    /// The policy whose log-probs the loss is of.
    pub policy: PolicySpec,
    /// The loss of given log-probs.
    pub objective: Objective,
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
    let size = BatchSize::of(samples.iter().map(|sample| sample.sequence.response.len()));
    let mut gradients = Gradients::<A>::new();
    let mut total = ResponseLoss::NOTHING;
    for part in samples.chunks(loss.micro_batch.max(1)) {
        let block = Block::new(part.iter().map(|sample| &sample.sequence));
        accumulate(decoder, &mut gradients, &block, &loss.policy, |stats| {
            let mut d_log_probs = Vec::with_capacity(block.targets.len());
            for (sample, log_probs) in part.iter().zip(block.split(&stats.log_probs)) {
                let share = loss.objective.response(log_probs, &sample.old_log_probs, sample.advantage, &size);
                d_log_probs.extend(share.d_log_probs.iter().map(|d| *d as f32));
                total.add(&share);
            }
            d_log_probs
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
        extreme_ratio: total.extreme_ratio,
        tokens: size.tokens(),
        skipped: !grad_norm.is_finite(),
    })
}

/// Adds the gradient of a loss over one block of sequences. `derivative` sees the log-probs of the block's response
/// tokens and gives the loss's derivative with respect to each.
///
/// The layers run under automatic differentiation; the unembedding does not: its closed gradient is computed by chunks
/// and pushed into the layers as `(states * d_states).sum()`.
pub(crate) fn accumulate<A: AutodiffBackend>(
    decoder: &Decoder<A::InnerBackend>,
    gradients: &mut Gradients<A>,
    block: &Block,
    spec: &PolicySpec,
    derivative: impl FnOnce(&TokenStats) -> Vec<f32>,
) -> Result<(), RlError> {
    if block.targets.is_empty() {
        return Ok(());
    }
    let lifted = differentiable::<A>(decoder);
    let states = block.states(&lifted, spec)?;
    let read = policy(states.clone().inner(), decoder, spec);
    let d_log_probs = derivative(&read.token_stats(&block.targets));
    let PolicyGradient { states: d_states, unembedding } = read.backward(&block.targets, &d_log_probs);
    gradients.add(&lifted, (states * Tensor::from_inner(d_states)).sum().backward());
    gradients.add_one(decoder.unembedding_id(), unembedding);
    Ok(())
}
