//! What can go wrong before any tensor is touched.

use crate::PolicySite;

/// Errors of the core crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CoreError {
    /// A site's name could not be read.
    #[error("unknown policy site `{0}`: write `full`, `layer:N`, `attn:N` or `ffn:N` with N from 1")]
    UnknownSite(String),
    /// A norm option's name could not be read.
    #[error("unknown norm `{0}`: write `none` or `final`")]
    UnknownNorm(String),
    /// A site names a layer the model does not have.
    #[error("policy site `{site}` is outside the model, which has layers 1 to {num_layers}")]
    LayerOutOfRange {
        /// The site asked for.
        site: PolicySite,
        /// The number of layers of the model.
        num_layers: usize,
    },
    /// A policy gave a logit that is not a number, or infinite.
    #[error("the policy's logits are not finite; the model's weights or activations have overflowed")]
    NonFiniteLogits,
}
