//! The `bupo` command.

#[macro_use]
mod out;

mod allocator;
mod args;
mod backend;
mod chat;
mod commands;
mod distributed;
mod embedded;
mod error;
mod files;
mod grading;
mod interrupt;
mod model;
mod plan;
mod products;
mod responses;
mod screen;
mod threads;
mod verbosity;

use std::process::ExitCode;

use clap::FromArgMatches;

use args::{Cli, Command};
use error::{CliError, sentence};
use verbosity::set_verbosity;

fn main() -> ExitCode {
    backend::prepare_environment();
    allocator::keep_freed_pages();
    threads::join_pool();
    let cli = Cli::from_arg_matches(&commands::help::command().get_matches()).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Printed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    set_verbosity(cli.verbosity());
    let launch = distributed::launch();
    if launch.rank > 0 && !matches!(cli.command, Command::Train(_)) {
        eprintln!("only bupo train shares its work out: process {} of {} has nothing to do", launch.rank, launch.size);
        return Ok(());
    }
    match cli.command {
        Command::Train(args) => commands::train::run(args),
        Command::Sweep(args) => commands::sweep::run(&args),
        Command::Trace(args) => commands::trace::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Lens(args) => commands::lens::run(&args),
        Command::TuneLens(args) => commands::tune_lens::run(&args),
        Command::Analyze(args) => commands::analyze::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Runs(args) => commands::runs::run(&args),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Grade(args) => commands::grade::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Config(args) => commands::config::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Completions { shell } => {
            commands::help::completions(shell);
            Ok(())
        }
        Command::Man { out } => commands::help::man(&out),
        Command::Devices => commands::devices::list(),
        Command::Doctor => commands::devices::check(),
        Command::Pretrain(args) => commands::pretrain::run(&args),
    }
}
