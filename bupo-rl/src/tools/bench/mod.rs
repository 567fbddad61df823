//! How fast this machine trains, samples and measures a model of some shape, beside the least that the arithmetic allows.

mod floor;
mod work;

use std::time::Instant;

use bupo_core::profile::{self, Part};
use bupo_models::decoder::RandomInit;
use bupo_models::{ComputeDtype, Decoder, ModelConfig};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::RlError;
use floor::Cost;
use work::Work;

pub use floor::{Floor, Machine};

/// Numbers of the copy that is timed: more than any cache holds.
const COPIED: usize = 1 << 26;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchMode {
    /// One update of the full policy.
    Train,
    /// One update of a layer's policy.
    Phase1,
    /// Sampling from the full policy.
    Rollout,
    /// The entropies of all attention, feed-forward and layer policies.
    Analyze,
    /// All that `bupo analyze` measures of them.
    Measure,
}

/// What is timed, on what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchSpec {
    /// What.
    pub mode: BenchMode,
    /// What the layers compute in.
    #[serde(skip)]
    pub dtype: ComputeDtype,
    /// Sequences.
    pub batch: usize,
    /// Tokens of each; of a rollout those of the prompt.
    pub seq: usize,
    /// The layer whose policy `phase1` trains, from 1.
    pub layer: usize,
    /// Tokens that a rollout generates to each prompt.
    pub new: usize,
    /// Responses to each prompt of a rollout.
    pub group: usize,
    /// Tokens that an update runs at once.
    pub max_tokens_per_batch: usize,
    /// Whether an update runs layers again on the way back.
    pub recompute: bool,
    /// How often it is timed, after once that is not.
    pub runs: usize,
    /// Whether one more run tells where the time goes.
    #[serde(skip)]
    pub profile: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct BenchResult {
    /// Tokens of a run: trained, measured or generated.
    pub tokens: usize,
    /// The median run.
    pub tokens_per_second: f64,
    /// The slowest run.
    pub tokens_per_second_min: f64,
    /// The fastest run.
    pub tokens_per_second_max: f64,
    /// Seconds of each run, in order.
    pub seconds: Vec<f64>,
    /// The most memory that this process has held at once, in megabytes of 2^20 bytes, the model and its making included;
    /// nothing where the system does not say. The memory of a GPU is not in it.
    pub peak_mb: Option<f64>,
    /// What this machine did of the plainest work in the same call.
    pub machine: Machine,
    /// The least time the work can take on it.
    pub floor: Floor,
    /// The floor over the median run.
    pub of_floor: f64,
    /// Seconds of one more run by part, `other` being what no part claims; empty where it was not asked for.
    pub profile: Vec<(String, f64)>,
}

/// Times one kind of work on a model of random weights: the code that trains, samples and measures otherwise.
///
/// # Errors
/// If a size is 0, the layer is outside the model, or weights cannot be made.
pub fn bench<B: Backend>(config: &ModelConfig, spec: &BenchSpec, device: &B::Device) -> Result<BenchResult, RlError> {
    let sizes = [spec.batch, spec.seq, spec.new, spec.group, spec.runs, spec.max_tokens_per_batch];
    if sizes.contains(&0) {
        return Err(RlError::Config("every size of a benchmark must be at least 1".into()));
    }
    if spec.layer == 0 || spec.layer > config.num_hidden_layers {
        return Err(RlError::Config(format!(
            "layer {} is outside a model of {} layers",
            spec.layer, config.num_hidden_layers
        )));
    }
    let mut decoder =
        Decoder::<B>::build(config, &mut RandomInit::new(0, device.clone()))?.with_compute_dtype(spec.dtype);
    let mut work = Work::<B>::new(spec, config);
    work.run(&mut decoder)?;
    let mut seconds = Vec::with_capacity(spec.runs);
    for _ in 0..spec.runs {
        seconds.push(timed(&mut work, &mut decoder)?);
    }
    let mut profiled = Vec::new();
    if spec.profile {
        profile::start();
        let whole = timed(&mut work, &mut decoder);
        let parts = profile::stop();
        let rest = whole? - parts.iter().map(|(_, seconds)| seconds).sum::<f64>();
        profiled = parts.iter().map(|(part, seconds): &(Part, f64)| (part.to_string(), *seconds)).collect();
        profiled.push(("other".into(), rest));
    }
    let peak_mb = peak_memory();
    // A product of as many tokens as the work has at once with a weight of its shape.
    let rows = match spec.mode {
        BenchMode::Rollout => spec.batch,
        _ => (spec.batch * spec.seq).min(spec.max_tokens_per_batch),
    };
    let product = [rows, config.hidden_size, config.intermediate_size];
    let machine = Machine::measure::<B>(product, COPIED, spec.dtype, device);
    let floor = Cost::of(config, spec).floor(&machine);
    let mut sorted = seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let tokens = work.tokens();
    let rate = |seconds: f64| tokens as f64 / seconds;
    Ok(BenchResult {
        tokens,
        tokens_per_second: rate(median),
        tokens_per_second_min: rate(sorted[sorted.len() - 1]),
        tokens_per_second_max: rate(sorted[0]),
        seconds,
        peak_mb,
        of_floor: floor.seconds / median,
        machine,
        floor,
        profile: profiled,
    })
}

fn timed<B: Backend>(work: &mut Work<B>, decoder: &mut Decoder<B>) -> Result<f64, RlError> {
    let started = Instant::now();
    work.run(decoder)?;
    // A device that cannot be waited for has been read from.
    B::sync(&decoder.device()).ok();
    Ok(started.elapsed().as_secs_f64())
}

/// The peak of resident memory, as Linux tells it.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
