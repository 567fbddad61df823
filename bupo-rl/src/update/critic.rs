//! A critic: the value head on the states of a layer of the trained model, its loss, and its own AdamW.

use bupo_collective::Processes;
use bupo_core::kernels::{AdamWStep, adamw, sum_of_all_squares};
use bupo_core::{Norm, PolicySite, ResidualDecoder};
use bupo_models::decoder::{LayerGradient, SavedActivations};
use bupo_models::{Decoder, Sequence, SequenceBatch};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use serde::Serialize;

use super::adamw::AdamWSettings;
use super::sample::Sample;
use crate::RlError;
use crate::agree::Agree;
use crate::config::CriticConfig;

/// A linear map with a bias from states to values, and AdamW's state of it. Before the first step all values are 0.
#[derive(Debug, Clone)]
pub struct ValueHead<B: Backend> {
    /// The weights and then the bias, `[hidden + 1]`.
    pub parameters: Tensor<B, 1>,
    /// AdamW's moments of them.
    pub moments: [Tensor<B, 1>; 2],
    /// Steps made.
    pub steps: usize,
}

impl<B: Backend> ValueHead<B> {
    /// A head of states of this width.
    pub fn new(hidden_size: usize, device: &B::Device) -> Self {
        let zeros = || Tensor::zeros([hidden_size + 1], device);
        Self { parameters: zeros(), moments: [zeros(), zeros()], steps: 0 }
    }

    /// The values of states `[tokens, hidden]`.
    pub fn values(&self, states: Tensor<B, 2>) -> Vec<f32> {
        let hidden = states.dims()[1];
        let values =
            states.matmul(self.weights().transpose()) + self.parameters.clone().narrow(0, hidden, 1).unsqueeze();
        values.into_data().iter::<f32>().collect()
    }

    /// The gradient with respect to the parameters, from that with respect to the values, `[tokens, 1]`, of `states`
    /// `[tokens, hidden]`.
    pub fn gradient(states: Tensor<B, 2>, d_values: Tensor<B, 2>) -> Tensor<B, 1> {
        let of_weights = d_values.clone().transpose().matmul(states).flatten(0, 1);
        Tensor::cat(vec![of_weights, d_values.sum_dim(0).flatten(0, 1)], 0)
    }

    /// The gradient with respect to the states, `[tokens, hidden]`, from that with respect to their values, `[tokens, 1]`.
    pub fn states_gradient(&self, d_values: Tensor<B, 2>) -> Tensor<B, 2> {
        d_values.matmul(self.weights())
    }

    /// Makes a step of AdamW with a gradient clipped by its norm, which is returned; if it is not finite, nothing changes.
    fn step(&mut self, gradient: Tensor<B, 1>, settings: &AdamWSettings) -> f64 {
        let norm = sum_of_all_squares(vec![gradient.clone()]).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        self.steps += 1;
        let step = AdamWStep {
            learning_rate: settings.learning_rate,
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            weight_decay: settings.weight_decay,
            scale: (settings.max_grad_norm / (norm + 1e-6)).min(1.0),
            step: self.steps,
        };
        let [first, second] = self.moments.clone();
        let (parameters, first, second) = adamw(self.parameters.clone(), gradient, first, second, &step);
        (self.parameters, self.moments) = (parameters, [first, second]);
        norm
    }

    /// `[1, hidden]`.
    fn weights(&self) -> Tensor<B, 2> {
        let hidden = self.parameters.dims()[0] - 1;
        self.parameters.clone().narrow(0, 0, hidden).unsqueeze()
    }
}

/// A value head with the place of its states and its training.
#[derive(Debug, Clone)]
pub struct Critic<B: Backend> {
    config: CriticConfig,
    optimizer: AdamWSettings,
    /// The layer of the states, from 1.
    layer: usize,
    /// The head.
    pub head: ValueHead<B>,
}

/// Statistics of a critic's update. Means are over the mini-batch's response tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CriticStats {
    /// The value loss before the update.
    pub loss: f64,
    /// Share of tokens whose value was clipped.
    pub clip_ratio: f64,
    /// The norm of the head's gradient before clipping; the update is skipped if it is not finite.
    pub grad_norm: f64,
}

impl<B: Backend> Critic<B> {
    /// A critic of a decoder before its first step, with the settings of AdamW but for its learning rate.
    ///
    /// # Errors
    /// If its site is outside the model.
    pub fn new(config: CriticConfig, optimizer: &AdamWSettings, decoder: &Decoder<B>) -> Result<Self, RlError> {
        let hidden_size = decoder.embed_tokens.weight.dims()[1];
        Ok(Self {
            optimizer: AdamWSettings { learning_rate: config.learning_rate, ..*optimizer },
            layer: config.site.depth(decoder.num_layers())?,
            head: ValueHead::new(hidden_size, &decoder.device()),
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &CriticConfig {
        &self.config
    }

    /// The values of every response token: those of the states that predict them, `max_tokens_per_batch` tokens at a time.
    ///
    /// # Errors
    /// If the layer is outside the model.
    pub fn values(
        &self,
        decoder: &Decoder<B>,
        sequences: &[Sequence],
        max_tokens_per_batch: usize,
    ) -> Result<Vec<Vec<f32>>, RlError> {
        let decoder = &decoder.for_many_rows(self.layer);
        let mut all = Vec::with_capacity(sequences.len());
        for part in decoder.batches(sequences, |sequence| sequence, max_tokens_per_batch) {
            let batch = decoder.batch(part.iter());
            let values = self.head.values(self.states(decoder, None, &batch)?);
            all.extend(batch.split(&values).map(<[f32]>::to_vec));
        }
        Ok(all)
    }

    /// Makes a step of the head alone on a process's samples of a mini-batch of this many response tokens.
    ///
    /// # Errors
    /// If a process fails.
    pub(crate) fn update_alone(
        &mut self,
        decoder: &Decoder<B>,
        samples: &[Sample],
        tokens: usize,
        max_tokens_per_batch: usize,
        processes: &Processes,
    ) -> Result<CriticStats, RlError> {
        let mut pass = ValuePass::new(tokens);
        let decoder = &decoder.for_many_rows(self.layer);
        let parts = decoder.batches(samples, |sample| &sample.sequence, max_tokens_per_batch);
        let own = parts.into_iter().try_for_each(|part| {
            let batch = decoder.batch(part.iter().map(|sample| &sample.sequence));
            pass.add(self, decoder, None, &batch, part).map(drop)
        });
        processes.agreed(own)?;
        self.step(pass, processes)
    }

    /// Sums over the processes and makes the step.
    pub(super) fn step(&mut self, pass: ValuePass<B>, processes: &Processes) -> Result<CriticStats, RlError> {
        let ValuePass { gradient, loss, clipped, tokens } = pass;
        let sums = processes.agreed(Ok((loss, clipped)))?;
        let gradient = gradient.unwrap_or_else(|| self.head.parameters.zeros_like());
        let grad_norm = self.head.step(processes.sum(gradient)?, &self.optimizer);
        Ok(CriticStats {
            loss: sums.iter().map(|(loss, _)| loss).sum(),
            clip_ratio: sums.iter().map(|(_, clipped)| clipped).sum::<usize>() as f64 / tokens.max(1) as f64,
            grad_norm,
        })
    }

    /// The states of the response tokens `[tokens, hidden]`, after the final norm, in f32: those of a policy's forward pass that has
    /// them, otherwise of a pass of their own.
    fn states(
        &self,
        decoder: &Decoder<B>,
        saved: Option<&SavedActivations<B>>,
        batch: &SequenceBatch,
    ) -> Result<Tensor<B, 2>, RlError> {
        let states = match saved.and_then(|saved| decoder.layer_states(saved, self.layer, Norm::Final)) {
            Some(states) => states,
            None => {
                let (tokens, mut context) = (batch.tokens(&decoder.device()), decoder.batch_context(batch));
                decoder.site_state(tokens, PolicySite::Layer(self.layer), Norm::Final, &mut context)?.flatten(0, 1)
            }
        };
        Ok(batch.gather_states(states).cast(DType::F32))
    }
}

/// The value loss of an update and its gradient, summed over micro-batches.
pub(crate) struct ValuePass<B: Backend> {
    gradient: Option<Tensor<B, 1>>,
    loss: f64,
    /// Tokens whose value was clipped.
    clipped: usize,
    /// Response tokens of the mini-batch, over which the loss is the mean.
    tokens: usize,
}

impl<B: Backend> ValuePass<B> {
    pub(super) fn new(tokens: usize) -> Self {
        Self { gradient: None, loss: 0.0, clipped: 0, tokens }
    }

    /// Adds a micro-batch of `samples`. Returns the gradient of the model's loss with respect to the states of the critic's layer, unless
    /// the model is a constant in it. Responses without targets have no loss.
    pub(super) fn add(
        &mut self,
        critic: &Critic<B>,
        decoder: &Decoder<B>,
        saved: Option<&SavedActivations<B>>,
        batch: &SequenceBatch,
        samples: &[Sample],
    ) -> Result<Option<LayerGradient<B>>, RlError> {
        if batch.targets.is_empty() {
            return Ok(None);
        }
        let states = critic.states(decoder, saved, batch)?;
        let values = critic.head.values(states.clone());
        let weight = 1.0 / self.tokens.max(1) as f64;
        let mut d_values = Vec::with_capacity(values.len());
        for (sample, values) in samples.iter().zip(batch.split(&values)) {
            let Some(targets) = &sample.critic else {
                d_values.extend(std::iter::repeat_n(0.0, values.len()));
                continue;
            };
            let loss = targets.loss(values, critic.config.clip_value);
            self.loss += weight * loss.loss;
            self.clipped += loss.clipped;
            d_values.extend(loss.d_values.iter().map(|d| (weight * d) as f32));
        }
        let count = d_values.len();
        let d_values = Tensor::from_data(TensorData::new(d_values, [count, 1]), &decoder.device());
        let gradient = ValueHead::gradient(states, d_values.clone());
        self.gradient = Some(match self.gradient.take() {
            Some(sum) => sum + gradient,
            None => gradient,
        });
        let Some(weight) = critic.config.model_weight() else { return Ok(None) };
        let d_states = batch.scatter_grad(critic.head.states_gradient(d_values * weight));
        Ok(Some(LayerGradient { layer: critic.layer, norm: Norm::Final, d_states }))
    }
}
