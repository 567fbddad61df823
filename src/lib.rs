//! bupo looks inside a language model's policy and trains it from the bottom up.
//!
//! A decoder layer adds two contributions (attention, feed-forward) to a residual stream, and any state of that
//! stream, multiplied by the unembedding matrix, is a policy that can be sampled, measured and trained
//! (arXiv 2512.19673).
//!
//! - [`core`]: the stream, policy sites, and policies with their log-probs, entropies and gradients;
//! - [`models`]: Qwen3, Qwen2 and Llama checkpoints as streams;
//! - [`rl`]: GRPO, internal-policy GRPO and the phase schedule that makes Bottom-up Policy Optimization.

pub use bupo_core as core;
pub use bupo_models as models;
pub use bupo_rl as rl;
