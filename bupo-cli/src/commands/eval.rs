//! `bupo eval`

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bupo_core::{PolicySite, SamplingParams};
use bupo_data::chat::TemplateDate;
use bupo_engine::{Engine, OwnEngine};
use bupo_eval::{
    AnswerCounts, Benchmark, BenchmarkResult, COMPLETIONS, EvaluationFolder, PromptOptions, PromptRenderer, Sampler,
    Sampling, TEMPLATE_DATE, compare, grade_again, read_questions, recorded_template_date, run_benchmarks,
};
use bupo_grade::Grader;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_eos_token_ids;
use bupo_models::{DtypeChoice, ModelFiles, TextTokenizer};
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::args::EvalArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::{CliError, at_least_one};
use crate::files::free_folder;
use crate::grading::{extracts_answers, rewards, warn_of_failures};
use crate::interrupt::stop_on_interrupt;
use crate::model::{Attached, load_for_inference, model_files, warn_of_positions};
use crate::screen::{StepBar, print_comparison, print_results};

pub fn run(args: &EvalArgs) -> Result<(), CliError> {
    at_least_one(&[
        ("--samples", Some(args.samples)),
        ("--max-new-tokens", Some(args.max_new_tokens)),
        ("--batch", args.batch),
        ("--limit", args.limit),
    ])?;
    args.sampling.check()?;
    args.engine.check()?;
    if args.engine.has_servers()
        && (args.model.dtype.dtype != DtypeChoice::Auto || args.policy.policy != PolicySite::Full)
    {
        return Err(CliError::Message(
            "--dtype and --policy have no effect on servers, which sample the full policy in their own dtype; remove them, or \
             --engine"
                .into(),
        ));
    }
    if args.engine.has_servers() && args.model.adapter.adapter.is_some() {
        return Err(CliError::Message(
            "--adapter has no effect on servers, which sample the model they serve; merge it (bupo merge) and serve the result, or \
             remove --engine"
                .into(),
        ));
    }
    if let [a, b] = &args.compare[..] {
        let comparison = compare(a, b)?;
        if let Some((of_a, of_b)) = &comparison.other_rules {
            eprintln!("warning: A is graded by {of_a} and B by {of_b}");
        }
        print_comparison(&comparison, args.table);
        return Ok(());
    }
    let grader = Grader::new(rewards(&args.rule))?;
    if let Some(path) = &args.completions {
        print_results(&grade_again(path, &grader)?, &args.rule.to_string(), args.table);
        warn_of_failures(&grader);
        return Ok(());
    }
    // A model on servers needs no device here.
    let device = if args.engine.has_servers() { None } else { Some(resolve(args.model.device.device)?) };
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let out = args.out.clone().unwrap_or_else(|| free_folder("eval"));
    let renderer = PromptRenderer::new(&files, &args.prompts.chat_template, args.prompts.thinking)?;
    // A resumed evaluation has the prompts of the day it was started.
    let renderer = match recorded_template_date(&out) {
        Some(date) => renderer.with_date(date),
        None => renderer,
    };
    let date = renderer.date();
    let benchmarks = read_benchmarks(args, &renderer)?;
    let config = bupo_models::pretrained::load_config(&files)?;
    args.policy.policy.depth(config.num_hidden_layers).map_err(bupo_models::ModelError::from)?;
    let max_tokens = longest(&benchmarks) + args.max_new_tokens;
    warn_of_positions(&config, max_tokens);
    let servers = args.engine.connect(&config, max_tokens)?;
    let eos_token_ids = load_eos_token_ids(&files, &config)?;
    if let Some(warning) = renderer.end_of_turn_warning(&eos_token_ids) {
        eprintln!("warning: {warning}");
    }
    let sampling = sampling(args, &files)?;
    let stop = stop_on_interrupt("the problems being sampled are finished and saved")?;
    let attached = Attached::open(&args.model.adapter, &args.policy.norm, &[args.policy.policy], &files)?;
    let job = Eval {
        args,
        files,
        attached,
        benchmarks: &benchmarks,
        sampling,
        date,
        grader: &grader,
        out: &out,
        stop: &stop,
    };
    let (folder, results) = match (device, servers) {
        (Some(device), None) => run_on(device, job)?,
        (_, Some(servers)) => {
            let folder = job.open_folder(args.engine.kind().to_string())?;
            job.sample(&servers, &eos_token_ids, folder)?
        }
        (None, None) => return Err(CliError::Message("there is nothing that samples; give --engine own".into())),
    };
    let Some(results) = results else {
        warn_of_failures(&grader);
        let (done, all) = (folder.problems_done(args.samples), problems(&benchmarks));
        outln!("stopped after {done} of {all} problems; bupo eval ... --out {} resumes it", out.display());
        return Ok(());
    };
    print_results(&results, &args.rule.to_string(), args.table);
    warn_of_failures(&grader);
    note(args, &format!("results      {}", folder.write_results(&results)?.display()));
    note(args, &format!("completions  {}", out.join(COMPLETIONS).display()));
    Ok(())
}

/// Prints a line beside the table: on standard error if the table has a format, which a program may read.
fn note(args: &EvalArgs, text: &str) {
    match args.table {
        None => outln!("{text}"),
        Some(_) => eprintln!("{text}"),
    }
}

struct Eval<'a> {
    args: &'a EvalArgs,
    files: ModelFiles,
    attached: Attached,
    benchmarks: &'a [Benchmark],
    sampling: Sampling,
    /// The date in prompts, if the chat template writes one.
    date: Option<TemplateDate>,
    grader: &'a Grader,
    out: &'a Path,
    /// Whether to stop after the problems being sampled.
    stop: &'a AtomicBool,
}

impl Job for Eval<'_> {
    /// No results if it was stopped.
    type Output = (EvaluationFolder, Option<Vec<BenchmarkResult>>);

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let dtype = self.args.model.dtype.dtype.for_model::<B>(&self.files, device)?;
        let folder = self.open_folder(dtype.to_string())?;
        let model = load_for_inference::<B>(&self.files, &self.attached, dtype.into(), device)?;
        let tokenizer = TextTokenizer::load(&self.files)?;
        self.sample(&OwnEngine::new(&model.decoder, &tokenizer), &model.eos_token_ids, folder)
    }
}

impl Eval<'_> {
    /// Samples and grades what the folder does not have yet.
    fn sample(
        &self,
        engine: &dyn Engine,
        eos_token_ids: &[u32],
        mut folder: EvaluationFolder,
    ) -> Result<(EvaluationFolder, Option<Vec<BenchmarkResult>>), CliError> {
        let tokenizer = TextTokenizer::load(&self.files)?;
        let samples = self.args.samples;
        let done = folder.problems_done(samples);
        let bar = StepBar::resumed("responses", problems(self.benchmarks) * samples, done * samples);
        let report = |sampled| bar.advance(sampled);
        let sampler = Sampler::new(engine, &tokenizer, eos_token_ids)
            .with_stop(&self.args.restrictions.stop)
            .with_report(&report);
        let stops = || self.stop.load(Ordering::Relaxed);
        let results = run_benchmarks(&sampler, self.benchmarks, &self.sampling, self.grader, &mut folder, stops)?;
        Ok((folder, results))
    }

    /// `dtype`: the dtype of the layers, or the engine whose servers choose it.
    fn open_folder(&self, dtype: String) -> Result<EvaluationFolder, CliError> {
        let samples = self.args.samples;
        let mut settings = settings(self.args, &self.sampling, &dtype, self.benchmarks);
        if let Some(date) = self.date {
            settings[TEMPLATE_DATE] = date.to_string().into();
        }
        if let Some(adapter) = &self.args.model.adapter.adapter {
            settings["adapter"] = adapter.display().to_string().into();
        }
        if let Some(lens) = &self.args.policy.norm.tuned_lens {
            settings["tuned_lens"] = lens.display().to_string().into();
        }
        let folder = EvaluationFolder::open(self.out, &settings, samples)?;
        let resumed = folder.problems_done(samples);
        if resumed > 0 {
            note(self.args, &format!("{resumed} problems are already done in {}", self.out.display()));
        }
        Ok(folder)
    }
}

fn sampling(args: &EvalArgs, files: &ModelFiles) -> Result<Sampling, CliError> {
    let (temperature, params) = args.restrictions.resolve(&args.sampling, files)?;
    Ok(Sampling {
        site: args.policy.policy,
        norm: args.policy.norm.norm,
        samples: args.samples,
        temperature,
        params,
        max_new_tokens: args.max_new_tokens,
        batch: args.engine.batch(args.batch, args.samples),
        seed: args.sampling.seed,
    })
}

fn read_benchmarks(args: &EvalArgs, renderer: &PromptRenderer) -> Result<Vec<Benchmark>, CliError> {
    let mut benchmarks: Vec<Benchmark> = Vec::new();
    for path in &args.data {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if benchmarks.iter().any(|benchmark| benchmark.name == name) {
            return Err(CliError::Message(format!(
                "--data has two files with the name {name}; rename one, so that each benchmark has its own name"
            )));
        }
        let options = PromptOptions { extract_answers: extracts_answers(&args.rule), ..args.prompts.options() };
        let mut prepared = read_questions(std::slice::from_ref(path), &options, renderer)?;
        for (count, action) in [(prepared.dropped, "dropped"), (prepared.truncated, "truncated on the left")] {
            if count > 0 {
                let limit = options.max_prompt_tokens;
                note(args, &format!("{name}: {count} prompts of more than {limit} tokens {action}"));
            }
        }
        if prepared.answers != AnswerCounts::default() {
            note(args, &format!("{name}: {}", prepared.answers));
        }
        prepared.questions.truncate(args.limit.unwrap_or(usize::MAX));
        benchmarks.push(Benchmark { name, questions: prepared.questions });
    }
    Ok(benchmarks)
}

fn problems(benchmarks: &[Benchmark]) -> usize {
    benchmarks.iter().map(|benchmark| benchmark.questions.len()).sum()
}

/// The length of the longest prompt in tokens.
fn longest(benchmarks: &[Benchmark]) -> usize {
    let questions = benchmarks.iter().flat_map(|benchmark| &benchmark.questions);
    questions.map(|question| question.tokens.len()).max().unwrap_or(0)
}

/// The options that two evaluations must share for one to resume the other.
fn settings(args: &EvalArgs, sampling: &Sampling, dtype: &str, benchmarks: &[Benchmark]) -> serde_json::Value {
    let files: Vec<String> = args.data.iter().map(|path| absolute(path).display().to_string()).collect();
    let mut settings = json!({
        "model": args.model.model,
        "dtype": dtype,
        "data": files,
        "problems": benchmarks.iter().map(|benchmark| benchmark.questions.len()).collect::<Vec<_>>(),
        "samples": args.samples,
        "policy": args.policy.policy.to_string(),
        "norm": args.policy.norm.norm.to_string(),
        "rule": args.rule.to_string(),
        "temperature": sampling.temperature,
        "max_new_tokens": args.max_new_tokens,
        "max_prompt_tokens": args.prompts.max_prompt_tokens,
        "overlong": format!("{:?}", args.prompts.overlong),
        "chat_template": args.prompts.chat_template.to_string(),
        "thinking": args.prompts.thinking,
        "prompt_column": args.prompts.prompt_column,
        "answer_column": args.prompts.answer_column,
        "source_column": args.prompts.source_column,
        "seed": args.sampling.seed,
    });
    // Evaluations without restrictions are resumed where earlier versions left them.
    let SamplingParams { top_k, top_p, min_p, repetition_penalty } = sampling.params;
    if sampling.params != SamplingParams::default() {
        settings["restrictions"] =
            json!({"top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty});
    }
    // Answers are extracted from reference answers unless a scorer gets them.
    if extracts_answers(&args.rule) {
        settings["extract_answers"] = true.into();
    }
    if !args.restrictions.stop.is_empty() {
        settings["stop"] = json!(args.restrictions.stop);
    }
    settings
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
