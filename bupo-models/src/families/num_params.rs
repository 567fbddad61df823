//! Parameter counts of a config.

use super::config::ModelConfig;
use super::family::Family;

/// All parameters of a model.
pub fn num_params(config: &ModelConfig) -> u64 {
    embedding_params(config) + config.num_hidden_layers as u64 * layer_params(config) + config.hidden_size as u64
}

/// The parameters of the embedding, and of the unembedding if the two are not tied.
pub fn embedding_params(config: &ModelConfig) -> u64 {
    let matrices = if config.tie_word_embeddings { 1 } else { 2 };
    matrices * config.vocab_size as u64 * config.hidden_size as u64
}

/// The parameters of one layer.
pub fn layer_params(config: &ModelConfig) -> u64 {
    layer_part_params(config).iter().sum()
}

/// The parameters of one layer's attention, feed-forward and norms.
pub fn layer_part_params(config: &ModelConfig) -> [u64; 3] {
    let [hidden, inner, head_dim] = [config.hidden_size, config.intermediate_size, config.head_dim].map(|n| n as u64);
    let queries = config.num_attention_heads as u64 * head_dim;
    let keys = config.num_key_value_heads as u64 * head_dim;
    let biases = u64::from(config.qkv_bias) * (queries + 2 * keys) + u64::from(config.output_bias) * hidden;
    let mlp_biases = u64::from(config.mlp_bias) * (2 * inner + hidden);
    let head_norms = if config.family == Family::Qwen3 { 2 * head_dim } else { 0 };
    [hidden * (2 * queries + 2 * keys) + biases, 3 * hidden * inner + mlp_biases, 2 * hidden + head_norms]
}
