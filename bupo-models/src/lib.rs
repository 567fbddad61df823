//! Real models as residual streams: Qwen3, Qwen2 (2.5) and Llama checkpoints, loaded, run layer by layer, sampled
//! and saved as Hugging Face has them.

pub mod checkpoint;
pub mod config;
pub mod decoder;
mod error;
pub mod generate;
pub mod hub;
pub mod tokenizer;
mod trace;

pub use checkpoint::{Companions, LoadedModel, ModelFiles, SaveDtype, SaveOptions, load_model, save_checkpoint};
pub use config::{Family, ModelConfig};
pub use decoder::Decoder;
pub use error::ModelError;
pub use generate::{GenerateOptions, Response, generate};
pub use tokenizer::TextTokenizer;
pub use trace::trace;
