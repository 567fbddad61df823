//! Throughput of training, sampling and measuring on this machine, compared with a roofline bound.

mod roofline;
mod work;

use std::time::Instant;

use bupo_core::profile::{self, Part};
use bupo_models::decoder::ParamSource;
use bupo_models::{ComputeDtype, Decoder, ModelConfig, ModelError};
use burn::tensor::{Distribution, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::peak_memory::peak_memory;
use roofline::Cost;
use work::Work;

pub use roofline::{Machine, MachineSizes, Roofline};

/// The work to time.
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
    /// All measurements of `bupo analyze`.
    Measure,
}

/// A benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchSpec {
    /// The work.
    pub mode: BenchMode,
    /// The dtype in which layers compute.
    #[serde(skip)]
    pub dtype: ComputeDtype,
    /// Sequences.
    pub batch: usize,
    /// Tokens per sequence; for a rollout, per prompt.
    pub seq: usize,
    /// The layer (from 1) whose policy `phase1` trains.
    pub layer: usize,
    /// Tokens that a rollout generates per response.
    pub new: usize,
    /// Responses per prompt of a rollout.
    pub group: usize,
    /// Tokens per micro-batch of an update.
    pub max_tokens_per_batch: usize,
    /// Whether an update recomputes layers in the backward pass.
    pub recompute: bool,
    /// Timed runs, after one warm-up run.
    pub runs: usize,
    /// Whether one more run is profiled by part.
    #[serde(skip)]
    pub profile: bool,
    /// The sizes of what is timed for the roofline.
    #[serde(skip)]
    pub machine: MachineSizes,
}

/// The result of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct BenchResult {
    /// Tokens trained, measured or generated per run.
    pub tokens: usize,
    /// Of the median run.
    pub tokens_per_second: f64,
    /// Of the slowest run.
    pub tokens_per_second_min: f64,
    /// Of the fastest run.
    pub tokens_per_second_max: f64,
    /// Seconds of each run, in order.
    pub seconds: Vec<f64>,
    /// Peak resident memory of this process in MiB, including the creation of the model; `None` if the system does not report it.
    /// Excludes GPU memory.
    pub peak_mb: Option<f64>,
    /// The machine's rates, measured in the same call.
    pub machine: Machine,
    /// The roofline bound of the work.
    #[serde(rename = "floor")]
    pub roofline: Roofline,
    /// The roofline time divided by the median run's.
    #[serde(rename = "of_floor")]
    pub of_roofline: f64,
    /// Seconds of a profiled run by part, with the rest as `other`; empty without profiling.
    pub profile: Vec<(String, f64)>,
}

/// A decoder of this shape with random weights, which differ between backends.
///
/// # Errors
/// If it cannot be built.
pub fn random_decoder<B: Backend>(config: &ModelConfig, device: &B::Device) -> Result<Decoder<B>, RlError> {
    B::seed(device, 0);
    Ok(Decoder::build(config, &mut DeviceInit(device.clone()))?)
}

/// Weights drawn on the device: drawing those of a large model on the host takes minutes.
struct DeviceInit<B: Backend>(B::Device);

impl<B: Backend> ParamSource<B> for DeviceInit<B> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<B, D>, ModelError> {
        let normal = Distribution::Normal(0.0, 0.02);
        Ok(if name.ends_with("norm.weight") {
            Tensor::ones(shape, &self.0)
        } else {
            Tensor::random(shape, normal, &self.0)
        })
    }
}

/// Times one kind of work on a decoder of this shape, with the code of training, sampling and measuring.
///
/// # Errors
/// If a size is 0, or the layer is outside the model.
pub fn bench<B: Backend>(decoder: Decoder<B>, config: &ModelConfig, spec: &BenchSpec) -> Result<BenchResult, RlError> {
    let sizes = [
        ("batch", spec.batch),
        ("seq", spec.seq),
        ("new", spec.new),
        ("group", spec.group),
        ("runs", spec.runs),
        ("max-tokens-per-batch", spec.max_tokens_per_batch),
    ];
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return Err(RlError::Config(format!("the benchmark's {name} is 0; it must be at least 1")));
    }
    if spec.layer == 0 || spec.layer > config.num_hidden_layers {
        return Err(RlError::Config(format!(
            "the benchmark's layer is {}; it must be from 1 to {}",
            spec.layer, config.num_hidden_layers
        )));
    }
    let device = decoder.device();
    let mut decoder = decoder.with_compute_dtype(spec.dtype);
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
    let peak_mb = peak_memory().map(|bytes| bytes as f64 / f64::from(1 << 20));
    let machine = Machine::measure::<B>(spec.machine, spec.dtype, &device);
    let roofline = Cost::of(config, spec).roofline(&machine);
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
        of_roofline: roofline.seconds / median,
        machine,
        roofline,
        profile: profiled,
    })
}

fn timed<B: Backend>(work: &mut Work<B>, decoder: &mut Decoder<B>) -> Result<f64, RlError> {
    let started = Instant::now();
    work.run(decoder)?;
    // If the device cannot synchronise, results were read back and it has finished.
    B::sync(&decoder.device()).ok();
    Ok(started.elapsed().as_secs_f64())
}
