//! The folder of a sweep: its settings, its runs, what was measured before training, and the result.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bupo_data::chat::TemplateDate;
use bupo_runs::{RunLock, RunState, Status, write_atomically};
use serde::Serialize;
use toml::{Table, Value};

use super::plan::{SweepPlan, SweepRun};
use super::result::SweepResult;
use super::selectors::Selectors;
use crate::RlError;
use crate::config::flatten;

const SETTINGS: &str = "sweep.toml";
const SELECTORS: &str = "selectors.json";
const RUNS: &str = "runs";
/// What a finished run has no more use for: weights and moments.
const LARGE: [&str; 3] = ["checkpoints", "model", "adapter"];

/// The folder of a sweep, locked while it is open.
#[derive(Debug)]
pub struct SweepFolder {
    path: PathBuf,
    /// The settings of the sweep in it, if there is one.
    saved: Option<Table>,
    _lock: RunLock,
}

/// How far a run of a sweep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepProgress {
    /// Not begun.
    New,
    /// Begun: it is resumed.
    Begun,
    /// Done.
    Finished,
}

impl SweepFolder {
    /// Opens a folder that is empty, does not exist, or holds a sweep.
    ///
    /// # Errors
    /// If it has other contents, another process works in it, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, RlError> {
        fs::create_dir_all(path).map_err(RlError::io("create", path))?;
        let settings = path.join(SETTINGS);
        let saved = if settings.is_file() {
            let text = fs::read_to_string(&settings).map_err(RlError::io("read", &settings))?;
            let table = text.parse::<Table>().map_err(|error| RlError::NoData {
                path: settings,
                reason: format!("{}; restore it, or choose another --out", error.message()),
            })?;
            Some(table)
        } else {
            // Left by a process that ended before it began.
            let is_lock = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
            let entries = fs::read_dir(path).map_err(RlError::io("read", path))?;
            if entries.filter_map(Result::ok).any(|entry| !is_lock(&entry)) {
                return Err(RlError::FolderExists(path.to_path_buf()));
            }
            None
        };
        Ok(Self { path: path.to_path_buf(), saved, _lock: RunLock::acquire(path)? })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The date in the prompts of the sweep in the folder.
    pub fn template_date(&self) -> Option<TemplateDate> {
        self.saved.as_ref()?.get("settings")?.get("data")?.get("template_date")?.as_str()?.parse().ok()
    }

    /// Writes the settings of a new sweep, or compares them with those of the sweep in the folder.
    ///
    /// # Errors
    /// Names the first setting that differs.
    pub fn begin(&mut self, plan: &SweepPlan) -> Result<(), RlError> {
        let settings = table(plan)?;
        if let Some(saved) = &self.saved {
            let flat = |table: &Table| {
                let mut all = BTreeMap::new();
                flatten("", &Value::Table(table.clone()), &mut all);
                all
            };
            let (saved, now) = (flat(saved), flat(&settings));
            let keys = saved.keys().chain(now.keys());
            if let Some(key) = keys.into_iter().find(|key| saved.get(*key) != now.get(*key)) {
                let value = |of: &BTreeMap<String, String>| of.get(key).cloned().unwrap_or_else(|| "not set".into());
                return Err(RlError::Config(format!(
                    "{} holds a sweep whose {key} is {}, not {}; give it the same settings, or choose another --out",
                    self.path.display(),
                    value(&saved),
                    value(&now)
                )));
            }
            return Ok(());
        }
        let text = toml::to_string(&settings).map_err(|error| RlError::Config(error.to_string()))?;
        write_atomically(&self.path.join(SETTINGS), text.as_bytes())?;
        self.saved = Some(settings);
        Ok(())
    }

    /// The folder of a run.
    pub fn run(&self, run: &SweepRun) -> PathBuf {
        self.path.join(RUNS).join(run.name())
    }

    /// How far a run is. Removes what a process left that ended before the run's settings were written.
    ///
    /// # Errors
    /// If that cannot be removed.
    pub fn progress(&self, run: &SweepRun) -> Result<SweepProgress, RlError> {
        let folder = self.run(run);
        if !folder.join("config.toml").is_file() {
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(RlError::io("remove", &folder))?;
            }
            return Ok(SweepProgress::New);
        }
        let is_finished = RunState::read(&folder).is_ok_and(|state| state.status == Status::Finished);
        Ok(if is_finished { SweepProgress::Finished } else { SweepProgress::Begun })
    }

    /// Removes weights and moments of a finished run.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn prune(&self, run: &SweepRun) -> Result<(), RlError> {
        let folder = self.run(run);
        for large in LARGE.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
            fs::remove_dir_all(&large).map_err(RlError::io("remove", &large))?;
        }
        Ok(())
    }

    /// What was measured before training; `None` if it is not measured yet.
    pub fn selectors(&self) -> Option<Selectors> {
        serde_json::from_slice(&fs::read(self.path.join(SELECTORS)).ok()?).ok()
    }

    /// Writes what was measured before training.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_selectors(&self, selectors: &Selectors) -> Result<(), RlError> {
        self.write_json(SELECTORS, selectors).map(drop)
    }

    /// Writes the result as `sweep.json` and `sweep.csv`, and returns their paths.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write_result(&self, result: &SweepResult) -> Result<[PathBuf; 2], RlError> {
        let json = self.write_json("sweep.json", result)?;
        let csv = self.path.join("sweep.csv");
        write_atomically(&csv, result.csv().as_bytes())?;
        Ok([json, csv])
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, RlError> {
        let path = self.path.join(name);
        let text = serde_json::to_string_pretty(value).map_err(|error| RlError::io("write", &path)(error.into()))?;
        write_atomically(&path, format!("{text}\n").as_bytes())?;
        Ok(path)
    }
}

/// What two sweeps must share for one to continue the other.
fn table(plan: &SweepPlan) -> Result<Table, RlError> {
    let variants = plan.variants.iter().map(|variant| Value::String(variant.to_string())).collect();
    let seeds = plan.seeds.iter().map(|seed| Value::String(seed.to_string())).collect();
    let settings = plan.measured()?.to_toml()?.parse::<Table>().map_err(|error| RlError::Config(error.to_string()))?;
    Ok([
        ("variants".to_string(), Value::Array(variants)),
        ("seeds".to_string(), Value::Array(seeds)),
        ("settings".to_string(), Value::Table(settings)),
    ]
    .into_iter()
    .collect())
}
