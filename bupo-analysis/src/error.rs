//! What can go wrong with the numbers' way out.

use bupo_core::PolicySite;
use bupo_models::ModelError;
use parquet::errors::ParquetError;

/// Errors of the analysis crate.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// There is nothing to analyse.
    #[error("there are no responses to analyse")]
    Empty,
    /// Responses were not measured alike.
    #[error("response {0} was not measured at the same policies as those before it")]
    OtherSites(usize),
    /// A policy's numbers have overflowed.
    #[error(
        "response {response}: the logits of {site} are not finite; the model's weights or activations have overflowed"
    )]
    NotFinite {
        /// The policy.
        site: PolicySite,
        /// The response's number, from 1.
        response: usize,
    },
    /// Responses that cannot be measured.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A table could not be written as CSV.
    #[error("CSV: {0}")]
    Csv(#[from] csv::Error),
    /// A table could not be written as Parquet.
    #[error("Parquet: {0}")]
    Parquet(#[from] ParquetError),
}
