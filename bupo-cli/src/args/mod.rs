//! The command line: one file per command, as in `commands/`. Options that several commands share are in `chat`, `device`, `engine`,
//! `model`, `prompt`, `responses` and `sampling`.

mod analyze;
mod bench;
mod chat;
mod config;
mod data;
mod device;
mod engine;
mod eval;
mod generate;
mod grade;
mod lens;
mod memory;
mod merge;
mod model;
mod pretrain;
mod prompt;
mod replay;
mod report;
mod responses;
mod runs;
mod sampling;
mod settings;
mod sweep;
mod trace;
mod train;
mod tune_lens;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::verbosity::Verbosity;

pub use analyze::AnalyzeArgs;
pub use bench::{BenchArgs, BenchModeArg};
pub use chat::ChatArgs;
pub use config::{CheckArgs, ConfigArgs, ConfigCommand};
pub use data::DataArgs;
pub use eval::EvalArgs;
pub use generate::GenerateArgs;
pub use grade::GradeArgs;
pub use lens::{LensArgs, NumberRange};
pub use merge::MergeArgs;
pub use model::{AdapterArgs, NormArgs};
pub use pretrain::PretrainArgs;
pub use replay::ReplayArgs;
pub use report::ReportArgs;
pub use responses::ResponseArgs;
pub use runs::RunsArgs;
pub use sweep::SweepArgs;
pub use trace::TraceArgs;
pub use train::{AlgorithmArg, TrainArgs};
pub use tune_lens::TuneLensArgs;

const EXIT_STATUS: &str = "Exit status: 0 done, or stopped by Ctrl-C with everything saved; 1 an error, printed as one line; 2 wrong \
                           options; 130 ended at once by a second Ctrl-C";

/// Analyzes the internal policies of language models and trains them with Bottom-up Policy Optimization
#[derive(Debug, Parser)]
#[command(name = "bupo", version, after_help = EXIT_STATUS)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print warnings and results only: no progress, no lines of steps
    #[arg(long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more: every warning of a training step, and the seconds of its parts
    #[arg(long, global = true)]
    verbose: bool,
}

impl Cli {
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model with Bottom-up Policy Optimization or GRPO
    Train(TrainArgs),
    /// Run the same short phase on each of several sites or layers, and compare what they gain
    Sweep(SweepArgs),
    /// Write the residual stream states and the entropies of all policies for given token ids
    Trace(TraceArgs),
    /// Sample from the full policy or an internal policy
    Generate(GenerateArgs),
    /// Show the most probable next tokens of every layer at every position of a text (logit lens)
    Lens(LensArgs),
    /// Fit a tuned lens: affine maps from the layers' states to the full policy
    TuneLens(TuneLensArgs),
    /// Measure the internal policies of one or more models and write a report
    Analyze(AnalyzeArgs),
    /// Write the report of one or more training runs
    Report(ReportArgs),
    /// List training runs with their progress
    Runs(RunsArgs),
    /// Write a plain model folder of a model and its adapter
    Merge(MergeArgs),
    /// Run policy updates on recorded rollouts, without generation
    Replay(ReplayArgs),
    /// Sample responses to benchmarks, grade them, and print Avg@K, Pass@K and maj@K
    Eval(EvalArgs),
    /// Grade given responses
    Grade(GradeArgs),
    /// Show the contents of data files and the prompts rendered from them
    Data(DataArgs),
    /// Print the default settings with comments, or check a settings file
    Config(ConfigArgs),
    /// List the devices of this machine and the one that auto selects
    Devices,
    /// Run a small training on every device, compare the results with the CPU's, and time it
    Doctor,
    /// Train a small model from scratch on worked arithmetic solutions
    #[command(alias = "warmup")]
    Pretrain(PretrainArgs),
    /// Time training, sampling and measuring with random weights, and compare with the roofline
    Bench(BenchArgs),
    /// Print the completions of the command line for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// Folder for the pages
        #[arg(long, value_name = "DIR", default_value = "man")]
        out: PathBuf,
    },
}
