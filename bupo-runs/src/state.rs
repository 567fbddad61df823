//! The progress of a run, and the runs in a folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

use crate::atomic_write::write_atomically;
use crate::disk::{json, now};
use crate::{RunsError, is_locked};

const NAME: &str = "state.json";

/// The progress of a run, saved as `state.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The status that the process saved last.
    #[serde(flatten)]
    pub status: Status,
    /// The number of steps done.
    pub step: usize,
    /// The number of steps of the whole run.
    pub steps: usize,
    /// The name of the current phase, for display.
    pub phase: Option<String>,
    /// The name of the policy trained in the current phase, for display; layers from 1.
    pub site: Option<String>,
    /// The mean reward of the last step.
    pub last_reward: Option<f64>,
    /// The time at which the run began, in seconds since 1970.
    pub started: u64,
    /// The time at which this was saved, in seconds since 1970.
    pub updated: u64,
    /// The process id.
    pub pid: u32,
}

/// The status of a run as its process saved it. A killed process leaves [`Status::Running`]; [`find_runs`] detects that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// It is training.
    Running,
    /// It was stopped on request and can be resumed.
    Stopped,
    /// All steps are done.
    Finished,
    /// It ended with an error.
    Failed {
        /// The error.
        reason: String,
    },
}

impl RunState {
    /// The state of a run of `steps` steps that this process begins now.
    pub fn running(steps: usize) -> Self {
        let started = now() as u64;
        Self {
            status: Status::Running,
            step: 0,
            steps,
            phase: None,
            site: None,
            last_reward: None,
            started,
            updated: started,
            pid: process::id(),
        }
    }

    /// Reads the state in a run folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be read, or it is invalid.
    pub fn read(folder: &Path) -> Result<Self, RunsError> {
        let path = folder.join(NAME);
        let bytes = fs::read(&path).map_err(RunsError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| RunsError::InvalidState { path, reason: error.to_string() })
    }

    /// Saves the state in a run folder atomically, with the current time and this process's id.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&mut self, folder: &Path) -> Result<(), RunsError> {
        (self.updated, self.pid) = (now() as u64, process::id());
        let path = folder.join(NAME);
        write_atomically(&path, &json(&path, self)?)
    }
}

/// A run folder found by [`find_runs`].
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRun {
    /// The folder.
    pub path: PathBuf,
    /// The status, checked against the lock.
    pub status: RunStatus,
    /// The state saved last, if it can be read.
    pub state: Option<RunState>,
}

/// The status of a run as another process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// A process holds its lock.
    Running,
    /// It was stopped on request and can be resumed.
    Stopped,
    /// All steps are done.
    Finished,
    /// It ended with an error.
    Failed {
        /// The error.
        reason: String,
    },
    /// Its process ended without saving a final status: it was killed, or the machine crashed.
    Interrupted,
    /// The status cannot be determined.
    Unknown {
        /// The reason.
        reason: String,
    },
}

/// Lists the runs directly in a folder, sorted by path: the folders that contain a `state.json` or a `config.toml`.
///
/// # Errors
/// If the folder cannot be read. A run whose state cannot be read is [`RunStatus::Unknown`].
pub fn find_runs(root: &Path) -> Result<Vec<FoundRun>, RunsError> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(root).map_err(RunsError::io("read", root))? {
        runs.extend(find_run(&entry.map_err(RunsError::io("read", root))?.path()));
    }
    runs.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(runs)
}

/// The run in a folder, if it is that of one: it contains a `state.json` or a `config.toml`.
pub fn find_run(folder: &Path) -> Option<FoundRun> {
    if !folder.join(NAME).exists() && !folder.join("config.toml").exists() {
        return None;
    }
    let (status, state) = inspect(folder);
    Some(FoundRun { path: folder.to_path_buf(), status, state })
}

fn inspect(folder: &Path) -> (RunStatus, Option<RunState>) {
    // A process takes the lock before it saves its first state and saves its last state before it releases the lock. So
    // the run was interrupted only if the state is `Running` and the lock was free both before and after reading it.
    let locked = is_locked(folder);
    let state = RunState::read(folder);
    let locked = locked || is_locked(folder);
    match state {
        Ok(state) => (status(&state.status, locked), Some(state)),
        Err(_) if locked => (RunStatus::Running, None),
        Err(RunsError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            (RunStatus::Unknown { reason: format!("it has no {NAME}") }, None)
        }
        Err(error) => (RunStatus::Unknown { reason: error.to_string() }, None),
    }
}

fn status(saved: &Status, locked: bool) -> RunStatus {
    match saved {
        Status::Running if locked => RunStatus::Running,
        Status::Running => RunStatus::Interrupted,
        Status::Stopped => RunStatus::Stopped,
        Status::Finished => RunStatus::Finished,
        Status::Failed { reason } => RunStatus::Failed { reason: reason.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunLock;

    #[test]
    fn a_state_is_read_back_as_saved() {
        let folder = tempfile::tempdir().unwrap();
        for status in
            [Status::Running, Status::Stopped, Status::Finished, Status::Failed { reason: "no \"memory\"\n".into() }]
        {
            let mut state = RunState::running(40);
            state.status = status;
            (state.step, state.last_reward, state.phase) = (7, Some(0.25), Some("1 of 2".into()));
            state.save(folder.path()).unwrap();
            assert_eq!(RunState::read(folder.path()).unwrap(), state);
        }
    }

    #[test]
    fn the_file_is_json_with_the_documented_fields() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = RunState::running(40);
        state.status = Status::Failed { reason: "the disk is full".into() };
        state.last_reward = Some(f64::NAN);
        state.save(folder.path()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join(NAME)).unwrap()).unwrap();
        assert_eq!((&json["status"], &json["reason"]), (&"failed".into(), &"the disk is full".into()));
        assert_eq!(json["started"].as_u64(), Some(state.started));
        assert_eq!(RunState::read(folder.path()).unwrap().last_reward, None, "JSON has no NaN");
    }

    #[test]
    fn an_invalid_state_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(RunState::read(folder.path()), Err(RunsError::Io { .. })));
        fs::write(folder.path().join(NAME), "{\"status\":\"running\"").unwrap();
        let error = RunState::read(folder.path()).unwrap_err();
        assert!(matches!(error, RunsError::InvalidState { .. }), "{error}");
    }

    #[test]
    fn runs_are_found_with_their_status() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let with = |name: &str, status| {
            let folder = folder(name);
            let mut state = RunState::running(3);
            state.status = status;
            state.save(&folder).unwrap();
            folder
        };
        let _lock = RunLock::acquire(&with("alive", Status::Running)).unwrap();
        drop(RunLock::acquire(&with("dead", Status::Running)).unwrap());
        with("dead_without_lock", Status::Running);
        with("finished", Status::Finished);
        fs::write(folder("old").join("config.toml"), "").unwrap();
        let starting = folder("starting");
        fs::write(starting.join("config.toml"), "").unwrap();
        let _starting = RunLock::acquire(&starting).unwrap();
        fs::write(folder("unreadable").join(NAME), "nonsense").unwrap();
        with("stopped", Status::Stopped);
        with("wrong", Status::Failed { reason: "why".into() });
        folder("no_run");
        fs::write(root.path().join("file"), "").unwrap();

        let found = find_runs(root.path()).unwrap();
        let found: Vec<_> =
            found.iter().map(|run| (run.path.file_name().unwrap().to_str().unwrap(), &run.status)).collect();
        let unknown = |reason: &str| RunStatus::Unknown { reason: reason.into() };
        let unreadable = RunState::read(&root.path().join("unreadable")).unwrap_err().to_string();
        assert_eq!(
            found,
            [
                ("alive", &RunStatus::Running),
                ("dead", &RunStatus::Interrupted),
                ("dead_without_lock", &RunStatus::Interrupted),
                ("finished", &RunStatus::Finished),
                ("old", &unknown("it has no state.json")),
                ("starting", &RunStatus::Running),
                ("stopped", &RunStatus::Stopped),
                ("unreadable", &unknown(&unreadable)),
                ("wrong", &RunStatus::Failed { reason: "why".into() }),
            ]
        );
    }
}
