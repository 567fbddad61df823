//! One mini-batch: its loss, its gradient accumulated over micro-batches, and the optimizer step.

use bupo_collective::Processes;
use bupo_core::{ResidualDecoder, TokenDerivatives, TokenStats};
use bupo_models::decoder::Gradients;
use bupo_models::{Decoder, split_by};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::accumulate::{SiteDerivatives, TermDerivatives, accumulate_sites};
use super::adamw::DecoderOptimizer;
use super::critic::{Critic, CriticStats, ValuePass};
use super::policy_stats::PolicySpec;
use super::sample::Sample;
use crate::RlError;
use crate::agree::Agree;
use crate::config::TrainConfig;
use crate::loss::{BatchSize, ChosenTokens, Correction, Objective, RatioStats, ResponseLoss, ResponseValues};
use crate::phases::{Phase, Samples, SiteTerm};

/// The loss of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSpec {
    /// The policy whose log-probs are in the loss.
    pub policy: PolicySpec,
    /// The loss as a function of log-probs.
    pub objective: Objective,
    /// The longest response allowed, by which `seq-mean-token-sum-norm` divides; `None` for the longest in the mini-batch.
    pub norm_length: Option<usize>,
    /// Tokens per micro-batch that the layers compute.
    pub max_tokens_per_batch: usize,
    /// Whether layers are recomputed in the backward pass instead of saving their activations.
    pub recompute: bool,
    /// Further sites, whose losses are added.
    pub terms: Vec<SiteTerm>,
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
            terms: Vec::new(),
            correction: config.rollout.correction(),
        }
    }

    /// The same in a phase: of its samples, and with its further sites.
    pub fn in_phase(mut self, phase: &Phase) -> Self {
        match phase.samples {
            Samples::All => {}
            Samples::Positive => self.objective.negative_weight = 0.0,
            Samples::Negative => self.objective.positive_weight = 0.0,
        }
        self.terms = phase.sites.clone();
        self
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
    /// Share of tokens without a surrogate, left out by entropy or covariance.
    pub left_out_ratio: f64,
    /// Share of tokens penalised for their covariance.
    pub penalised_ratio: f64,
    /// Mean over tokens of the divergences of further sites from the full policy, summed over the sites.
    pub divergence: f64,
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
    /// The update of the critic, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic: Option<CriticStats>,
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
    update_among(decoder, optimizer, None, samples, &size_of(samples, loss), loss, &Processes::alone())
}

/// The same with a step of the critic, from the same forward pass.
///
/// # Errors
/// As [`update`].
pub fn update_with_critic<B: Backend>(
    decoder: &mut Decoder<B>,
    optimizer: &mut DecoderOptimizer<B>,
    critic: &mut Critic<B>,
    samples: &[Sample],
    loss: &LossSpec,
) -> Result<UpdateStats, RlError> {
    update_among(decoder, optimizer, Some(critic), samples, &size_of(samples, loss), loss, &Processes::alone())
}

fn size_of(samples: &[Sample], loss: &LossSpec) -> BatchSize {
    BatchSize::of(samples.iter().map(|sample| sample.sequence.response.len()), loss.norm_length)
}

/// The same by several processes, each with its own samples of a mini-batch of this size: gradients and statistics are summed, so
/// that the update is that of one process with all samples.
///
/// # Errors
/// As [`update`], in all processes.
pub(crate) fn update_among<B: Backend>(
    decoder: &mut Decoder<B>,
    optimizer: &mut DecoderOptimizer<B>,
    mut critic: Option<&mut Critic<B>>,
    samples: &[Sample],
    size: &BatchSize,
    loss: &LossSpec,
    processes: &Processes,
) -> Result<UpdateStats, RlError> {
    let mut gradients = decoder.gradients();
    let mut values = ValuePass::new(size.tokens());
    let own = sums(decoder, &mut gradients, critic.as_deref().map(|critic| (critic, &mut values)), samples, size, loss);
    let Sums { entropy, loss: total, importance, left_out, penalised, divergence } =
        processes.agreed(own)?.into_iter().fold(Sums::default(), Sums::and);
    let critic = critic.as_mut().map(|critic| critic.step(values, processes)).transpose()?;
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
        left_out_ratio: left_out as f64 / tokens,
        penalised_ratio: penalised as f64 / tokens,
        divergence: divergence / tokens,
        entropy: entropy / tokens,
        extreme_ratio: total.extreme_ratio,
        importance,
        tokens: size.tokens(),
        skipped: !grad_norm.is_finite(),
        critic,
    })
}

/// The gradient of the loss of a mini-batch, without a step.
///
/// # Errors
/// If the policy's site is outside the model.
pub(crate) fn gradient<B: Backend>(
    decoder: &Decoder<B>,
    samples: &[Sample],
    loss: &LossSpec,
) -> Result<Gradients<B>, RlError> {
    let mut gradients = decoder.gradients();
    sums(decoder, &mut gradients, None, samples, &size_of(samples, loss), loss)?;
    Ok(gradients)
}

/// Sums over response tokens.
#[derive(Serialize, Deserialize)]
struct Sums {
    entropy: f64,
    loss: ResponseLoss,
    importance: RatioStats,
    /// Tokens without a surrogate.
    left_out: usize,
    /// Tokens penalised for their covariance.
    penalised: usize,
    /// Divergences of further sites.
    divergence: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            entropy: 0.0,
            loss: ResponseLoss::NOTHING,
            importance: RatioStats::default(),
            left_out: 0,
            penalised: 0,
            divergence: 0.0,
        }
    }
}

impl Sums {
    fn and(mut self, other: Self) -> Self {
        self.entropy += other.entropy;
        self.loss.add(&other.loss);
        self.importance.add(&other.importance);
        self.left_out += other.left_out;
        self.penalised += other.penalised;
        self.divergence += other.divergence;
        self
    }

    fn count(&mut self, chosen: &ChosenTokens) {
        self.left_out += chosen.kept.iter().flatten().filter(|kept| !**kept).count();
        self.penalised += chosen.penalised.iter().flatten().filter(|penalised| **penalised).count();
    }
}

/// Adds the gradients of the loss over `samples`, part of a mini-batch of this size.
fn sums<B: Backend>(
    decoder: &Decoder<B>,
    gradients: &mut Gradients<B>,
    mut critic: Option<(&Critic<B>, &mut ValuePass<B>)>,
    samples: &[Sample],
    size: &BatchSize,
    loss: &LossSpec,
) -> Result<Sums, RlError> {
    let mut sums = Sums::default();
    samples.iter().for_each(|sample| sums.count(&sample.chosen));
    // Dropped before the optimizer's step, which changes weights that nobody else holds in place.
    let packed = decoder.for_many_rows(loss.policy.site.depth(decoder.num_layers())?);
    let parts = decoder.batches(samples, |sample| &sample.sequence, loss.max_tokens_per_batch);
    for (index, part) in parts.into_iter().enumerate() {
        let batch = decoder.batch(part.iter().map(|sample| &sample.sequence));
        let decoder = packed.clone().with_dropout_of(index);
        let divergences = accumulate_sites(
            &decoder,
            gradients,
            &batch,
            &loss.policy,
            &loss.terms,
            loss.recompute,
            |saved| match &mut critic {
                Some((critic, values)) => values.add(critic, &decoder, Some(saved), &batch, part),
                None => Ok(None),
            },
            |responses, stats, further| {
                sums.entropy += stats.entropy.iter().copied().map(f64::from).sum::<f64>();
                let responses = Responses { samples: &part[responses.clone()], lengths: &batch.lengths[responses] };
                site_derivatives(responses, loss, size, &mut sums, stats, further)
            },
        )?;
        let with_divergence = loss.terms.iter().filter(|term| term.divergence().is_some());
        for (term, values) in with_divergence.zip(divergences) {
            let weights = divergence_weights(part, term, loss, size);
            let weighted = values.iter().zip(weights).map(|(value, weight)| f64::from(*value) * f64::from(weight));
            sums.loss.loss += weighted.sum::<f64>();
            sums.divergence += values.iter().copied().map(f64::from).sum::<f64>();
        }
    }
    Ok(sums)
}

/// Samples of a micro-batch, and how many tokens their responses have.
#[derive(Clone, Copy)]
struct Responses<'a> {
    samples: &'a [Sample],
    lengths: &'a [usize],
}

impl<'a> Responses<'a> {
    /// Each sample with its part of the values per token.
    fn with<'v>(self, values: &'v [f32]) -> impl Iterator<Item = (&'a Sample, &'v [f32])>
    where
        'a: 'v,
    {
        self.samples.iter().zip(split_by(self.lengths, values))
    }
}

/// The derivatives of the loss over some responses, from the statistics of its site and of the further sites with a policy loss.
fn site_derivatives(
    responses: Responses<'_>,
    loss: &LossSpec,
    size: &BatchSize,
    sums: &mut Sums,
    stats: &TokenStats,
    further: &[Option<&TokenStats>],
) -> SiteDerivatives {
    let mut inputs = Vec::with_capacity(responses.samples.len());
    for (sample, own) in responses.with(&stats.log_probs) {
        let old = sample.old_log_probs.as_deref().unwrap_or(own);
        let corrected = loss.correction.zip(sample.sampling.as_ref()).map(|(correction, sampling)| {
            correction.weights(sampling.trainer.as_deref().unwrap_or(old), &sampling.engine)
        });
        sums.importance.add(&corrected.as_ref().map(|weights| weights.ratios).unwrap_or_default());
        let weights = sample.chosen.weigh(corrected.map(|weights| weights.weights));
        inputs.push(SampleInputs { old, reference: sample.ref_log_probs.as_deref(), weights });
    }
    let policy = of_site(responses, stats, loss, size, &inputs, |share| sums.loss.add(share));
    let terms = loss.terms.iter().zip(further).enumerate().map(|(number, (term, stats))| TermDerivatives {
        policy: stats.map(|stats| {
            let of_term = |((sample, own), main): ((&Sample, &[f32]), &SampleInputs<'_>)| {
                let values = sample.terms.get(number).cloned().unwrap_or_default();
                (values.old.unwrap_or_else(|| own.to_vec()), values.reference, main.weights.clone())
            };
            let owned: Vec<_> = responses.with(&stats.log_probs).zip(&inputs).map(of_term).collect();
            let inputs: Vec<SampleInputs<'_>> = owned
                .iter()
                .map(|(old, reference, weights)| SampleInputs {
                    old,
                    reference: reference.as_deref(),
                    weights: weights.clone(),
                })
                .collect();
            let add = |share: &ResponseLoss| sums.loss.loss += term.weight * share.loss;
            scaled(of_site(responses, stats, loss, size, &inputs, add), term.weight)
        }),
        divergence: term.divergence().map(|_| divergence_weights(responses.samples, term, loss, size)),
    });
    let terms = terms.collect();
    SiteDerivatives { policy, terms }
}

/// What the policy loss of a site takes from a sample.
struct SampleInputs<'a> {
    old: &'a [f32],
    reference: Option<&'a [f32]>,
    weights: Option<Vec<f64>>,
}

/// The derivatives of the policy loss of one site.
fn of_site(
    responses: Responses<'_>,
    stats: &TokenStats,
    loss: &LossSpec,
    size: &BatchSize,
    inputs: &[SampleInputs<'_>],
    mut add: impl FnMut(&ResponseLoss),
) -> TokenDerivatives {
    let mut d_log_probs = Vec::with_capacity(stats.log_probs.len());
    let mut d_entropy = Vec::with_capacity(stats.log_probs.len());
    let values = responses.with(&stats.log_probs).zip(split_by(responses.lengths, &stats.entropy));
    for (((sample, log_probs), entropy), inputs) in values.zip(inputs) {
        let values = ResponseValues {
            log_probs,
            old_log_probs: inputs.old,
            ref_log_probs: inputs.reference,
            entropy,
            advantage: sample.advantage,
            token_advantages: sample.token_advantages(),
            weights: inputs.weights.as_deref(),
            penalised: sample.chosen.penalised.as_deref(),
        };
        let share = loss.objective.response(&values, size);
        d_log_probs.extend(share.d_log_probs.iter().map(|d| *d as f32));
        d_entropy.extend(std::iter::repeat_n(share.d_entropy as f32, log_probs.len()));
        add(&share);
    }
    let needs_entropy = loss.objective.entropy_coefficient != 0.0;
    TokenDerivatives { log_probs: d_log_probs, entropy: needs_entropy.then_some(d_entropy) }
}

fn scaled(derivatives: TokenDerivatives, weight: f64) -> TokenDerivatives {
    let scale = |values: Vec<f32>| values.into_iter().map(|d| (f64::from(d) * weight) as f32).collect();
    TokenDerivatives { log_probs: scale(derivatives.log_probs), entropy: derivatives.entropy.map(scale) }
}

/// The derivatives of the loss by the divergences of a further site, one per token.
fn divergence_weights(part: &[Sample], term: &SiteTerm, loss: &LossSpec, size: &BatchSize) -> Vec<f32> {
    let mut weights = Vec::new();
    for sample in part {
        let length = sample.sequence.response.len();
        let weight = size.token_weight(loss.objective.aggregation, length) * term.divergence_weight;
        let advantage = |token: usize| match sample.token_advantages() {
            _ if !term.advantage_weighted => 1.0,
            Some(advantages) => advantages[token],
            None => sample.advantage,
        };
        weights.extend((0..length).map(|token| (weight * advantage(token)) as f32));
    }
    weights
}
