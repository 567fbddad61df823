//! Errors of the analysis.

use bupo_core::PolicySite;
use bupo_models::ModelError;
use parquet::errors::ParquetError;

/// Errors of the analysis crate.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// There are no responses.
    #[error("there are no responses to analyze")]
    Empty,
    /// Responses were measured at different policies.
    #[error("response {0} was not measured at the same policies as the responses before it")]
    OtherSites(usize),
    /// A policy's logits are not finite.
    #[error(
        "response {response}: the logits of {site} are not finite; the model's weights or activations have overflowed"
    )]
    NotFinite {
        /// The policy.
        site: PolicySite,
        /// The response's number, from 1.
        response: usize,
    },
    /// Responses could not be measured.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A table could not be written as CSV.
    #[error("CSV: {0}")]
    Csv(#[from] csv::Error),
    /// A table could not be written as Parquet.
    #[error("Parquet: {0}")]
    Parquet(#[from] ParquetError),
}
