//! The command line's words.

use std::path::PathBuf;

use bupo_core::{Norm, PolicySite};
use bupo_eval::{ChatChoice, Overlong};
use bupo_grade::Rule;
use bupo_models::{DtypeChoice, SaveDtype};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backend::DeviceChoice;

/// Looks inside a language model's policy and trains it from the bottom up.
#[derive(Debug, Parser)]
#[command(name = "bupo", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model with Bottom-up Policy Optimization, or plain GRPO
    Train(TrainArgs),
    /// Write every state of the residual stream, and every policy's entropy, on given tokens
    Trace(TraceArgs),
    /// Sample from the full policy or an internal one
    Generate(GenerateArgs),
    /// Show what every layer would say next, at every place of a text
    Lens(LensArgs),
    /// Measure, draw and explain the internal policies of one or several models
    Analyze(AnalyzeArgs),
    /// Make the page of one or several training runs
    Report(ReportArgs),
    /// List training runs, and how far they are
    Runs(RunsArgs),
    /// Learn from recorded rollouts, without generation
    Replay(ReplayArgs),
    /// Sample answers to benchmarks, grade them, and show Avg@K and Pass@K
    Eval(EvalArgs),
    /// Grade given answers
    Grade(GradeArgs),
    /// Show what is in data files, and the prompts a model would get
    Data(DataArgs),
    /// Print the default settings with comments, or check a settings file
    Config(ConfigArgs),
    /// List what this machine offers to compute on, and what auto chooses
    Devices,
    /// Compute a small training on every device here, and compare and time it
    Doctor,
    /// Train a tiny model from scratch on worked solutions
    #[command(alias = "warmup")]
    Pretrain(PretrainArgs),
    /// Time training, sampling and measuring on random weights, beside the least this machine would need
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder, or a Hub id such as Qwen/Qwen3-0.6B or org/name@revision [default: the model inside the program]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub dtype: DtypeArgs,
}

#[derive(Debug, Args)]
pub struct DtypeArgs {
    /// What layers compute in: auto, f32 or bf16; auto is bf16 where the weights are and the device has units for it
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, ndarray, wgpu[:N] or cuda[:N]; auto is the best that works here
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
}

#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The policy: full, layer:N, attn:N or ffn:N, layers from 1
    #[arg(long, value_name = "SITE", default_value = "full")]
    pub policy: PolicySite,
    /// The norm between an internal state and the unembedding: none or final
    #[arg(long, value_name = "NORM", default_value = "none")]
    pub norm: Norm,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Settings file in TOML; what it leaves out keeps its default
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Change a setting: rollout.prompts=64, phases.0.steps=5; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// bupo, or grpo on the same number of steps [default: the settings' own, bupo]
    #[arg(long)]
    pub algorithm: Option<AlgorithmArg>,
    /// Seeds everything random [default: the settings' own, 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Model folder or Hub id [default: the settings' own, the model inside the program]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What layers compute in: auto, f32 or bf16; parameters and moments are f32 [default: the settings' own, auto]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<DtypeChoice>,
    /// Save the trained model as f32, bf16 or f16 [default: the dtype it was loaded from]
    #[arg(long, value_name = "DTYPE")]
    pub save_dtype: Option<SaveDtype>,
    /// Run folder; it must not exist or be empty [default: the first free of runs/bupo-1, runs/bupo-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with a run that was stopped, after its newest checkpoint; --set may change a few settings, --set phases.1.steps=200 say
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "algorithm", "seed", "model", "dtype", "save_dtype", "out", "fork"])]
    pub resume: Option<PathBuf>,
    /// Start a new run from another one's checkpoint, with its settings and any changes
    #[arg(long, value_name = "RUN", conflicts_with = "config")]
    pub fork: Option<PathBuf>,
    /// The step whose checkpoint --fork starts from [default: the newest]
    #[arg(long, value_name = "N", requires = "fork")]
    pub from_step: Option<usize>,
    /// Memory the run may take by the estimate, such as 12GiB; batches are cut to it [default: what the device has free, where it says;
    /// with --resume what the run was cut to]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory_limit: Option<u64>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AlgorithmArg {
    Bupo,
    Grpo,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids, [[id, ...], ...], rows of equal length
    #[arg(long, value_name = "IDS.json")]
    pub tokens: PathBuf,
    /// File to write
    #[arg(long, value_name = "OUT.safetensors")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Token ids, [[id, ...], ...]; rows may have different lengths
    #[arg(long, value_name = "IDS.json", group = "input")]
    pub tokens: Option<PathBuf>,
    /// Text to continue
    #[arg(long, value_name = "TEXT", group = "input")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Several policies on the one text of --prompt, side by side: full,layer:6,ffn:20
    #[arg(long, value_name = "SITE,...", value_delimiter = ',', requires = "prompt", conflicts_with = "policy")]
    pub compare: Vec<PolicySite>,
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// The longest response, in tokens
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_new_tokens: usize,
    /// Seeds the random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Go on past end-of-sequence tokens
    #[arg(long)]
    pub ignore_eos: bool,
    /// Write {"tokens": [[id, ...], ...], "log_probs": [[...], ...]} here, generated tokens only; with --compare by site
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LensArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text, read as it stands, without a chat template
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// How many tokens of each policy
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
    /// The norm between a layer's state and the unembedding: none, or final for the logit lens
    #[arg(long, value_name = "NORM", default_value = "none")]
    pub norm: Norm,
    /// Write the same as JSON here instead
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input"))]
pub struct AnalyzeArgs {
    /// Model folder or Hub id; again for more models, side by side [default: the model inside the program]
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub dtype: DtypeArgs,
    /// Parquet or JSONL files of problems, answered here and graded [default: the embedded problems]
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', group = "input")]
    pub data: Vec<PathBuf>,
    /// A text file with a prompt a line, answered here
    #[arg(long, value_name = "FILE", group = "input")]
    pub prompts: Option<PathBuf>,
    /// Responses that are there already, JSON lines with prompt and response, every model on the same
    #[arg(long, value_name = "FILE.jsonl", group = "input")]
    pub completions: Option<PathBuf>,
    /// Responses per prompt
    #[arg(long, value_name = "N", default_value_t = 4, conflicts_with = "completions")]
    pub samples: usize,
    /// The most prompts, or given responses
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub limit: usize,
    /// The norm between an internal state and the unembedding: none or final
    #[arg(long, value_name = "NORM", default_value = "none")]
    pub norm: Norm,
    /// Measure layers 1 to this one alone; nothing above them runs, and nothing is compared with the full policy
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// What counts as no change of entropy, as a share of ln V
    #[arg(long, value_name = "SHARE", default_value_t = bupo_analysis::DEFAULT_TOLERANCE)]
    pub tolerance: f64,
    /// strict, equivalent, exact, numeric or command:PROGRAM, for the answers to --data
    #[arg(long, default_value = "strict", requires = "data")]
    pub rule: Rule,
    /// Divides the logits when sampling; what is measured is at temperature 1
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_negative_numbers = true,
        conflicts_with = "completions"
    )]
    pub temperature: f64,
    /// The longest response, in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_new_tokens: usize,
    /// Responses generated at once; it changes memory and speed, not the responses
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    #[command(flatten)]
    pub chat: PromptArgs,
    /// Seeds the random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder to write to [default: the first free of runs/analysis-1, runs/analysis-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into a folder that is not empty, over the files of an earlier analysis
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders of training runs
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The page to write [default: report.html in the run's folder; with several, report.html here]
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Write the pictures as SVG and PNG into this folder too
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// Write over a page that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// The folder that runs are in
    #[arg(value_name = "DIR", default_value = "runs")]
    pub folder: PathBuf,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Recorded rollouts: lines of {"group": 0, "prompt": [ids], "response": [ids], "reward": 1.0}
    #[arg(long, value_name = "FILE.jsonl")]
    pub rollouts: PathBuf,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How many updates, each on the whole file
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub updates: usize,
    /// AdamW's step size
    #[arg(long, value_name = "X", default_value_t = 1e-6, allow_negative_numbers = true)]
    pub lr: f64,
    /// Folder to write the updated model and updates.jsonl to; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Tokens run at once, padding included; it changes memory and speed, not the update
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_tokens_per_batch: usize,
    /// Save the updated model as f32, bf16 or f16; f32 shows every change
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub save_dtype: SaveDtype,
}

/// How problems are read and made into prompts.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Column of the prompts, chat messages or text; a.b reaches into a [default: the well-known names]
    #[arg(long, value_name = "NAME")]
    pub prompt_column: Option<String>,
    /// Column of the right answers
    #[arg(long, value_name = "NAME")]
    pub answer_column: Option<String>,
    /// Column that says where a row comes from
    #[arg(long, value_name = "NAME")]
    pub source_column: Option<String>,
    /// Prompts of more tokens are over-long
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_prompt_tokens: usize,
    /// What becomes of over-long prompts
    #[arg(long, value_name = "RULE", default_value = "drop")]
    pub overlong: OverlongArg,
    /// auto (the model's own), none, plain, or a Jinja file
    #[arg(long, value_name = "TEMPLATE", default_value = "auto")]
    pub chat_template: ChatChoice,
    /// What chat templates know as enable_thinking [default: the template's own]
    #[arg(long, value_name = "true|false")]
    pub thinking: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OverlongArg {
    /// They are left out
    Drop,
    /// Their first tokens are left out
    TruncateLeft,
}

impl From<OverlongArg> for Overlong {
    fn from(rule: OverlongArg) -> Self {
        match rule {
            OverlongArg::Drop => Self::Drop,
            OverlongArg::TruncateLeft => Self::TruncateLeft,
        }
    }
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("answers").required(true))]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Parquet or JSONL files, each a benchmark named after it
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', group = "answers")]
    pub data: Vec<PathBuf>,
    /// Grade an earlier evaluation's completions.jsonl again, without sampling
    #[arg(long, value_name = "FILE.jsonl", group = "answers")]
    pub completions: Option<PathBuf>,
    /// Responses per problem, n; Pass@K is shown for every K up to it
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub samples: usize,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// strict, equivalent, exact, numeric or command:PROGRAM
    #[arg(long, default_value = "strict")]
    pub rule: Rule,
    /// Divides the logits; 0 takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// The longest response, in tokens
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_new_tokens: usize,
    /// Responses generated at once; it changes memory and speed, not the responses
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    /// Only the first problems of each file
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// Seeds the random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder to write to; one that holds a part of the same evaluation is gone on with [default: the first free of
    /// runs/eval-1, runs/eval-2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct GradeArgs {
    /// strict, equivalent, exact, numeric or command:PROGRAM
    #[arg(long)]
    pub rule: Rule,
    /// Lines of {"response": "...", "answer": "..."}
    #[arg(long, value_name = "FILE.jsonl")]
    pub input: PathBuf,
    /// The same lines, in order, each with its score and what was extracted
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// Parquet or JSONL files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Whose tokenizer and chat template are used: model folder or Hub id [default: the model inside the program]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub prompts: PromptArgs,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what a settings file would do: phases, updates, tokens, memory by part
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Settings file in TOML
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Change a setting; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Model folder or Hub id whose config.json gives the sizes [default: the settings' own]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// small, vocab, qwen3-0.6b, qwen3-4b, or a model folder whose config.json gives the sizes
    #[arg(long, value_name = "SHAPE", default_value = "small")]
    pub shape: String,
    /// What is timed
    #[arg(long, default_value = "train")]
    pub mode: BenchModeArg,
    /// Sequences
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,
    /// Tokens of each, in a rollout of its prompt [default: 256, in a rollout 64]
    #[arg(long, value_name = "N")]
    pub seq: Option<usize>,
    /// The layer whose policy phase1 trains, from 1
    #[arg(long, value_name = "L", default_value_t = 2)]
    pub layer: usize,
    /// Tokens that a rollout generates to each prompt
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub new: usize,
    /// Responses to each prompt of a rollout
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub group: usize,
    /// Tokens that an update runs at once
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_tokens_per_batch: usize,
    /// Run layers again on the way back of an update
    #[arg(long)]
    pub recompute: bool,
    /// How often, after once that is not timed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub runs: usize,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Tell where the time goes, by one more run
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// What layers compute in: auto, which is f32 here, f32 or bf16
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: DtypeChoice,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum BenchModeArg {
    /// One update of the full policy
    Train,
    /// One update of the policy of --layer
    Phase1,
    /// Sampling from the full policy
    Rollout,
    /// The entropies of all attention, feed-forward and layer policies
    Analyze,
    /// All that `bupo analyze` measures of them
    Measure,
}

#[derive(Debug, Args)]
pub struct PretrainArgs {
    /// Folder to write the model to; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many updates
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub steps: usize,
    /// Problems per update
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub batch: usize,
    /// The highest step size
    #[arg(long, value_name = "X", default_value_t = 2e-3)]
    pub lr: f64,
    /// Width of the residual stream, a multiple of 64
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub hidden: usize,
    /// Number of layers
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub layers: usize,
    /// The most numbers in a problem
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub max_terms: usize,
    /// The largest number in a problem
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub max_number: u32,
    /// The chance that a step of a worked solution goes wrong
    #[arg(long, value_name = "P", default_value_t = 0.25)]
    pub slips: f64,
    /// Seeds weights and problems
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A number of bytes: 16GiB, 500MB, 1000000.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("", 1),
    ];
    let parse = |(unit, size): (&str, u64)| {
        let count: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        (count.is_finite() && count > 0.0).then_some((count * size as f64) as u64)
    };
    units.into_iter().find_map(parse).ok_or_else(|| "write it like 12GiB or 500MB".to_string())
}
