//! `bupo config`

use bupo_rl::TrainConfig;

use crate::args::{CheckArgs, ConfigArgs, ConfigCommand};
use crate::backend::resolve;
use crate::error::CliError;
use crate::plan::print_plan;

/// The default settings with comments. A test checks that they equal the program's defaults.
const DEFAULTS: &str = include_str!("../../../configs/arithmetic.toml");

pub fn run(args: &ConfigArgs) -> Result<(), CliError> {
    match &args.command {
        None => {
            out!("{DEFAULTS}");
            Ok(())
        }
        Some(ConfigCommand::Check(args)) => check(args),
    }
}

fn check(args: &CheckArgs) -> Result<(), CliError> {
    let file = args.file.as_deref().or(args.settings.config.as_deref());
    let mut config = TrainConfig::load(file, &args.settings.set)?;
    config.model = args.model.clone().or(config.model);
    config.adapter = args.adapter.adapter.clone().or(config.adapter);
    print_plan(&config, resolve(args.device.device)?, args.memory.memory_limit)
}
