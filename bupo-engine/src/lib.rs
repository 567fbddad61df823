//! What samples responses: the project's own generation, vLLM or SGLang.
//!
//! An [`Engine`] takes prompts and returns tokens with their log-probs, and takes new weights. [`OwnEngine`] generates in this
//! process. [`RemoteEngine`] has one or several vLLM or SGLang servers generate by HTTP: they share the prompts, get weights as
//! Hugging Face folders on a shared disk ([`WeightsFolder`]), and everything they answer is checked before it is used.
//! [`AheadEngine`] samples a request in the background while the trainer works on the one before.

mod ahead;
mod check;
mod engine;
mod error;
mod http;
mod own;
mod protocol;
mod remote;
mod server;
mod weights;

pub use ahead::AheadEngine;
pub use engine::{Engine, EngineKind, Report, Rollouts, SampleRequest, WeightFolders, Weights, WeightsVersion};
pub use error::EngineError;
pub use own::OwnEngine;
pub use remote::{RemoteEngine, RemoteSettings};
pub use weights::WeightsFolder;
