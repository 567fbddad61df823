//! Reads a run folder.

use std::fs;
use std::path::Path;

use bupo_runs::{JsonLinesOptions, read_json_lines};
use serde::de::DeserializeOwned;

use super::Run;
use crate::ReportError;

pub(super) fn read(folder: &Path) -> Result<Run, ReportError> {
    let missing = |reason: &str| ReportError::NotARun { path: folder.to_path_buf(), reason: reason.into() };
    if !folder.is_dir() {
        return Err(missing("there is no such folder; give the folder of a training run"));
    }
    let settings_path = folder.join("config.toml");
    if !settings_path.is_file() || !folder.join("metrics.jsonl").is_file() {
        return Err(missing("this is not the folder of a training run, which has config.toml and metrics.jsonl"));
    }
    let settings_text = text(&settings_path)?;
    let settings = settings_text.parse().map_err(|error: toml::de::Error| {
        wrong(&settings_path, &format!("{}; correct it, or give another run", error.message()))
    })?;
    Ok(Run {
        name: name(folder),
        settings,
        settings_text,
        metrics: lines(&folder.join("metrics.jsonl"))?,
        probe: lines(&folder.join("probe.jsonl"))?,
        completions: lines(&folder.join("completions.jsonl"))?,
        evaluations: lines(&folder.join("evaluations.jsonl"))?,
        evaluation: optional(&folder.join("evaluation.json"))?,
        auto_layer: optional(&folder.join("boundary.json"))?,
    })
}

/// The folder's name, also if the path is `.` or ends with a slash.
fn name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or_else(|| whole.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn text(path: &Path) -> Result<String, ReportError> {
    fs::read_to_string(path).map_err(|source| ReportError::Io { path: path.to_path_buf(), source })
}

fn wrong(path: &Path, reason: &str) -> ReportError {
    ReportError::NotARun { path: path.to_path_buf(), reason: reason.to_string() }
}

fn optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    if !path.is_file() {
        return Ok(None);
    }
    serde_json::from_str(&text(path)?)
        .map(Some)
        .map_err(|error| wrong(path, &format!("{error}; restore it, or give another run")))
}

/// The lines of a log; empty if there is no such file. The last line of a running run can be incomplete.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let options = JsonLinesOptions { skip_unfinished_line: true, ..JsonLinesOptions::default() };
    Ok(read_json_lines(path, options)?.into_iter().map(|line| line.value).collect())
}
