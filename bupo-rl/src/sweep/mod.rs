//! Sweeps: the same short phase on each of several sites, or on the parameters of each of several layers, with several
//! seeds, and what is known of the layers before any training.

mod folder;
mod plan;
mod result;
mod selectors;
mod statistics;

pub use folder::{SweepFolder, SweepProgress};
pub use plan::{SweepPlan, SweepRun, Variant};
pub use result::{RunResult, SweepEntry, SweepResult};
pub use selectors::{Selectors, SiteSelectors};
pub use statistics::MeanOverSeeds;
