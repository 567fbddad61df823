//! `bupo bench`: throughput of this machine, and the share of its roofline that is reached.

use std::path::Path;

use bupo_core::kernels::vector_units;
use bupo_models::pretrained::load_config;
use bupo_models::{ComputeDtype, ModelConfig, ModelFiles, load_model};
use bupo_rl::{BenchMode, BenchResult, BenchSpec, MachineSizes, bench, random_decoder};
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::args::{BenchArgs, BenchModeArg};
use crate::backend::{DeviceChoice, Job, device_name, is_software, memory, processor, resolve, run_on};
use crate::error::CliError;
use crate::products::Products;

/// Named shapes, all of the Qwen3 architecture; vocab has few layers and a large vocabulary.
const SHAPES: [(&str, &str); 4] = [
    (
        "small",
        r#"{"model_type": "qwen3", "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 1536, "vocab_size": 8192,
            "tie_word_embeddings": false}"#,
    ),
    (
        "vocab",
        r#"{"model_type": "qwen3", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 1536, "vocab_size": 151936,
            "tie_word_embeddings": false}"#,
    ),
    (
        "qwen3-0.6b",
        r#"{"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
            "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3-4b",
        r#"{"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936,
            "tie_word_embeddings": true}"#,
    ),
];
/// Default tokens per prompt of a rollout, and per sequence of other work.
const PROMPT_TOKENS: usize = 64;
const SEQUENCE_TOKENS: usize = 256;

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<(), CliError> {
    let (config, files) = shape(&args.shape)?;
    let device = resolve(args.device.device)?;
    let free_before = free_gpu_memory(device);
    let machine = if is_software(device) { MachineSizes::SOFTWARE } else { MachineSizes::LARGE };
    let Timed { spec, dtype, products, result } = run_on(device, BenchJob { args, config, files, machine })?;
    let gpu_mb = free_before
        .zip(free_gpu_memory(device))
        .map(|(before, after)| before.saturating_sub(after) as f64 / f64::from(1 << 20));
    let device = device_name(device);
    if args.json {
        outln!(
            "{}",
            json!({"shape": args.shape, "device": device, "processor": processor(), "vector_units": vector_units(),
                "dtype": dtype.to_string(), "product_dtype": products.dtype, "product_unit": products.unit, "spec": spec,
                "gpu_mb": gpu_mb, "result": result})
        );
    } else {
        print(&args.shape, &device, &spec, &result, gpu_mb);
    }
    Ok(())
}

struct BenchJob<'a> {
    args: &'a BenchArgs,
    config: ModelConfig,
    /// The files of a folder with weights.
    files: Option<ModelFiles>,
    machine: MachineSizes,
}

struct Timed {
    spec: BenchSpec,
    dtype: ComputeDtype,
    products: Products,
    result: BenchResult,
}

impl Job for BenchJob<'_> {
    type Output = Timed;

    fn run<B: Backend>(self, device: &B::Device) -> Result<Timed, CliError> {
        let (dtype, decoder) = match &self.files {
            Some(files) => (self.args.dtype.for_model::<B>(files, device)?, load_model::<B>(files, device)?.decoder),
            None => (self.args.dtype.for_new::<B>(device)?, random_decoder::<B>(&self.config, device)?),
        };
        let spec = spec(self.args, dtype, self.machine);
        let result = bench(decoder, &self.config, &spec)?;
        Ok(Timed { spec, dtype, products: Products::of::<B>(dtype, device), result })
    }
}

/// Free memory of an NVIDIA GPU. Burn's memory pool keeps most of what it takes, but not all: the decrease over a run is at most its peak.
fn free_gpu_memory(device: DeviceChoice) -> Option<u64> {
    if matches!(device, DeviceChoice::Cuda(_)) { memory(device).map(|memory| memory.free) } else { None }
}

fn spec(args: &BenchArgs, dtype: ComputeDtype, machine: MachineSizes) -> BenchSpec {
    let (mode, default_tokens) = match args.mode {
        BenchModeArg::Train => (BenchMode::Train, SEQUENCE_TOKENS),
        BenchModeArg::Phase1 => (BenchMode::Phase1, SEQUENCE_TOKENS),
        BenchModeArg::Rollout => (BenchMode::Rollout, PROMPT_TOKENS),
        BenchModeArg::Analyze => (BenchMode::Analyze, SEQUENCE_TOKENS),
        BenchModeArg::Measure => (BenchMode::Measure, SEQUENCE_TOKENS),
    };
    BenchSpec {
        mode,
        dtype,
        batch: args.batch,
        seq: args.seq.unwrap_or(default_tokens),
        layer: args.layer,
        new: args.new,
        group: args.group,
        max_tokens_per_batch: args.max_tokens_per_batch,
        recompute: args.recompute,
        runs: args.runs,
        profile: args.profile,
        machine,
    }
}

fn print(shape: &str, device: &str, spec: &BenchSpec, result: &BenchResult, gpu_mb: Option<f64>) {
    let work = match spec.mode {
        BenchMode::Train => format!("update of the full policy, {} x {}", spec.batch, spec.seq),
        BenchMode::Phase1 => format!("update of layer {}'s policy, {} x {}", spec.layer, spec.batch, spec.seq),
        BenchMode::Rollout => {
            format!("rollout, {} responses, {} per prompt, {} + {} tokens", spec.batch, spec.group, spec.seq, spec.new)
        }
        BenchMode::Analyze => format!("entropies of every policy, {} x {}", spec.batch, spec.seq),
        BenchMode::Measure => format!("all measures of every policy, {} x {}", spec.batch, spec.seq),
    };
    outln!("{shape}, {work}, {} on {device}", spec.dtype);
    outln!(
        "  {:.1} tokens/s, median of {} runs ({:.1} to {:.1})",
        result.tokens_per_second,
        result.seconds.len(),
        result.tokens_per_second_min,
        result.tokens_per_second_max
    );
    if let Some(peak) = result.peak_mb {
        outln!("  peak memory {peak:.0} MB");
    }
    if let Some(held) = gpu_mb {
        outln!("  GPU memory held at the end {held:.0} MB");
    }
    let roofline = &result.roofline;
    outln!(
        "  {:.0}% of the roofline: {:.1} GFLOP at {:.1} GFLOP/s take {:.3} s, {:.2} GB at {:.1} GB/s take {:.3} s",
        100.0 * result.of_roofline,
        roofline.operations * 1e-9,
        result.machine.gflops,
        roofline.operation_seconds,
        roofline.bytes * 1e-9,
        result.machine.memory_gb_per_second,
        roofline.byte_seconds
    );
    let total: f64 = result.profile.iter().map(|(_, seconds)| seconds).sum();
    for (part, seconds) in &result.profile {
        outln!("  {part:<16} {seconds:>8.3} s {:>5.1}%", 100.0 * seconds / total);
    }
}

/// A named shape, or that of a model folder, whose weights are used if it has any.
fn shape(name: &str) -> Result<(ModelConfig, Option<ModelFiles>), CliError> {
    if let Some((_, json)) = SHAPES.iter().find(|(known, _)| *known == name) {
        return Ok((ModelConfig::from_json(json)?, None));
    }
    let folder = Path::new(name);
    if !folder.join("config.json").is_file() {
        let known: Vec<&str> = SHAPES.iter().map(|(known, _)| *known).collect();
        return Err(CliError::Message(format!(
            "--shape is `{name}`, which is no folder with a config.json; give one, or one of {}",
            known.join(", ")
        )));
    }
    let files = ModelFiles::folder(folder)?;
    let has_weights = files.has("model.safetensors") || files.has("model.safetensors.index.json");
    Ok((load_config(&files)?, has_weights.then_some(files)))
}
