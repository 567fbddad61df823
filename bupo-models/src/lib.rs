//! Qwen3, Qwen2 (2.5), Llama and Mistral checkpoints as residual streams: loaded, run layer by layer, sampled and saved
//! in the layout of Hugging Face.
//!
//! Splitting a stream into the contributions of its layers:
//!
//! ```
//! use bupo_core::ResidualDecoder;
//! use bupo_models::generate::padded_tokens;
//! use bupo_models::{ModelFiles, load_model};
//! use burn::backend::Flex;
//!
//! # fn main() -> Result<(), bupo_models::ModelError> {
//! let device = Default::default();
//! let files = ModelFiles::folder("../tests/reference/qwen3-tied".as_ref())?;
//! let decoder = load_model::<Flex>(&files, &device)?.decoder;
//!
//! let mut context = decoder.prefill_context(3);
//! let mut stream = decoder.stream(padded_tokens(&[vec![5, 17, 80]], &device), &mut context);
//! let mut sum = stream.state();
//! for layer in stream.by_ref() {
//!     sum = sum + layer.attn.output + layer.ffn.output;
//! }
//! let difference: f32 = (sum - stream.state()).abs().max().into_scalar();
//! assert!(difference < 1e-4);
//! # Ok(())
//! # }
//! ```
//!
//! Statistics of all internal policies on a response:
//!
//! ```
//! use bupo_models::{MeasureOptions, ModelFiles, Sequence, load_model, measure};
//! use burn::backend::Flex;
//!
//! # fn main() -> Result<(), bupo_models::ModelError> {
//! # let files = ModelFiles::folder("../tests/reference/qwen3-tied".as_ref())?;
//! let decoder = load_model::<Flex>(&files, &Default::default())?.decoder;
//! let sequence = Sequence { prompt: vec![5, 17], response: vec![80, 4, 2] };
//! for site in &measure(&decoder, &[sequence], MeasureOptions::default())?[0].sites {
//!     let change: Vec<f32> = site.entropy_change().collect();
//!     println!("{}: entropy {:?}, change {change:?}", site.site, site.policy.entropy);
//! }
//! # Ok(())
//! # }
//! ```

pub mod adapter;
mod attribution;
pub mod decoder;
mod dtype;
mod error;
pub mod families;
pub mod generate;
mod layer_states;
mod lens;
mod measure;
pub mod pretrained;
mod sequence;
pub mod tokenizer;
mod trace;
mod tuned_lens;

pub use adapter::{Adapter, AdapterConfig};
pub use attribution::{Attribution, SiteAttribution, attribution};
pub use decoder::Decoder;
pub use dtype::ComputeDtype;
pub use error::ModelError;
pub use families::{Family, ModelConfig};
pub use generate::{
    GenerateOptions, GenerationProgress, Response, StopStrings, TextStream, generate, generate_until, generate_with,
};
pub use layer_states::layer_states;
pub use lens::{LensOptions, LensSite, lens};
pub use measure::{MeasureOptions, ResponseMeasures, SiteMeasures, entropies, measure};
pub use pretrained::{
    DtypeChoice, LoadedModel, ModelAssets, ModelFiles, RecommendedSampling, SaveDtype, SaveOptions, load_frozen_model,
    load_model, load_recommended_sampling, save_checkpoint, save_tensors,
};
pub use sequence::{MOST_PLACES, ResponseBlock, ScoredSequence, Sequence, SequenceBatch, split_by, token_batches};
pub use tokenizer::TextTokenizer;
pub use trace::trace;
pub use tuned_lens::{TUNED_LENS, TunedLens};
