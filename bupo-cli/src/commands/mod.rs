//! One file per command.

pub mod analyze;
pub mod bench;
pub mod config;
pub mod data;
pub mod devices;
pub mod eval;
pub mod generate;
pub mod grade;
pub mod help;
pub mod lens;
pub mod merge;
pub mod pretrain;
pub mod replay;
pub mod report;
pub mod runs;
pub mod sweep;
pub mod trace;
pub mod train;
pub mod tune_lens;
