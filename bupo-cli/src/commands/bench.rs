//! `bupo bench`: how fast this machine does the work, beside what it could.

use std::fs;
use std::path::Path;

use bupo_models::ModelConfig;
use bupo_rl::{BenchMode, BenchResult, BenchSpec, bench};
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::args::{BenchArgs, BenchModeArg};
use crate::backend::{DeviceChoice, Job, device_name, memory, resolved, run_on};
use crate::error::CliError;

/// The shapes that have names: Qwen3 models that differ in what they spend their time on.
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
/// Tokens of a rollout's prompts, and of the sequences of all else.
const PROMPT: usize = 64;
const SEQUENCE: usize = 256;

/// Runs the command.
pub fn run(args: BenchArgs) -> Result<(), CliError> {
    let config = shape(&args.shape)?;
    let device = resolved(args.device.device)?;
    let free = free_on_gpu(device);
    run_on(device, BenchJob { args, config, device, free })
}

struct BenchJob {
    args: BenchArgs,
    config: ModelConfig,
    device: DeviceChoice,
    /// Bytes that a GPU had free before, where it says.
    free: Option<u64>,
}

/// The memory that a GPU has free. It keeps what it has once taken: what is gone afterwards is the most that was held.
fn free_on_gpu(device: DeviceChoice) -> Option<u64> {
    if matches!(device, DeviceChoice::Cuda(_)) { memory(device).map(|memory| memory.free) } else { None }
}

impl Job for BenchJob {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self { args, config, device: choice, free } = self;
        let mode = match args.mode {
            BenchModeArg::Train => BenchMode::Train,
            BenchModeArg::Phase1 => BenchMode::Phase1,
            BenchModeArg::Rollout => BenchMode::Rollout,
            BenchModeArg::Analyze => BenchMode::Analyze,
            BenchModeArg::Measure => BenchMode::Measure,
        };
        let dtype = args.dtype.for_new::<B>(device)?;
        let rollout = mode == BenchMode::Rollout;
        let spec = BenchSpec {
            mode,
            dtype,
            batch: args.batch,
            seq: args.seq.unwrap_or(if rollout { PROMPT } else { SEQUENCE }),
            layer: args.layer,
            new: args.new,
            group: args.group,
            max_tokens_per_batch: args.max_tokens_per_batch,
            recompute: args.recompute,
            runs: args.runs,
            profile: args.profile,
        };
        let result = bench::<B>(&config, &spec, device)?;
        let gpu_mb = free
            .zip(free_on_gpu(choice))
            .map(|(before, after)| before.saturating_sub(after) as f64 / f64::from(1 << 20));
        let device = device_name(choice)?;
        if args.json {
            outln!(
                "{}",
                json!({"shape": args.shape, "device": device, "dtype": dtype.to_string(), "spec": spec, "gpu_mb": gpu_mb, "result": result})
            );
        } else {
            show(&args.shape, &device, &spec, &result, gpu_mb);
        }
        Ok(())
    }
}

fn show(shape: &str, device: &str, spec: &BenchSpec, result: &BenchResult, gpu_mb: Option<f64>) {
    let what = match spec.mode {
        BenchMode::Train => format!("update of the full policy, {} x {}", spec.batch, spec.seq),
        BenchMode::Phase1 => format!("update of layer {}'s policy, {} x {}", spec.layer, spec.batch, spec.seq),
        BenchMode::Rollout => {
            format!("rollout, {} responses, {} to a prompt, {} + {} tokens", spec.batch, spec.group, spec.seq, spec.new)
        }
        BenchMode::Analyze => format!("entropies of every policy, {} x {}", spec.batch, spec.seq),
        BenchMode::Measure => format!("all measures of every policy, {} x {}", spec.batch, spec.seq),
    };
    outln!("{shape}, {what}, {} on {device}", spec.dtype);
    outln!(
        "  {:.1} tokens/s, median of {} runs ({:.1} to {:.1})",
        result.tokens_per_second,
        result.seconds.len(),
        result.tokens_per_second_min,
        result.tokens_per_second_max
    );
    if let Some(peak) = result.peak_mb {
        outln!("  {peak:.0} MB of memory at the peak");
    }
    if let Some(peak) = gpu_mb {
        outln!("  {peak:.0} MB of the GPU's memory at the peak");
    }
    let roofline = &result.roofline;
    outln!(
        "  {:.0}% of the roofline: {:.1} GFLOP at {:.1} GFLOP/s are {:.3} s, {:.2} GB at {:.1} GB/s are {:.3} s",
        100.0 * result.of_roofline,
        roofline.operations * 1e-9,
        result.machine.gflops,
        roofline.operation_seconds,
        roofline.bytes * 1e-9,
        result.machine.copy_gb_per_second,
        roofline.byte_seconds
    );
    let whole: f64 = result.profile.iter().map(|(_, seconds)| seconds).sum();
    for (part, seconds) in &result.profile {
        outln!("  {part:<16} {seconds:>8.3} s {:>5.1}%", 100.0 * seconds / whole);
    }
}

/// A shape by its name, or that of a model folder.
fn shape(name: &str) -> Result<ModelConfig, CliError> {
    if let Some((_, json)) = SHAPES.iter().find(|(known, _)| *known == name) {
        return Ok(ModelConfig::from_json(json)?);
    }
    let path = Path::new(name).join("config.json");
    if !path.is_file() {
        let known: Vec<&str> = SHAPES.iter().map(|(known, _)| *known).collect();
        return Err(CliError::Message(format!(
            "`{name}` is not a shape ({}) nor a model folder with a config.json",
            known.join(", ")
        )));
    }
    let text = fs::read_to_string(&path).map_err(CliError::io("read", &path))?;
    Ok(ModelConfig::from_json(&text)?)
}
