//! Report pages and charts of analyses and training runs.
//!
//! A page is one HTML file without network access: charts, their numbers and the script that shows them on hover are embedded.
//! [`analysis_report`] reports the internal policies of models, [`run_report`] training runs, [`sweep_report`]
//! sweeps over layers; [`lens_page`] is a page of the next
//! tokens of every layer.

mod analysis;
mod error;
mod frame;
mod lens;
mod page;
mod response_picture;
mod run;
mod sweep;

pub use analysis::analysis_report;
pub use error::ReportError;
pub use lens::{LensAttribution, LensCell, LensGrid, LensPosition, LensRow, LensToken, lens_page};
pub use page::{Picture, Report};
pub use run::{Run, run_report};
pub use sweep::sweep_report;
