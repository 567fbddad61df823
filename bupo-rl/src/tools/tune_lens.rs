//! Fitting a tuned lens to a model's responses.

use bupo_collective::Processes;
use bupo_core::{CoreError, Norm, PolicySite};
use bupo_models::decoder::Gradients;
use bupo_models::{Decoder, MeasureOptions, ModelConfig, ModelError, Sequence, TunedLens, measure};
use burn::tensor::backend::Backend;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::RlError;
use crate::random::{Purpose, stream};
use crate::update::{AdamWSettings, DecoderOptimizer};

/// One response in this many is held out, so that a fit needs as many.
pub const HELD_OUT_EVERY: usize = 8;
/// Responses measured at once.
const MEASURED_AT_ONCE: usize = 16;

/// Settings of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TuneLensConfig {
    /// The seed of the tokens of each step.
    pub seed: u64,
    /// The number of steps.
    pub steps: usize,
    /// Responses of a step.
    pub batch: usize,
    /// Response tokens of a step, at most.
    pub tokens: usize,
    /// AdamW's learning rate at the first step, from which it falls to 0.
    pub learning_rate: f64,
}

/// How far a layer's policy is from the full one on the responses held out: the mean of KL(full || layer), in nats per token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerFit {
    /// The layer, from 1.
    pub layer: usize,
    /// Through the final norm alone: the logit lens.
    pub logit_lens: f64,
    /// Through the tuned lens.
    pub tuned_lens: f64,
}

/// Fits the maps of a tuned lens by AdamW to the full policy on seven eighths of `responses`, from maps that change nothing. Returns the
/// lens, and how well it fits the other responses, by layer below the last. `report` gets each step's number and mean loss over layers.
///
/// # Errors
/// If there are fewer than 8 responses, one is empty or has an id outside the vocabulary, or a loss is not finite.
pub fn tune_lens<B: Backend>(
    decoder: Decoder<B>,
    model: &ModelConfig,
    responses: &[Sequence],
    config: &TuneLensConfig,
    mut report: impl FnMut(usize, f64),
) -> Result<(TunedLens, Vec<LayerFit>), RlError> {
    if responses.len() < HELD_OUT_EVERY {
        return Err(RlError::Config(format!(
            "there are {} responses; a tuned lens needs at least {HELD_OUT_EVERY}, one of which is held out",
            responses.len()
        )));
    }
    responses.iter().try_for_each(|response| response.check(decoder.vocab_size()))?;
    let (held_out, fitted): (Vec<_>, Vec<_>) =
        responses.iter().cloned().enumerate().partition(|(index, _)| index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1);
    let [held_out, fitted]: [Vec<Sequence>; 2] =
        [held_out, fitted].map(|part| part.into_iter().map(|(_, response)| response).collect());
    let mut decoder = decoder.with_tuned_lens(&TunedLens::identity(model)).train_tuned_lens();
    let before = reverse_kls(&decoder, &held_out, Norm::Final)?;
    // Each layer's loss has its own maps, so one clip for all would tie them together.
    let settings = AdamWSettings { weight_decay: 0.0, max_grad_norm: f64::MAX, ..AdamWSettings::default() };
    let mut optimizer = DecoderOptimizer::<B>::new(settings);
    for step in 1..=config.steps {
        let mut rng = stream(config.seed, Purpose::LensTokens, step);
        let rows = index::sample(&mut rng, fitted.len(), config.batch.min(fitted.len()));
        let batch = decoder.batch(rows.iter().map(|row| &fitted[row]));
        let tokens = drawn(&mut rng, batch.targets.len(), config.tokens);
        let mut gradients: Gradients<B> = decoder.gradients();
        let losses = decoder.tuned_lens_losses(&batch, &tokens, &mut gradients).map_err(ModelError::from)?;
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        if !loss.is_finite() {
            return Err(RlError::Config(format!("the loss of step {step} is not finite; lower --lr")));
        }
        let done = (step - 1) as f64 / config.steps as f64;
        optimizer.set_learning_rate(config.learning_rate * (1.0 - done));
        optimizer.step(&mut decoder, gradients, &Processes::alone())?;
        report(step, loss);
    }
    let after = reverse_kls(&decoder, &held_out, Norm::Tuned)?;
    let fit = |(index, (logit_lens, tuned_lens))| LayerFit { layer: index + 1, logit_lens, tuned_lens };
    let lens = decoder.tuned_lens().ok_or(CoreError::NoTunedLens).map_err(ModelError::from)?;
    Ok((lens, before.into_iter().zip(after).enumerate().map(fit).collect()))
}

/// `count` places of tokens out of `all`, or all of them, in order.
fn drawn(rng: &mut ChaCha8Rng, all: usize, count: usize) -> Vec<u32> {
    let mut tokens: Vec<u32> = index::sample(rng, all, count.min(all)).into_iter().map(|token| token as u32).collect();
    tokens.sort_unstable();
    tokens
}

/// The mean of KL(full || layer) over all response tokens, of every layer below the last.
fn reverse_kls<B: Backend>(decoder: &Decoder<B>, responses: &[Sequence], norm: Norm) -> Result<Vec<f64>, RlError> {
    let layers = decoder.layers.len() - 1;
    let mut sums = vec![0.0; layers];
    for part in responses.chunks(MEASURED_AT_ONCE) {
        for response in measure(decoder, part, MeasureOptions { norm, layers: None })? {
            for site in &response.sites {
                let (PolicySite::Layer(layer), Some(divergence)) = (site.site, &site.policy.divergence) else {
                    continue;
                };
                if layer <= layers {
                    sums[layer - 1] += divergence.reverse_kl.iter().copied().map(f64::from).sum::<f64>();
                }
            }
        }
    }
    let tokens = responses.iter().map(|response| response.response.len()).sum::<usize>() as f64;
    Ok(sums.into_iter().map(|sum| sum / tokens).collect())
}
