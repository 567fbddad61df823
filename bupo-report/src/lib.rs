//! Pages and pictures of what internal policies say and of how training changes it.
//!
//! A page is one HTML file that asks nothing of any network: pictures, their numbers and the script that shows them on hover
//! are in it. [`analysis_report`] is of one or several models, [`run_report`] of one or several training runs.

mod analysis;
mod error;
mod page;
mod response_picture;
mod run;

pub use analysis::analysis_report;
pub use error::ReportError;
pub use page::{Picture, Report};
pub use run::{Run, run_report};
