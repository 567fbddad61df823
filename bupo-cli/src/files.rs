//! Input and output files of the commands.

use std::path::{Path, PathBuf};
use std::{fs, io};

use bupo_report::{Report, ReportError};
use bupo_runs::{find_runs, write_atomically};

use crate::error::CliError;

/// The first of `runs/NAME-1`, `runs/NAME-2`, ... that does not exist.
pub fn free_folder(name: &str) -> PathBuf {
    let numbered = |number: usize| Path::new("runs").join(format!("{name}-{number}"));
    (1..).map(numbered).find(|folder| !folder.exists()).unwrap_or_else(|| numbered(0))
}

/// Checks that a folder is that of a training run.
///
/// # Errors
/// If it is not; the message names the runs beside it.
pub fn check_run(folder: &Path) -> Result<(), CliError> {
    if folder.join("config.toml").is_file() {
        return Ok(());
    }
    let what =
        if folder.is_dir() { "is not the folder of a training run: it has no config.toml" } else { "does not exist" };
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = |root: &Path| find_runs(root).unwrap_or_default().into_iter().map(|run| run.path);
    let inside: Vec<PathBuf> = if folder.is_dir() { beside(folder).collect() } else { Vec::new() };
    let runs = [inside, beside(parent).collect(), beside(Path::new("runs")).collect()];
    let there = match runs.iter().find(|runs| !runs.is_empty()) {
        Some(runs) => format!("there is {}", shown(runs)),
        None => "there are no runs yet: bupo train makes one".into(),
    };
    Err(CliError::Message(format!("the run {} {what}; {there}", folder.display())))
}

/// The first few paths.
fn shown(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 8;
    let names: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = if paths.len() > SHOWN { format!(" and {} more", paths.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Reads `[[id, ...], ...]`.
///
/// # Errors
/// If the file cannot be read or has another content.
pub fn read_tokens(path: &Path) -> Result<Vec<Vec<u32>>, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::Message(format!("{} has not rows of token ids: {error}; write [[id, ...], ...]", path.display()))
    })
}

/// Reads one prompt per line of a text file, or of standard input if its name is `-`. Empty lines are skipped.
///
/// # Errors
/// If the file cannot be read or has no prompts.
pub fn read_prompts(path: &Path) -> Result<Vec<String>, CliError> {
    let text = if path == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    let text = text.map_err(CliError::io("read", path))?;
    let prompts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_string).collect();
    if prompts.is_empty() {
        return Err(CliError::Message(format!("{}: there are no prompts; write one per line", path.display())));
    }
    Ok(prompts)
}

/// Checks that a file can be written, before the work whose result it will hold. An existing file is not touched.
///
/// # Errors
/// If the path is not a regular file, its folder does not exist, or the folder is not writable.
pub fn check_writable(path: &Path) -> Result<(), CliError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.exists() && !path.is_file() {
        return Err(CliError::Message(format!("{} is not a regular file; give the path of a file", path.display())));
    }
    if !parent.is_dir() {
        return Err(CliError::Message(format!(
            "{}: there is no folder {}; create it",
            path.display(),
            parent.display()
        )));
    }
    tempfile::NamedTempFile::new_in(parent).map(drop).map_err(CliError::io("write", path))
}

/// Checks that a file does not exist, if it may not be overwritten.
///
/// # Errors
/// If it exists and `force` is not set.
pub fn check_overwrite(path: &Path, force: bool) -> Result<(), CliError> {
    if force || !path.exists() {
        return Ok(());
    }
    Err(CliError::Message(format!("{} exists; choose another --out, or overwrite it with --force", path.display())))
}

/// Writes a report's charts as SVG and PNG.
///
/// # Errors
/// If a file cannot be written or a chart cannot be drawn.
pub fn write_pictures(report: &Report, folder: &Path) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::io("create", folder))?;
    for picture in report.pictures() {
        write_atomically(&folder.join(format!("{}.svg", picture.name)), picture.chart.svg().as_bytes())?;
        write_atomically(
            &folder.join(format!("{}.png", picture.name)),
            &picture.chart.png().map_err(ReportError::from)?,
        )?;
    }
    Ok(())
}
