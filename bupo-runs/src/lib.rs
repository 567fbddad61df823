//! The files in a training run's folder. After a kill or on a full disk, each file is either complete or recognisably
//! unfinished.
//!
//! - [`CheckpointStore`]: checkpoints that are committed atomically, with a SHA-256 checksum of every file.
//! - [`JsonLinesWriter`]: append-only logs, truncated to a checkpoint's step when a run is resumed from it.
//! - [`read_json_lines`]: the reader of such logs and of any other JSON-lines file.
//! - [`write_atomically`]: the atomic write of a whole file.
//! - [`RunLock`]: one process at a time in a run folder; the system releases the lock when the process ends.
//! - [`RunState`] and [`find_runs`]: the progress of a run, and the runs in a folder.
//! - [`EventWriter`]: scalars for TensorBoard.
//!
//! The crate does not depend on models: checkpoints hold any files. A training loop that can be resumed:
//!
//! ```
//! use bupo_runs::{CheckpointStore, JsonLinesWriter, RunLock, RunState};
//! # let run = tempfile::tempdir().unwrap();
//! # let run = run.path();
//! # JsonLinesWriter::create(&run.join("metrics.jsonl"))?;
//!
//! let _lock = RunLock::acquire(run)?;
//! let store = CheckpointStore::new(run);
//! store.clean()?;
//! let newest = store.newest()?;
//! for damaged in &newest.skipped_damaged {
//!     eprintln!("{damaged}");
//! }
//! let done = newest.checkpoint.map_or(0, |checkpoint| checkpoint.manifest.step);
//! let mut metrics = JsonLinesWriter::resume(&run.join("metrics.jsonl"), |line| line["step"].as_u64() <= Some(done as u64))?;
//! let mut state = RunState::running(100);
//!
//! for step in done + 1..=100 {
//!     metrics.append(&serde_json::json!({ "step": step, "reward": 0.5 }))?;
//!     if step % 50 == 0 {
//!         // The log lines up to this step must be on disk before the checkpoint is.
//!         metrics.sync()?;
//!         let pending = store.begin(step)?;
//!         std::fs::write(pending.path().join("weights.bin"), [0; 16])?;
//!         pending.commit("0.1.0", serde_json::json!({ "phase": 1 }))?;
//!         store.prune(3, None, &[])?;
//!     }
//!     state.step = step;
//!     state.save(run)?;
//! }
//! # assert_eq!(store.list()?, [100, 50]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic_write;
mod checkpoint;
mod disk;
mod error;
mod json_lines;
mod lock;
mod read_json_lines;
mod state;
mod tensorboard;

pub use atomic_write::write_atomically;
pub use checkpoint::{
    Checkpoint, CheckpointStore, MANIFEST_FORMAT, Manifest, ManifestFile, Newest, PendingCheckpoint, digest,
};
pub use disk::sync_folder;
pub use error::{Damage, Damaged, RunsError};
pub use json_lines::JsonLinesWriter;
pub use lock::{RunLock, is_locked};
pub use read_json_lines::{JsonLine, JsonLinesOptions, read_json_lines};
pub use state::{FoundRun, RunState, RunStatus, Status, find_run, find_runs};
pub use tensorboard::EventWriter;
