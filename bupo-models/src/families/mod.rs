//! Decoder families: their `config.json`, rotary embeddings and parameter counts.

mod config;
mod family;
mod num_params;
mod raw_rope;
mod rope;

pub use config::ModelConfig;
pub(crate) use config::{OneOrMany, check_eos_token_ids};
pub use family::Family;
pub use num_params::{embedding_params, layer_params, layer_part_params, num_params};
pub use rope::{Llama3Scaling, RopeConfig, RopeScaling, YarnScaling};
