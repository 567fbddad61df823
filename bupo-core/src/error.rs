//! Errors of the core crate.

/// Errors of the core crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CoreError {
    /// A site could not be parsed.
    #[error("unknown policy site `{0}`: write `full`, `layer:N`, `attn:N` or `ffn:N` with N from 1")]
    UnknownSite(String),
    /// A range of sites could not be parsed.
    #[error("unknown policy sites `{0}`: write the lowest layer first, such as `layer:2-6`, counted from 1")]
    UnknownRange(String),
    /// A norm option could not be parsed.
    #[error("unknown norm `{0}`: write `none`, `final` or `tuned`")]
    UnknownNorm(String),
    /// A site is of a layer that the model does not have.
    #[error("policy site `{site}` is outside the model, which has layers 1 to {num_layers}")]
    LayerOutOfRange {
        /// The site, as it is written.
        site: String,
        /// The number of layers of the model.
        num_layers: usize,
    },
    /// A policy with the norm `tuned` of a model without a tuned lens.
    #[error("norm `tuned` needs a tuned lens of the model; fit one with `bupo tune-lens`, or take norm `final`")]
    NoTunedLens,
    /// A sampling parameter is out of range.
    #[error("{name} is {value}; it must be {range}")]
    SamplingParam {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range it must be in.
        range: &'static str,
    },
    /// A logit is NaN or infinite.
    #[error("the policy's logits are not finite; the model's weights or activations have overflowed")]
    NonFiniteLogits,
}
