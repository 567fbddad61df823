//! One server: its model, the weights it has, and how it is brought back after a failure.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bupo_models::pretrained::load_config;
use bupo_models::{ModelConfig, ModelFiles};

use crate::http::{CallError, Http};
use crate::protocol::{Address, Completed, Protocol, ServedModel};
use crate::{EngineError, SampleRequest, WeightFolders, Weights};

/// Between two looks whether a server is back.
const POLL: Duration = Duration::from_millis(500);
/// How long a server may take to answer when a run starts.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that samples.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) model: ServedModel,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The folder with all parameters that the server has loaded since it was started.
    base: Option<PathBuf>,
    /// The name of the adapter that the server has loaded since it was started.
    adapter: Option<String>,
    /// How often the server was brought back.
    recoveries: u64,
}

/// Why a server could not be brought back.
enum Restore {
    /// It does not answer, yet.
    Gone(CallError),
    /// It answers that it cannot load the weights.
    NotLoaded(EngineError),
}

/// How servers are called.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) http: Http,
    pub(crate) protocol: Box<dyn Protocol>,
    /// The limit of each call, and of waiting for a server to come back.
    pub(crate) timeout: Duration,
}

impl Server {
    /// Looks which model the server has.
    pub(crate) fn connect(url: &str, calls: &Calls) -> Result<Self, EngineError> {
        let url = url.trim_end_matches('/').to_string();
        let invalid = |reason: &str| EngineError::Url { url: url.clone(), reason: reason.into() };
        match url.parse::<ureq::http::Uri>() {
            Ok(uri) if uri.scheme().is_none() || uri.host().is_none() => {
                return Err(invalid("it does not begin with http:// or https://"));
            }
            Ok(_) => {}
            Err(error) => return Err(invalid(&error.to_string())),
        }
        let http = Http::new(START_TIMEOUT.min(calls.timeout));
        let model = calls.protocol.model(&http, &url).map_err(|error| EngineError::Unreachable {
            url: url.clone(),
            waited: None,
            reason: error.to_string(),
        })?;
        Ok(Self { url, model, state: Mutex::default() })
    }

    /// The config of the folder that the server was started with, if it can be read here.
    pub(crate) fn config(&self) -> Option<ModelConfig> {
        let folder = Path::new(&self.model.root);
        if !folder.join("config.json").is_file() {
            return None;
        }
        load_config(&ModelFiles::folder(folder).ok()?).ok()
    }

    /// How often the server was brought back after a failure.
    pub(crate) fn recoveries(&self) -> u64 {
        self.state().recoveries
    }

    /// The responses to one prompt. `weights`: those that must have sampled them.
    pub(crate) fn complete(
        &self,
        calls: &Calls,
        request: &SampleRequest,
        prompt: &[u32],
        seed: u64,
        weights: Option<&Weights>,
    ) -> Result<Completed, CallError> {
        let adapter = weights
            .filter(|weights| matches!(weights.folders, WeightFolders::Adapter(_)))
            .map(|weights| weights.version.name.as_str());
        let address = Address { url: &self.url, model: &self.model.name, adapter };
        let completed = calls.protocol.complete(&calls.http, address, request, prompt, seed)?;
        match (weights, &completed.version) {
            (Some(weights), Some(version)) if *version != weights.version.name => Err(CallError::Version(format!(
                "it has the weights `{version}`, not `{}` that it was handed over",
                weights.version.name
            ))),
            _ => Ok(completed),
        }
    }

    /// Loads weights: the folder with all parameters if the server does not have it, then the changed ones. A server that is gone is
    /// waited for.
    pub(crate) fn load(&self, calls: &Calls, weights: &Weights) -> Result<(), EngineError> {
        let recoveries = self.recoveries();
        let loaded = self.load_into(&mut self.state(), calls, weights);
        match loaded {
            Err((_, failure)) if failure.is_of_the_connection() => self.recover(calls, Some(weights), recoveries),
            loaded => loaded.map_err(|failure| self.not_loaded(failure)),
        }
    }

    fn load_into<'a>(
        &self,
        state: &mut State,
        calls: &Calls,
        weights: &'a Weights,
    ) -> Result<(), (&'a Path, CallError)> {
        let name = &weights.version.name;
        let (base, changed) = match &weights.folders {
            WeightFolders::Model { base, changed } => (base, changed),
            WeightFolders::Adapter(folder) => {
                let before = state.adapter.take();
                let loaded = calls.protocol.load_adapter(&calls.http, &self.url, folder, name, before.as_deref());
                loaded.map_err(|failure| (folder.as_path(), failure))?;
                state.adapter = Some(name.clone());
                return Ok(());
            }
        };
        let is_missing = state.base.as_ref() != Some(base);
        let folders: Vec<&Path> = is_missing.then_some(base.as_path()).into_iter().chain(changed.as_deref()).collect();
        state.base = None;
        calls.protocol.load(&calls.http, &self.url, &folders, name, calls.timeout)?;
        state.base = Some(base.clone());
        Ok(())
    }

    fn not_loaded(&self, (folder, failure): (&Path, CallError)) -> EngineError {
        EngineError::Weights { url: self.url.clone(), folder: folder.to_path_buf(), reason: failure.to_string() }
    }

    /// Waits until the server answers again after a failure, and loads the weights if it has others. `recoveries`: those before the
    /// failed request; if there were more since, nothing is left to do.
    pub(crate) fn recover(&self, calls: &Calls, weights: Option<&Weights>, recoveries: u64) -> Result<(), EngineError> {
        let mut state = self.state();
        if state.recoveries != recoveries {
            return Ok(());
        }
        let started = Instant::now();
        loop {
            let failure = match self.restore(&mut state, calls, weights) {
                Ok(()) => {
                    state.recoveries += 1;
                    return Ok(());
                }
                Err(Restore::NotLoaded(error)) => return Err(error),
                Err(Restore::Gone(failure)) => failure,
            };
            if started.elapsed() >= calls.timeout {
                return Err(EngineError::Unreachable {
                    url: self.url.clone(),
                    waited: Some(started.elapsed().as_secs()),
                    reason: failure.to_string(),
                });
            }
            thread::sleep(POLL.min(calls.timeout));
        }
    }

    /// Loads the weights if the server answers and has others.
    fn restore(&self, state: &mut State, calls: &Calls, weights: Option<&Weights>) -> Result<(), Restore> {
        let has_weights = self.answers(calls, weights).map_err(Restore::Gone)?;
        let Some(weights) = weights.filter(|_| !has_weights) else { return Ok(()) };
        (state.base, state.adapter) = (None, None);
        self.load_into(state, calls, weights).map_err(|failure| {
            if failure.1.is_of_the_connection() {
                Restore::Gone(failure.1)
            } else {
                Restore::NotLoaded(self.not_loaded(failure))
            }
        })
    }

    /// Whether the server has these weights, if it answers at all. A server that has no names for weights may be another process
    /// than before, so that it does not count as having them.
    fn answers(&self, calls: &Calls, weights: Option<&Weights>) -> Result<bool, CallError> {
        let http = Http::new(START_TIMEOUT.min(calls.timeout));
        calls.protocol.model(&http, &self.url)?;
        let Some(weights) = weights else { return Ok(true) };
        let name = &weights.version.name;
        match weights.folders {
            WeightFolders::Adapter(_) => calls.protocol.has_adapter(&http, &self.url, name),
            WeightFolders::Model { .. } => Ok(calls.protocol.version(&http, &self.url)?.as_ref() == Some(name)),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is valid after a panic: `base` is set last.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
