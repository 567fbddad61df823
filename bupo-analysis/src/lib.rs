//! Statistics of a model's internal policies over many responses.
//!
//! - [`MeasureAccumulator`] sums the measures of each response ([`bupo_models::measure`]).
//! - [`Analysis`] has their means with 95% confidence intervals, overall, by position and by correctness, and derives the
//!   [`Stages`] of the layers, the [`Boundary`] layer to train first, and how the entropy decreases ([`Convergence`]).
//! - [`LayerSimilarity`] compares the states of layers with each other and with another model's.
//! - [`write_csv`], [`write_parquet`] and [`summary`] export the results.

mod accumulator;
mod analysis;
mod bootstrap;
mod boundary;
mod convergence;
mod error;
mod measuring;
mod readable;
mod response_map;
mod similarity;
mod slice;
mod stages;
mod statistic;
mod summary;
mod table;

pub use accumulator::MeasureAccumulator;
pub use analysis::{Analysis, AnalysisInfo, Row};
pub use bootstrap::{Estimate, Resamples};
pub use boundary::Boundary;
pub use convergence::Convergence;
pub use error::AnalysisError;
pub use response_map::{MapCell, ResponseMap, response_map, visible};
pub use similarity::{LayerSimilarity, state_similarity};
pub use slice::Slice;
pub use stages::{DEFAULT_TOLERANCE, Stages};
pub use statistic::Statistic;
pub use summary::summary;
pub use table::{write_csv, write_parquet};
