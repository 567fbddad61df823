//! What is specific to each decoder family: which `config.json` it has, and how many parameters.

mod config;
mod num_params;

pub(crate) use config::OneOrMany;
pub use config::{Family, ModelConfig};
pub use num_params::{embedding_params, layer_params, num_params};
