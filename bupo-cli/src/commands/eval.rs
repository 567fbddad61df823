//! `bupo eval`

use std::path::{Path, PathBuf};

use bupo_eval::{
    Benchmark, BenchmarkResult, COMPLETIONS, EvaluationFolder, PromptRenderer, Sampler, Sampling, grade_again,
    read_questions, run_benchmarks,
};
use bupo_grade::Grader;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::{ComputeDtype, ModelFiles, TextTokenizer};
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::args::EvalArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::CliError;
use crate::files::free_folder;
use crate::grading::{rewards, warn_of_failures};
use crate::model::{load_for_inference, model_files, warn_of_positions};
use crate::screen::{StepBar, print_results};

pub fn run(args: &EvalArgs) -> Result<(), CliError> {
    if args.samples == 0 || args.max_new_tokens == 0 || args.batch == 0 || args.limit == Some(0) {
        return Err(CliError::Message("--samples, --max-new-tokens, --batch and --limit must be at least 1".into()));
    }
    args.sampling.check()?;
    let grader = Grader::new(rewards(&args.rule))?;
    if let Some(path) = &args.completions {
        print_results(&grade_again(path, &grader)?, &args.rule.to_string());
        warn_of_failures(&grader);
        return Ok(());
    }
    let device = resolve(args.model.device.device)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let renderer = PromptRenderer::new(&files, &args.prompts.chat_template, args.prompts.thinking)?;
    let benchmarks = read_benchmarks(args, &renderer)?;
    let config = bupo_models::pretrained::load_config(&files)?;
    args.policy.policy.depth(config.num_hidden_layers).map_err(bupo_models::ModelError::from)?;
    warn_of_positions(&config, longest(&benchmarks) + args.max_new_tokens);
    let out = args.out.clone().unwrap_or_else(|| free_folder("eval"));
    let (folder, results) = run_on(device, Eval { args, files, benchmarks: &benchmarks, grader: &grader, out: &out })?;
    print_results(&results, &args.rule.to_string());
    warn_of_failures(&grader);
    outln!("results      {}", folder.write_results(&results)?.display());
    outln!("completions  {}", out.join(COMPLETIONS).display());
    Ok(())
}

struct Eval<'a> {
    args: &'a EvalArgs,
    files: ModelFiles,
    benchmarks: &'a [Benchmark],
    grader: &'a Grader,
    out: &'a Path,
}

impl Job for Eval<'_> {
    type Output = (EvaluationFolder, Vec<BenchmarkResult>);

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let dtype = self.args.model.dtype.dtype.for_model::<B>(&self.files, device)?;
        let mut folder = self.open_folder(dtype)?;
        let model = load_for_inference::<B>(&self.files, dtype.into(), device)?;
        let tokenizer = TextTokenizer::load(&self.files)?;
        let bar = StepBar::new(self.benchmarks.iter().map(|benchmark| benchmark.questions.len()).sum());
        let sampler = Sampler::new(&model, &tokenizer);
        let sampling = sampling(self.args);
        let results =
            run_benchmarks(&sampler, self.benchmarks, &sampling, self.grader, &mut folder, |done| bar.advance(done))?;
        bar.finish();
        Ok((folder, results))
    }
}

impl Eval<'_> {
    fn open_folder(&self, dtype: ComputeDtype) -> Result<EvaluationFolder, CliError> {
        let samples = self.args.samples;
        let folder = EvaluationFolder::open(self.out, &settings(self.args, dtype, self.benchmarks), samples)?;
        let resumed = folder.resumed(samples);
        if resumed > 0 {
            outln!("{resumed} problems are already done in {}", self.out.display());
        }
        Ok(folder)
    }
}

fn sampling(args: &EvalArgs) -> Sampling {
    Sampling {
        site: args.policy.policy,
        norm: args.policy.norm.norm,
        samples: args.samples,
        temperature: args.sampling.temperature(),
        max_new_tokens: args.max_new_tokens,
        batch: args.batch,
        seed: args.sampling.seed,
    }
}

fn read_benchmarks(args: &EvalArgs, renderer: &PromptRenderer) -> Result<Vec<Benchmark>, CliError> {
    let mut benchmarks: Vec<Benchmark> = Vec::new();
    for path in &args.data {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if benchmarks.iter().any(|benchmark| benchmark.name == name) {
            return Err(CliError::Message(format!(
                "--data has two files with the name {name}; each benchmark needs its own name"
            )));
        }
        let options = args.prompts.options();
        let mut prepared = read_questions(std::slice::from_ref(path), &options, renderer)?;
        for (count, action) in [(prepared.dropped, "dropped"), (prepared.truncated, "truncated on the left")] {
            if count > 0 {
                outln!("{name}: {count} prompts of more than {} tokens {action}", options.max_prompt_tokens);
            }
        }
        prepared.questions.truncate(args.limit.unwrap_or(usize::MAX));
        benchmarks.push(Benchmark { name, questions: prepared.questions });
    }
    Ok(benchmarks)
}

/// The length of the longest prompt in tokens.
fn longest(benchmarks: &[Benchmark]) -> usize {
    let questions = benchmarks.iter().flat_map(|benchmark| &benchmark.questions);
    questions.map(|question| question.tokens.len()).max().unwrap_or(0)
}

/// The options that two evaluations must share for one to resume the other.
fn settings(args: &EvalArgs, dtype: ComputeDtype, benchmarks: &[Benchmark]) -> serde_json::Value {
    let files: Vec<String> = args.data.iter().map(|path| absolute(path).display().to_string()).collect();
    json!({
        "model": args.model.model,
        "dtype": dtype.to_string(),
        "data": files,
        "problems": benchmarks.iter().map(|benchmark| benchmark.questions.len()).collect::<Vec<_>>(),
        "samples": args.samples,
        "policy": args.policy.policy.to_string(),
        "norm": args.policy.norm.norm.to_string(),
        "rule": args.rule.to_string(),
        "temperature": args.sampling.temperature(),
        "max_new_tokens": args.max_new_tokens,
        "max_prompt_tokens": args.prompts.max_prompt_tokens,
        "overlong": format!("{:?}", args.prompts.overlong),
        "chat_template": args.prompts.chat_template.to_string(),
        "thinking": args.prompts.thinking,
        "prompt_column": args.prompts.prompt_column,
        "answer_column": args.prompts.answer_column,
        "source_column": args.prompts.source_column,
        "seed": args.sampling.seed,
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
