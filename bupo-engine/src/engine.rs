//! The interface of engines.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bupo_models::{GenerateOptions, Response};
use serde::{Deserialize, Serialize};

use crate::EngineError;

/// What samples responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The project's own generation, in this process.
    #[default]
    Own,
    /// vLLM servers.
    Vllm,
    /// SGLang servers.
    Sglang,
}

/// Responses to sample from the full policy.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// The token ids of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// Responses per prompt.
    pub samples: usize,
    /// How to sample; `first_row` is the number of the first prompt's first response in the whole.
    pub options: GenerateOptions,
    /// Texts that end a response.
    pub stop: Vec<String>,
}

/// Sampled responses.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollouts {
    /// `samples` responses to each prompt, in the order of the prompts.
    pub responses: Vec<Response>,
    /// The version of the weights that sampled them; `None` if the engine was handed none over.
    pub version: Option<WeightsVersion>,
}

/// A version of the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsVersion {
    /// A name that no other version has.
    pub name: String,
    /// The training step after which they were handed over; 0 before the first.
    pub step: usize,
}

/// Weights on a disk that the engine reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Their version.
    pub version: WeightsVersion,
    /// Where they are.
    pub folders: WeightFolders,
}

/// The folders of a version of the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightFolders {
    /// Parameters of the model.
    Model {
        /// A Hugging Face folder with all parameters.
        base: PathBuf,
        /// A folder with the parameters that differ from those in `base`, if it does not have them all.
        changed: Option<PathBuf>,
    },
    /// PEFT's folder of an adapter of the model that the engine was started with.
    Adapter(PathBuf),
}

/// Called with the number of responses that are complete since its last call.
pub type Report<'a> = dyn Fn(usize) + Sync + 'a;

/// Samples responses, and takes new weights.
pub trait Engine {
    /// Samples `request.samples` responses to each prompt.
    ///
    /// # Errors
    /// If the request cannot be met, or an engine's answers stay wrong or missing after all tries.
    fn sample(&self, request: &SampleRequest, report: &Report<'_>) -> Result<Rollouts, EngineError>;

    /// Samples later requests from these weights.
    ///
    /// # Errors
    /// If an engine does not load them.
    fn load_weights(&self, weights: &Weights) -> Result<(), EngineError>;
}

impl<E: Engine + ?Sized> Engine for &E {
    fn sample(&self, request: &SampleRequest, report: &Report<'_>) -> Result<Rollouts, EngineError> {
        (**self).sample(request, report)
    }

    fn load_weights(&self, weights: &Weights) -> Result<(), EngineError> {
        (**self).load_weights(weights)
    }
}

impl EngineKind {
    /// Whether the engine loads folders that have some of the parameters only, and keeps the others. Tried with vLLM 0.32.
    pub fn takes_changed_weights(self) -> bool {
        self == Self::Vllm
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
        })
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Own, Self::Vllm, Self::Sglang]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("there is no engine `{text}`; give own, vllm or sglang"))
    }
}
