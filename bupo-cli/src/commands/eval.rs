//! `bupo eval`

use std::path::PathBuf;

use bupo_eval::{
    Benchmark, COMPLETIONS, EvaluationFolder, PromptRenderer, Sampler, Sampling, grade_again, read_questions,
    run_benchmarks,
};
use bupo_grade::Grader;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::{ComputeDtype, TextTokenizer};
use burn::tensor::backend::Backend;
use serde_json::json;

use super::grade::{report_failures, rewards};
use super::{free_folder, load_to_read, model_files, prompt_options};
use crate::args::EvalArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;
use crate::screen::{StepBar, print_results};

pub fn run(args: EvalArgs) -> Result<(), CliError> {
    if args.samples == 0 || args.max_new_tokens == 0 || args.batch == 0 || args.limit == Some(0) {
        return Err(CliError::Message("--samples, --max-new-tokens, --batch and --limit must be at least 1".into()));
    }
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return Err(CliError::Message(format!("--temperature is {}; it must be 0 or more", args.temperature)));
    }
    let grader = Grader::new(rewards(&args.rule))?;
    if let Some(path) = &args.completions {
        let results = grade_again(path, &grader)?;
        print_results(&results, &args.rule.to_string());
        report_failures(&grader);
        return Ok(());
    }
    run_on(args.model.device.device, Eval { args, grader })
}

struct Eval {
    args: EvalArgs,
    grader: Grader,
}

impl Job for Eval {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self { args, grader } = self;
        let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
        let renderer = PromptRenderer::new(&files, &args.prompts.chat_template, args.prompts.thinking)?;
        let benchmarks = read_benchmarks(&args, &renderer)?;
        let num_layers = bupo_models::pretrained::load_config(&files)?.num_hidden_layers;
        args.policy.policy.depth(num_layers).map_err(bupo_models::ModelError::from)?;
        let dtype = args.model.dtype.dtype.for_model::<B>(&files, device)?;
        let out = args.out.clone().unwrap_or_else(|| free_folder("eval"));
        let mut folder = EvaluationFolder::open(&out, &settings(&args, dtype, &benchmarks), args.samples)?;
        let resumed = folder.resumed(args.samples);
        if resumed > 0 {
            outln!("{resumed} problems are done already in {}", out.display());
        }
        let model = load_to_read::<B>(&files, dtype.into(), device)?;
        let tokenizer = TextTokenizer::load(&files)?;
        let sampling = Sampling {
            site: args.policy.policy,
            norm: args.policy.norm,
            samples: args.samples,
            temperature: args.temperature,
            max_new_tokens: args.max_new_tokens,
            batch: args.batch,
            seed: args.seed,
        };
        let bar = StepBar::new(benchmarks.iter().map(|benchmark| benchmark.questions.len()).sum());
        let sampler = Sampler::new(&model, &tokenizer);
        let results = run_benchmarks(&sampler, &benchmarks, &sampling, &grader, &mut folder, |done| bar.advance(done))?;
        bar.finish();
        print_results(&results, &args.rule.to_string());
        report_failures(&grader);
        outln!("results      {}", folder.write_results(&results)?.display());
        outln!("completions  {}", out.join(COMPLETIONS).display());
        Ok(())
    }
}

fn read_benchmarks(args: &EvalArgs, renderer: &PromptRenderer) -> Result<Vec<Benchmark>, CliError> {
    let mut benchmarks: Vec<Benchmark> = Vec::new();
    for path in &args.data {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if benchmarks.iter().any(|benchmark| benchmark.name == name) {
            return Err(CliError::Message(format!(
                "--data names two files called {name}; benchmarks need names of their own"
            )));
        }
        let options = prompt_options(&args.prompts);
        let mut prepared = read_questions(std::slice::from_ref(path), &options, renderer)?;
        for (count, what) in [(prepared.dropped, "left out"), (prepared.truncated, "cut on the left")] {
            if count > 0 {
                outln!("{name}: {count} prompts of more than {} tokens {what}", options.max_prompt_tokens);
            }
        }
        prepared.questions.truncate(args.limit.unwrap_or(usize::MAX));
        benchmarks.push(Benchmark { name, questions: prepared.questions });
    }
    Ok(benchmarks)
}

/// What makes two evaluations the same, so that one can go on where the other stopped.
fn settings(args: &EvalArgs, dtype: ComputeDtype, benchmarks: &[Benchmark]) -> serde_json::Value {
    let files: Vec<String> = args.data.iter().map(|path| absolute(path).display().to_string()).collect();
    json!({
        "model": args.model.model,
        "dtype": dtype.to_string(),
        "data": files,
        "problems": benchmarks.iter().map(|benchmark| benchmark.questions.len()).collect::<Vec<_>>(),
        "samples": args.samples,
        "policy": args.policy.policy.to_string(),
        "norm": args.policy.norm.to_string(),
        "rule": args.rule.to_string(),
        "temperature": args.temperature,
        "max_new_tokens": args.max_new_tokens,
        "max_prompt_tokens": args.prompts.max_prompt_tokens,
        "overlong": format!("{:?}", args.prompts.overlong),
        "chat_template": args.prompts.chat_template.to_string(),
        "thinking": args.prompts.thinking,
        "prompt_column": args.prompts.prompt_column,
        "answer_column": args.prompts.answer_column,
        "source_column": args.prompts.source_column,
        "seed": args.seed,
    })
}

fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
