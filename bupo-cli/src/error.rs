//! Errors as the command line prints them: one sentence that says what is wrong, where, and how to fix it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bupo_analysis::AnalysisError;
use bupo_collective::CollectiveError;
use bupo_data::DataError;
use bupo_engine::EngineError;
use bupo_eval::EvalError;
use bupo_grade::GradeError;
use bupo_models::ModelError;
use bupo_report::ReportError;
use bupo_rl::RlError;
use bupo_runs::RunsError;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Rl(#[from] RlError),
    #[error(transparent)]
    Collective(#[from] CollectiveError),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Runs(#[from] RunsError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Grade(#[from] GradeError),
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Message(String),
    /// Another process of the run has printed the error.
    #[error("printed by another process")]
    Printed,
}

impl CliError {
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// Checks that numbers given by options are not 0.
pub fn at_least_one(options: &[(&str, Option<usize>)]) -> Result<(), CliError> {
    match options.iter().find(|(_, number)| *number == Some(0)) {
        Some((name, _)) => Err(CliError::Message(format!("{name} is 0; it must be at least 1"))),
        None => Ok(()),
    }
}

/// The start of the system's number of an error, whose meaning stands before it.
const NUMBER: &str = " (os error ";
/// What the standard library says of text that is not UTF-8.
const NOT_UTF8: &str = "stream did not contain valid UTF-8";

/// An error's text without the system's number of an error, `(os error 2)`, and with what to do about it if that is not said.
pub fn sentence(error: &impl std::fmt::Display) -> String {
    let mut text = error.to_string().replace(NOT_UTF8, "it is not UTF-8; save it as UTF-8");
    // The name of a temporary file says nothing to a reader.
    if let Some(start) = text.find(" at path \"").filter(|_| text.ends_with('"')) {
        text.truncate(start);
    }
    while let Some(start) = text.find(NUMBER) {
        let Some(length) = text[start..].find(')') else { break };
        let number = text[start + NUMBER.len()..start + length].parse();
        text.replace_range(start..=start + length, "");
        if let Some(mend) = number.ok().and_then(mend).filter(|_| start == text.len()) {
            text = format!("{text}; {mend}");
        }
    }
    text
}

/// What to do about an error of the system.
fn mend(number: i32) -> Option<&'static str> {
    Some(match io::Error::from_raw_os_error(number).kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "change its permissions, or choose another",
        ErrorKind::ReadOnlyFilesystem => "choose a place that can be written",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space, or choose another place",
        ErrorKind::IsADirectory => "give a file, not a folder",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "a part of the path is a file; choose another",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn errors_of_the_system_have_a_mend() {
        for (number, expected) in [
            (2, "cannot read a.json: No such file or directory; check the path"),
            (13, "cannot read a.json: Permission denied; change its permissions, or choose another"),
            (21, "cannot read a.json: Is a directory; give a file, not a folder"),
            (28, "cannot read a.json: No space left on device; free some space, or choose another place"),
            (30, "cannot read a.json: Read-only file system; choose a place that can be written"),
        ] {
            let error = CliError::io("read", Path::new("a.json"))(io::Error::from_raw_os_error(number));
            assert_eq!(sentence(&error), expected);
        }
        let error = GradeError::Command { command: "x".into(), source: io::Error::from_raw_os_error(2) };
        assert_eq!(
            sentence(&error),
            "cannot start the scorer `x`: No such file or directory; its first word must be an executable program"
        );
        let error = "cannot write a.json: Read-only file system (os error 30) at path \"/x/.tmpPzl8DU\"";
        assert_eq!(sentence(&error), "cannot write a.json: Read-only file system; choose a place that can be written");
        let error = CliError::io("read", Path::new("a.txt"))(io::Error::new(ErrorKind::InvalidData, NOT_UTF8));
        assert_eq!(sentence(&error), "cannot read a.txt: it is not UTF-8; save it as UTF-8");
    }

    #[test]
    fn the_option_that_is_0_is_named() {
        assert!(at_least_one(&[("--batch", None), ("--limit", Some(1))]).is_ok());
        let error = at_least_one(&[("--batch", Some(4)), ("--limit", Some(0))]).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("--limit is 0; it must be at least 1"));
    }
}
