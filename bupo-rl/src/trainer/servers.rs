//! Rollouts by inference servers: hand-overs of weights, sampling ahead, and the check that servers and trainer agree.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bupo_core::{PolicySite, SamplingParams};
use bupo_engine::{AheadEngine, Engine, OwnEngine, RemoteEngine, SampleRequest, WeightsFolder};
use bupo_eval::{Group, Sampler};
use bupo_models::adapter::Adapter;
use bupo_models::decoder::{NamedTensor, named_tensors_up_to};
use bupo_models::{ComputeDtype, ModelConfig, SaveDtype, Sequence};
use burn::tensor::backend::Backend;

use super::{Trainer, Warning, WarningKind};
use crate::RlError;
use crate::config::{RolloutConfig, TrainConfig};
use crate::phases::{first_responses, sampling_logp_difference};
use crate::rollout::training_sampling;

/// Responses by which a hand-over is checked that no step is sampled from at once, and their length.
const CHECKED: usize = 4;
const CHECKED_TOKENS: usize = 64;

/// A difference above this many nats, and this many times the first one, is taken for weights that were not loaded: rounding does
/// not grow.
const GROWN_DIFFERENCE: f64 = 1e-4;
const GROWN_TIMES: f64 = 20.0;

/// The servers that sample for a run.
pub(super) struct Servers {
    engine: AheadEngine,
    folder: WeightsFolder,
    /// The layers, from the first, that training has changed since the newest version with all parameters.
    changed_layers: usize,
    /// Whether training has changed the weights since they were handed over.
    is_outdated: bool,
    /// The distances after the first and the last hand-over that were checked.
    first_difference: Option<f64>,
    last_difference: Option<f64>,
    /// How often servers had been brought back before this step.
    recoveries: u64,
    /// The time that hand-overs have taken in this process.
    handing_over: Duration,
}

/// Connects to the servers of a run, before its model is loaded; `None` if it has none.
///
/// # Errors
/// If a server does not answer, or its context is too short.
pub(super) fn connect(config: &TrainConfig, model: &ModelConfig) -> Result<Option<RemoteEngine>, RlError> {
    let rollout = &config.rollout;
    if !rollout.has_servers() {
        return Ok(None);
    }
    let prompt = if config.data.is_embedded_task() { 1 } else { config.data.max_prompt_tokens };
    Ok(Some(RemoteEngine::connect(&rollout.servers(), model, prompt + config.longest_response())?))
}

impl Servers {
    /// # Errors
    /// If the folder of handed-over weights cannot be written.
    pub(super) fn new(engine: RemoteEngine, rollout: &RolloutConfig, run: &Path) -> Result<Self, RlError> {
        Ok(Self {
            engine: AheadEngine::new(engine),
            folder: WeightsFolder::create(&weights_folder(rollout, run))?,
            changed_layers: 0,
            is_outdated: true,
            first_difference: None,
            last_difference: None,
            recoveries: 0,
            handing_over: Duration::ZERO,
        })
    }

    /// Waits for requests in flight.
    pub(super) fn wait(&self) {
        self.engine.wait();
    }

    fn handed_over(&mut self, started: Instant) -> Result<(), RlError> {
        self.folder.prune()?;
        self.is_outdated = false;
        self.handing_over += started.elapsed();
        Ok(())
    }

    /// Says that training has changed the first `layers` layers, the embedding and the unembedding.
    fn outdated(&mut self, layers: usize) {
        self.changed_layers = self.changed_layers.max(layers);
        self.is_outdated = true;
    }
}

/// The folder of a run's handed-over weights.
pub(crate) fn weights_folder(rollout: &RolloutConfig, run: &Path) -> PathBuf {
    let Some(folder) = &rollout.weights_dir else { return run.join("weights") };
    // Runs that share a disk have folders of their own.
    let mut hasher = DefaultHasher::new();
    std::path::absolute(run).unwrap_or_else(|_| run.to_path_buf()).hash(&mut hasher);
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    folder.join(format!("{name}-{:08x}", hasher.finish() as u32))
}

impl<B: Backend> Trainer<'_, B> {
    /// What samples: the run's servers, or the own generation.
    pub(super) fn engine(&self) -> Box<dyn Engine + '_> {
        match &self.servers {
            Some(servers) => Box::new(&servers.engine),
            None => Box::new(OwnEngine::new(&self.model.decoder, &self.tokenizer)),
        }
    }

    /// Says that training has changed the parameters of a policy site, so that servers need them.
    pub(super) fn outdate_servers(&mut self, site: PolicySite) {
        let layers = self.model.config.num_hidden_layers;
        if let Some(servers) = &mut self.servers {
            // The site is in the model: training has run it.
            servers.outdated(site.depth(layers).unwrap_or(layers));
        }
    }

    /// Hands the present weights over to the servers, unless they have them.
    pub(super) fn hand_over(&mut self) -> Result<(), RlError> {
        let layers = self.model.config.num_hidden_layers;
        let Some(servers) = self.servers.as_mut().filter(|servers| servers.is_outdated) else { return Ok(()) };
        servers.wait();
        let started = Instant::now();
        if self.model.decoder.has_adapter() && servers.engine.servers().takes_adapters() {
            let adapter = Adapter::of(&self.model.decoder, &self.config.lora);
            let weights = servers.folder.write_adapter(self.state.step, &adapter)?;
            servers.engine.load_weights(&weights)?;
            return servers.handed_over(started);
        }
        let in_part = self.config.rollout.engine.takes_changed_weights() && servers.folder.has_base();
        let has_all = !in_part || servers.changed_layers == layers;
        // Whole weights need no support of adapters.
        let decoder = self.model.decoder.clone().merged();
        let mut tensors = named_tensors_up_to(&decoder, if has_all { layers } else { servers.changed_layers });
        if servers.engine.servers().needs_unembedding() {
            let embedding = tensors.iter().find(|tensor| tensor.name == "model.embed_tokens.weight").cloned();
            tensors.extend(embedding.map(|embedding| NamedTensor { name: "lm_head.weight".into(), ..embedding }));
        }
        let dtype = match self.model.decoder.compute_dtype() {
            ComputeDtype::F32 => SaveDtype::F32,
            ComputeDtype::Bf16 => SaveDtype::Bf16,
        };
        let weights = servers.folder.write(self.state.step, tensors, has_all, &self.model.assets, dtype)?;
        servers.engine.load_weights(&weights)?;
        if has_all {
            servers.changed_layers = 0;
        }
        servers.handed_over(started)
    }

    /// The time that hand-overs have taken in this process; `None` without servers.
    pub(super) fn handing_over(&self) -> Option<Duration> {
        self.servers.as_ref().map(|servers| servers.handing_over)
    }

    /// Starts sampling `step` with the present weights, if the run samples ahead.
    pub(super) fn sample_ahead(&mut self, step: usize) -> Result<(), RlError> {
        if self.config.rollout.ahead == 0 || step > self.state.schedule.steps() {
            return Ok(());
        }
        self.hand_over()?;
        let draw = self.state.draws + 1;
        let questions = self.questions.training(draw, &self.state.curriculum)?;
        let sampling = training_sampling(&self.config.rollout, self.config.seed, draw);
        let Some(servers) = &self.servers else { return Ok(()) };
        let request =
            Sampler::new(&servers.engine, &self.tokenizer, &self.model.eos_token_ids).request(&questions, 0, &sampling);
        let difference = self.difference_of(&request)?;
        self.check_difference(difference)?;
        if let Some(servers) = &self.servers {
            servers.engine.start(request);
        }
        Ok(())
    }

    /// The difference between servers and trainer on a few short responses to a request's prompts.
    fn difference_of(&self, request: &SampleRequest) -> Result<Option<f64>, RlError> {
        let mut few = SampleRequest { samples: 1, ..request.clone() };
        few.prompts.truncate(CHECKED);
        few.options.max_new_tokens = few.options.max_new_tokens.min(CHECKED_TOKENS);
        let responses = self.engine().sample(&few, &|_| ())?.responses;
        let (sequences, sampled): (Vec<_>, Vec<_>) = few
            .prompts
            .into_iter()
            .zip(responses)
            .map(|(prompt, response)| (Sequence { prompt, response: response.tokens }, response.log_probs))
            .unzip();
        let (temperature, at_once) = (few.options.temperature, self.config.update.max_tokens_per_batch);
        let difference = sampling_logp_difference(&self.model.decoder, &sequences, &sampled, temperature, at_once)?;
        Ok(difference.map(|difference| difference.mean))
    }

    /// Checks the first responses of an evaluation, which are of the present weights.
    pub(super) fn check_evaluation(&mut self, groups: &[Group]) -> Result<(), RlError> {
        if self.servers.is_none() {
            return Ok(());
        }
        // Servers' log-probs of restricted or greedy sampling are of another distribution than the trainer's.
        let sampling = self.config.evaluation.samplings(self.config.rollout.max_new_tokens)[0];
        if sampling.temperature == 0.0 || sampling.params != SamplingParams::default() {
            return Ok(());
        }
        let (sequences, sampled) = first_responses(groups);
        let (temperature, at_once) = (sampling.temperature, self.config.update.max_tokens_per_batch);
        let difference = sampling_logp_difference(&self.model.decoder, &sequences, &sampled, temperature, at_once)?;
        self.check_difference(difference.map(|difference| difference.mean))
    }

    /// Stops the run if the servers' log-probs, sampled with the present weights, are too far from the trainer's.
    pub(super) fn check_difference(&mut self, difference: Option<f64>) -> Result<(), RlError> {
        let max = self.config.rollout.max_logp_difference;
        let (Some(servers), Some(mean)) = (&mut self.servers, difference) else { return Ok(()) };
        if mean <= max {
            servers.first_difference.get_or_insert(mean);
            servers.last_difference = Some(mean);
            return Ok(());
        }
        Err(RlError::EngineDifference { mean, max, before: servers.last_difference })
    }

    /// Warnings if servers had to be brought back since the last step, or seem to have a part of the newest weights only.
    pub(super) fn server_warnings(&mut self) -> Vec<Warning> {
        let Some(servers) = &mut self.servers else { return Vec::new() };
        let recoveries = servers.engine.servers().recoveries();
        let times = recoveries - std::mem::replace(&mut servers.recoveries, recoveries);
        let recovered = (times > 0).then(|| Warning {
            kind: WarningKind::ServerRecovered,
            text: format!(
                "a server failed and was brought back {times} times in this step; see its log, and give it less to do \
                 (rollout.concurrency) if it is overloaded"
            ),
        });
        let (first, last) = (servers.first_difference.unwrap_or(0.0), servers.last_difference.unwrap_or(0.0));
        let grown = (last > GROWN_DIFFERENCE && last > GROWN_TIMES * first).then(|| Warning {
            kind: WarningKind::SamplingLogpDifference,
            text: format!(
                "the mean difference of log-probs between servers and trainer has grown from {first:.1e} nats to {last:.1e} since the \
                 first hand-over: servers may have loaded a part of the newest weights only; docs/engines.md has a known case, vLLM \
                 on CPUs"
            ),
        });
        recovered.into_iter().chain(grown).collect()
    }
}
