//! Output on the terminal: progress bars, lines and tables.

mod analysis;
mod bar;
mod columns;
mod rank_log;
mod results;
mod sweep;
mod table;
mod train;

pub use analysis::print_analysis;
pub use bar::{FetchScreen, StepBar};
pub use columns::{columns, terminal_width};
pub use rank_log::RankLog;
pub use results::{print_comparison, print_results};
pub use sweep::print_sweep;
pub use table::TableFormat;
pub use train::TrainScreen;
