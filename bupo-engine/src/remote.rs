//! Servers that share the prompts of a request.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bupo_core::PolicySite;
use bupo_models::{ModelConfig, Response};

use crate::check;
use crate::http::{CallError, Http};
use crate::protocol::protocol;
use crate::server::{Calls, Server};
use crate::{Engine, EngineError, EngineKind, Report, Rollouts, SampleRequest, Weights};

/// How often a prompt is sent before the request fails.
const ATTEMPTS: usize = 3;
/// Seeds are signed numbers of 64 bits for servers; responses count upwards from a request's seed.
const SEED_BITS: u32 = 62;

/// Servers and how they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSettings {
    /// The kind of all servers.
    pub kind: EngineKind,
    /// Their addresses.
    pub urls: Vec<String>,
    /// The limit of each call, and of waiting for a server that is gone.
    pub timeout: Duration,
    /// Prompts that a server works on at once.
    pub concurrency: usize,
}

/// One or several servers with the same model. They share the prompts of a request; a server that fails is waited for, handed its
/// weights over again if it has lost them, and asked again.
#[derive(Debug)]
pub struct RemoteEngine {
    servers: Vec<Server>,
    calls: Calls,
    concurrency: usize,
    /// The config of the model here.
    config: ModelConfig,
    /// What every server was handed over last.
    weights: Mutex<Option<Weights>>,
}

impl RemoteEngine {
    /// Connects to the servers, which must serve the model with this config. `max_tokens`: the longest prompt and response together.
    ///
    /// # Errors
    /// If a server does not answer, its context is too short, or it was started with the folder of a model of other sizes.
    pub fn connect(settings: &RemoteSettings, config: &ModelConfig, max_tokens: usize) -> Result<Self, EngineError> {
        let none = || EngineError::Unsupported("the own generation has no servers".into());
        let timeout = settings.timeout;
        let calls = Calls { http: Http::new(timeout), protocol: protocol(settings.kind).ok_or_else(none)?, timeout };
        let servers = settings.urls.iter().map(|url| Server::connect(url, &calls)).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(EngineError::Unsupported(format!(
                "the engine {} has no address; give that of its server, such as http://127.0.0.1:8000",
                settings.kind
            )));
        }
        for server in &servers {
            if let Some(served) = server.config() {
                check_sizes(&server.url, &served, config)?;
            }
            if let Some(limit) = server.model.max_tokens.filter(|limit| *limit < max_tokens) {
                return Err(EngineError::Context { url: server.url.clone(), limit, tokens: max_tokens });
            }
        }
        Ok(Self {
            servers,
            calls,
            concurrency: settings.concurrency.max(1),
            config: config.clone(),
            weights: Mutex::default(),
        })
    }

    /// The address and the model of each server.
    pub fn models(&self) -> impl Iterator<Item = (&str, &str)> {
        self.servers.iter().map(|server| (server.url.as_str(), server.model.name.as_str()))
    }

    /// Fails if a server is paused, so that it would never answer. A hand-over of weights ends a pause.
    ///
    /// # Errors
    /// If a server is paused.
    pub fn check_running(&self) -> Result<(), EngineError> {
        match self.servers.iter().find(|server| server.model.paused) {
            Some(server) => Err(EngineError::Unsupported(format!(
                "the server at {url} is paused; resume it by POST {url}/resume, or restart it",
                url = server.url
            ))),
            None => Ok(()),
        }
    }

    /// Whether a server was started with a folder whose unembedding is not tied to the embedding, unlike the model here: it needs
    /// the unembedding as a parameter of its own.
    pub fn needs_unembedding(&self) -> bool {
        let is_untied = |server: &Server| server.config().is_some_and(|config| !config.tie_word_embeddings);
        self.config.tie_word_embeddings && self.servers.iter().any(is_untied)
    }

    /// Whether all servers load adapters while they run.
    pub fn takes_adapters(&self) -> bool {
        self.servers.iter().all(|server| server.model.takes_adapters)
    }

    /// How often servers were brought back after failures, since the run was started.
    pub fn recoveries(&self) -> u64 {
        self.servers.iter().map(Server::recoveries).sum()
    }
}

impl Engine for RemoteEngine {
    /// The responses to a prompt are complete at the same time.
    fn sample(&self, request: &SampleRequest, report: &Report<'_>) -> Result<Rollouts, EngineError> {
        if request.options.site != PolicySite::Full {
            return Err(EngineError::Unsupported(format!(
                "a server samples the full policy only, not {}; use the own generation",
                request.options.site
            )));
        }
        let weights = lock(&self.weights).clone();
        let share = Share {
            engine: self,
            request,
            report,
            weights: weights.as_ref(),
            queue: Mutex::new((0..request.prompts.len()).map(|index| (index, 0)).collect()),
            done: Mutex::new(vec![None; request.prompts.len()]),
            failed: Mutex::default(),
        };
        thread::scope(|scope| {
            for server in &self.servers {
                for _ in 0..self.concurrency.min(request.prompts.len()) {
                    scope.spawn(|| share.work(server));
                }
            }
        });
        if let Some(error) = lock(&share.failed).take() {
            return Err(error);
        }
        let done = share.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let responses = done.into_iter().flatten().flatten().collect();
        Ok(Rollouts { responses, version: weights.map(|weights| weights.version) })
    }

    fn load_weights(&self, weights: &Weights) -> Result<(), EngineError> {
        // Set first: a server that comes back while others load gets the new ones.
        *lock(&self.weights) = Some(weights.clone());
        thread::scope(|scope| {
            let loading: Vec<_> =
                self.servers.iter().map(|server| scope.spawn(move || server.load(&self.calls, weights))).collect();
            // All are waited for, also after a failure.
            let loaded: Vec<_> = loading
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            loaded.into_iter().collect()
        })
    }
}

/// Compares the sizes of a served model with those of the model here.
fn check_sizes(url: &str, served: &ModelConfig, here: &ModelConfig) -> Result<(), EngineError> {
    let sizes = |config: &ModelConfig| {
        [
            ("hidden_size", config.hidden_size),
            ("num_hidden_layers", config.num_hidden_layers),
            ("intermediate_size", config.intermediate_size),
            ("vocab_size", config.vocab_size),
        ]
    };
    match sizes(served).into_iter().zip(sizes(here)).find(|(served, here)| served != here) {
        Some(((name, served), (_, here))) => Err(EngineError::Unsupported(format!(
            "the server at {url} serves another model: its {name} is {served}, not {here}; give the same --model here, or start the \
             server with this one"
        ))),
        None => Ok(()),
    }
}

/// A request that several threads work on.
struct Share<'a> {
    engine: &'a RemoteEngine,
    request: &'a SampleRequest,
    report: &'a Report<'a>,
    weights: Option<&'a Weights>,
    /// Indices of prompts, each with the number of failures so far.
    queue: Mutex<VecDeque<(usize, usize)>>,
    done: Mutex<Vec<Option<Vec<Response>>>>,
    failed: Mutex<Option<EngineError>>,
}

impl Share<'_> {
    /// Samples prompts from the queue on one server until none is left or the request has failed.
    fn work(&self, server: &Server) {
        while let Some((index, failures)) = self.next() {
            let recoveries = server.recoveries();
            let failure = match self.sample(server, index) {
                Ok(responses) => {
                    (self.report)(responses.len());
                    lock(&self.done)[index] = Some(responses);
                    continue;
                }
                Err(failure) => failure,
            };
            let url = || server.url.clone();
            // 429 says that the server has too much to do; other errors of the request do not go away.
            if let CallError::Status(status @ 400..=428 | status @ 430..=499, message) = failure {
                return self.fail(EngineError::Refused { url: url(), status, message });
            }
            if failures + 1 == ATTEMPTS {
                return self.fail(EngineError::Failed { url: url(), attempts: ATTEMPTS, reason: failure.to_string() });
            }
            // Other servers may take the prompt meanwhile.
            lock(&self.queue).push_front((index, failures + 1));
            if let Err(error) = server.recover(&self.engine.calls, self.weights, recoveries) {
                return self.fail(error);
            }
        }
    }

    fn next(&self) -> Option<(usize, usize)> {
        if lock(&self.failed).is_some() { None } else { lock(&self.queue).pop_front() }
    }

    fn sample(&self, server: &Server, index: usize) -> Result<Vec<Response>, CallError> {
        let row = self.request.options.first_row + index * self.request.samples;
        let seed = (self.request.options.seed >> (u64::BITS - SEED_BITS)) + row as u64;
        let prompt = &self.request.prompts[index];
        let completed = server.complete(&self.engine.calls, self.request, prompt, seed, self.weights)?;
        let mut responses = check::responses(completed.answers, self.request, self.engine.config.vocab_size)
            .map_err(CallError::Answer)?;
        // Responses of greedy decoding are equal.
        while responses.len() < self.request.samples {
            responses.push(responses[0].clone());
        }
        Ok(responses)
    }

    /// Ends the request. The first failure is reported.
    fn fail(&self, error: EngineError) {
        lock(&self.failed).get_or_insert(error);
    }
}

/// Locks a value that is valid even if another thread panicked: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
