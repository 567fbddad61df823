//! Sampling in the background.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::{Engine, EngineError, RemoteEngine, Report, Rollouts, SampleRequest, Weights};

/// Servers that sample a request before its responses are needed.
#[derive(Debug)]
pub struct AheadEngine {
    engine: Arc<RemoteEngine>,
    /// The request that was started, and its responses or the thread that waits for them.
    started: Mutex<Option<(SampleRequest, Pending)>>,
}

#[derive(Debug)]
enum Pending {
    Running(JoinHandle<Result<Rollouts, EngineError>>),
    Done(Result<Rollouts, EngineError>),
}

impl AheadEngine {
    /// Nothing is sampled ahead until [`AheadEngine::start`].
    pub fn new(engine: RemoteEngine) -> Self {
        Self { engine: Arc::new(engine), started: Mutex::default() }
    }

    /// The servers.
    pub fn servers(&self) -> &RemoteEngine {
        &self.engine
    }

    /// Samples a request in the background, with the weights that the servers have. Its responses are returned when the same
    /// request is sampled.
    pub fn start(&self, request: SampleRequest) {
        let (engine, sampled) = (Arc::clone(&self.engine), request.clone());
        let thread = thread::spawn(move || engine.sample(&sampled, &|_| ()));
        *self.lock() = Some((request, Pending::Running(thread)));
    }

    /// Waits for what is sampled in the background, so that the servers are free.
    pub fn wait(&self) {
        let mut started = self.lock();
        *started = started.take().map(|(request, pending)| (request, Pending::Done(pending.join())));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(SampleRequest, Pending)>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for AheadEngine {
    /// Responses that were sampled ahead are reported at once.
    fn sample(&self, request: &SampleRequest, report: &Report<'_>) -> Result<Rollouts, EngineError> {
        let started = self.lock().take_if(|(started, _)| started == request);
        match started {
            Some((_, pending)) => pending.join().inspect(|rollouts| report(rollouts.responses.len())),
            None => {
                self.wait();
                self.engine.sample(request, report)
            }
        }
    }

    fn load_weights(&self, weights: &Weights) -> Result<(), EngineError> {
        self.wait();
        self.engine.load_weights(weights)
    }
}

impl Pending {
    fn join(self) -> Result<Rollouts, EngineError> {
        match self {
            Self::Done(rollouts) => rollouts,
            Self::Running(thread) => match thread.join() {
                Ok(rollouts) => rollouts,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}
