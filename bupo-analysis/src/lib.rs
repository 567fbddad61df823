//! What the internal policies of a model come to over many responses.
//!
//! - [`MeasureAccumulator`] adds up what [`bupo_models::measure`] says of each response;
//! - [`Analysis`] makes means with 95% intervals of it, by position and by whether the response was right, and explains them:
//!   the [`Stages`] of the layers, the [`Boundary`] layer to train first, how the stream converges ([`Convergence`]);
//! - [`write_csv`], [`write_parquet`] and [`summary`] hand every number on.

mod accumulator;
mod analysis;
mod bootstrap;
mod boundary;
mod convergence;
mod error;
mod measuring;
mod response_map;
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
pub use slice::Slice;
pub use stages::{DEFAULT_TOLERANCE, Stages};
pub use statistic::Statistic;
pub use summary::summary;
pub use table::{write_csv, write_parquet};
