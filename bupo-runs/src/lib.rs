//! What makes a training run survive on disk, whatever ends its process.
//!
//! - [`CheckpointStore`]: checkpoints that are there whole or not at all, with a checksum of every file.
//! - [`JsonLines`]: logs of whole lines, cut back to a checkpoint's step when a run goes on from it.
//! - [`RunLock`]: one process at a time in a run folder, freed by the kernel when the process dies.
//! - [`RunState`] and [`find_runs`]: how far a run is, and which runs there are.
//! - [`EventWriter`]: scalars for TensorBoard.
//!
//! Nothing here knows what a model is. A run goes on like this:
//!
//! ```
//! use bupo_runs::{CheckpointStore, JsonLines, RunLock, RunState};
//! # let run = tempfile::tempdir().unwrap();
//! # let run = run.path();
//! # JsonLines::create(&run.join("metrics.jsonl"))?;
//!
//! let _lock = RunLock::acquire(run)?;
//! let store = CheckpointStore::new(run);
//! store.clean()?;
//! let newest = store.newest()?;
//! for damaged in &newest.passed_over {
//!     eprintln!("{damaged}");
//! }
//! let done = newest.checkpoint.map_or(0, |checkpoint| checkpoint.manifest.step);
//! let mut metrics = JsonLines::resume(&run.join("metrics.jsonl"), |line| line["step"].as_u64() <= Some(done as u64))?;
//! let mut state = RunState::running(100);
//!
//! for step in done + 1..=100 {
//!     metrics.append(&serde_json::json!({ "step": step, "reward": 0.5 }))?;
//!     if step % 50 == 0 {
//!         // What a checkpoint relies on is on the disk before it.
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

mod checkpoint;
mod disk;
mod error;
mod lines;
mod lock;
mod state;
mod tensorboard;

pub use checkpoint::{Checkpoint, CheckpointStore, FORMAT, Manifest, ManifestFile, Newest, Pending};
pub use disk::write_atomically;
pub use error::{Damage, Damaged, RunsError};
pub use lines::JsonLines;
pub use lock::{RunLock, is_locked};
pub use state::{FoundRun, RunState, RunStatus, Status, find_runs};
pub use tensorboard::EventWriter;
