//! Tools beside training: throughput benchmarks, the device check, updates on recorded rollouts, supervised
//! pretraining, tuned lenses.

mod bench;
mod device_check;
mod pretrain;
mod replay;
mod tune_lens;

pub use bench::{BenchMode, BenchResult, BenchSpec, Machine, MachineSizes, Roofline, bench, random_decoder};
pub use device_check::{DeviceNumbers, Difference};
pub use pretrain::{PretrainConfig, pretrain};
pub use replay::{RecordedRollout, read_rollouts, replay};
pub use tune_lens::{HELD_OUT_EVERY, LayerFit, TuneLensConfig, tune_lens};
