//! `bupo runs`

use std::path::Path;

use bupo_runs::{CheckpointStore, FoundRun, RunStatus, find_run, find_runs};

use crate::args::RunsArgs;
use crate::error::{CliError, sentence};

pub fn run(args: &RunsArgs) -> Result<(), CliError> {
    let folder = &args.folder;
    // In the folder of a run, that run; in a folder of folders of runs, those of its runs/.
    let nested = folder.join("runs");
    let runs = match find_run(folder) {
        Some(run) => vec![run],
        None if folder.is_dir() => match find_runs(folder)? {
            runs if runs.is_empty() && nested.is_dir() => find_runs(&nested)?,
            runs => runs,
        },
        None if *folder == Path::new("runs") => Vec::new(),
        None => {
            return Err(CliError::Message(format!("{} is not a folder; give one that has runs", folder.display())));
        }
    };
    if runs.is_empty() {
        outln!("there are no runs in {}; bupo train makes one", folder.display());
        return Ok(());
    }
    outln!("{:<28} {:<12} {:>11} {:>7} {:<10} checkpoints", "run", "state", "step", "reward", "policy");
    for run in &runs {
        print(run);
    }
    Ok(())
}

fn print(run: &FoundRun) {
    let (state, reason) = match &run.status {
        RunStatus::Running => ("running", None),
        RunStatus::Stopped => ("stopped", None),
        RunStatus::Finished => ("finished", None),
        RunStatus::Interrupted => ("interrupted", None),
        RunStatus::Failed { reason } => ("failed", Some(reason)),
        RunStatus::Unknown { reason } => ("unknown", Some(reason)),
    };
    let known = run.state.as_ref();
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    outln!(
        "{:<28} {state:<12} {:>11} {:>7} {:<10} {}",
        run.path.display().to_string(),
        text(known.map(|state| format!("{}/{}", state.step, state.steps))),
        text(known.and_then(|state| state.last_reward).map(|reward| format!("{reward:.3}"))),
        text(known.and_then(|state| state.site.clone())),
        checkpoints(&run.path)
    );
    if let Some(reason) = reason {
        outln!("  {}", sentence(reason));
    }
}

fn checkpoints(run: &Path) -> String {
    match CheckpointStore::new(run).list() {
        Ok(steps) if steps.is_empty() => "-".into(),
        Ok(steps) => steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        Err(error) => error.to_string(),
    }
}
