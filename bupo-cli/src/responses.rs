//! The responses of a model: sampled, or read from a file.

use bupo_core::{Norm, PolicySite, SamplingParams};
use bupo_data::chat::TemplateDate;
use bupo_data::{Problem, Prompt};
use bupo_engine::{Engine, OwnEngine, RemoteEngine, Report};
use bupo_eval::{
    GradingInput, Group, PromptOptions, PromptRenderer, Question, Sampler, Sampling, grade_all, read_questions,
    read_responses,
};
use bupo_grade::{Graded, GradedItem, Grader};
use bupo_models::{LoadedModel, ModelFiles, ScoredSequence, TextTokenizer};
use bupo_rl::{ArithmeticQuestions, Questions, TaskConfig, TruncatedReward};
use burn::tensor::backend::Backend;
use serde_json::{Map, Value, json};

use crate::args::ResponseArgs;
use crate::error::CliError;
use crate::files::read_prompts;
use crate::grading::{extracts_answers, rewards, warn_of_failures};

/// What to do about a model that has no tokenizer.
const NO_TOKENIZER: &str =
    "sampling needs the model's tokenizer.json; add it to the model's folder, or give token ids by --completions";

pub enum ResponseSource {
    /// Read from a file. `empty` lines had no response, `skipped` ones are beyond the limit.
    Recorded { responses: Vec<ScoredSequence>, empty: usize, skipped: usize },
    /// Sampled from the full policy. `skipped` prompts are beyond the limit.
    Sampled { questions: Vec<Question>, grading: Grading, sampling: Sampling, template: Template, skipped: usize },
}

/// How prompts were rendered.
pub struct Template {
    /// The chat template of `--prompts`; of `--data` it can differ between text and chat messages.
    applied: Option<String>,
    /// The date in prompts, if the template writes one.
    date: Option<TemplateDate>,
}

pub enum Grading {
    Arithmetic(Box<ArithmeticQuestions>),
    Rule(Box<Grader>),
    Ungraded,
}

impl ResponseSource {
    pub fn open(
        args: &ResponseArgs,
        files: &ModelFiles,
        tokenizer: Option<&TextTokenizer>,
        eos_token_ids: &[u32],
        vocab_size: usize,
    ) -> Result<Self, CliError> {
        if let Some(path) = &args.completions {
            let mut recorded = read_responses(path, tokenizer, eos_token_ids, vocab_size)?;
            let skipped = recorded.responses.len().saturating_sub(args.limit);
            recorded.responses.truncate(args.limit);
            return Ok(Self::Recorded { responses: recorded.responses, empty: recorded.empty, skipped });
        }
        let (mut questions, grading, template) = questions(args, files, tokenizer)?;
        let skipped = questions.len().saturating_sub(args.limit);
        questions.truncate(args.limit);
        Ok(Self::Sampled { questions, grading, sampling: sampling(args, files)?, template, skipped })
    }

    /// The number of responses in total.
    pub fn len(&self, args: &ResponseArgs) -> usize {
        match self {
            Self::Recorded { responses, .. } => responses.len(),
            Self::Sampled { questions, .. } => questions.len() * args.samples,
        }
    }

    /// Whether both are the same responses, read from a file, as token ids.
    pub fn has_same_responses(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Recorded { responses, .. }, Self::Recorded { responses: others, .. }) => responses == others,
            _ => false,
        }
    }

    /// The parts of the work on a response: it is measured, and sampled before if it is not given.
    pub fn parts(&self) -> usize {
        match self {
            Self::Recorded { .. } => 1,
            Self::Sampled { .. } => 2,
        }
    }

    /// The maximum length of prompt and response together, in tokens.
    pub fn max_tokens(&self, args: &ResponseArgs) -> usize {
        match self {
            Self::Recorded { responses, .. } => responses.iter().map(|response| response.sequence.len()).max(),
            Self::Sampled { questions, .. } => {
                questions.iter().map(|question| question.tokens.len() + args.max_new_tokens).max()
            }
        }
        .unwrap_or(0)
    }

    pub fn describe(&self, args: &ResponseArgs) -> String {
        let limited = |skipped: usize, items: &str| match skipped {
            0 => String::new(),
            skipped => format!("; {skipped} more {items} skipped by --limit"),
        };
        match self {
            Self::Recorded { responses, empty, skipped } => {
                let empty = if *empty > 0 { format!("; {empty} empty ones skipped") } else { String::new() };
                format!("{} given responses{}{empty}", responses.len(), limited(*skipped, "responses"))
            }
            Self::Sampled { questions, template, skipped, .. } => {
                let applied = template.applied.as_ref();
                let applied = applied.map_or(String::new(), |template| format!("; chat template: {template}"));
                let (prompts, limited) = (questions.len(), limited(*skipped, "prompts"));
                format!("{prompts} prompts x {} responses{limited}{applied}", args.samples)
            }
        }
    }

    /// The settings that give the same responses again.
    pub fn settings(&self, args: &ResponseArgs) -> Map<String, Value> {
        let mut settings = Map::new();
        let mut set = |name: &str, value: Value| settings.insert(name.into(), value);
        set("limit", args.limit.into());
        let Self::Sampled { sampling, template, .. } = self else {
            set("completions", json!(args.completions));
            return settings;
        };
        match (&args.prompts, args.data.is_empty()) {
            (Some(path), _) => set("prompts", json!(path)),
            (None, false) => set("data", json!(args.data)),
            (None, true) => set("data", "the embedded arithmetic problems".into()),
        };
        if !args.data.is_empty() {
            set("rule", args.rule.to_string().into());
            set("prompt_column", json!(args.chat.prompt_column));
            set("answer_column", json!(args.chat.answer_column));
            set("source_column", json!(args.chat.source_column));
        }
        if args.prompts.is_some() || !args.data.is_empty() {
            set("chat_template", args.chat.chat_template.to_string().into());
            set("chat_template_applied", json!(template.applied));
            set("thinking", json!(args.chat.thinking));
            set("template_date", json!(template.date.map(|date| date.to_string())));
            set("max_prompt_tokens", args.chat.max_prompt_tokens.into());
            set("overlong", json!(args.chat.options().overlong));
        }
        set("engine", args.engine.kind().to_string().into());
        set("samples", sampling.samples.into());
        set("seed", sampling.seed.into());
        set("temperature", sampling.temperature.into());
        let SamplingParams { top_k, top_p, min_p, repetition_penalty } = sampling.params;
        set("top_k", top_k.into());
        set("top_p", top_p.into());
        set("min_p", min_p.into());
        set("repetition_penalty", repetition_penalty.into());
        set("stop", json!(args.restrictions.stop));
        set("max_new_tokens", sampling.max_new_tokens.into());
        settings.retain(|_, value| !value.is_null() && *value != json!([]));
        settings
    }

    /// Warns of responses that a scorer failed to score.
    pub fn warn_of_failures(&self) {
        if let Self::Sampled { grading: Grading::Rule(grader), .. } = self {
            warn_of_failures(grader);
        }
    }

    /// The responses after the first `done`, about `--batch` of them. `report` gets the number of those that are sampled.
    pub fn next<B: Backend>(
        &self,
        done: usize,
        model: &LoadedModel<B>,
        servers: Option<&RemoteEngine>,
        tokenizer: Option<&TextTokenizer>,
        args: &ResponseArgs,
        report: &Report<'_>,
    ) -> Result<Vec<ScoredSequence>, CliError> {
        let batch = args.engine.batch(args.batch, args.samples);
        match (self, tokenizer) {
            (Self::Recorded { responses, .. }, _) => Ok(responses[done..(done + batch).min(responses.len())].to_vec()),
            (Self::Sampled { .. }, None) => Err(CliError::Message(NO_TOKENIZER.into())),
            (Self::Sampled { questions, grading, sampling, .. }, Some(tokenizer)) => {
                let first = done / args.samples;
                let last = (first + (batch / args.samples).max(1)).min(questions.len());
                let own = OwnEngine::new(&model.decoder, tokenizer);
                let engine: &dyn Engine = servers.map_or(&own, |servers| servers as &dyn Engine);
                let sampler = Sampler::new(engine, tokenizer, &model.eos_token_ids)
                    .with_stop(&args.restrictions.stop)
                    .with_report(report);
                let groups =
                    sampler.sample(&questions[first..last], first, sampling, |answered| grading.grade(answered))?;
                let scored = !matches!(grading, Grading::Ungraded);
                Ok(groups
                    .iter()
                    .flat_map(Group::scored_sequences)
                    .map(|response| ScoredSequence { score: response.score.filter(|_| scored), ..response })
                    .collect())
            }
        }
    }
}

impl Grading {
    fn grade(&self, answered: &[GradingInput<'_>]) -> Vec<GradedItem> {
        match self {
            Self::Arithmetic(questions) => questions.grade(answered),
            Self::Rule(grader) => grade_all(grader, answered),
            Self::Ungraded => {
                let ungraded = Graded { score: 0.0, extracted: None };
                vec![GradedItem { graded: ungraded, failure: None }; answered.len()]
            }
        }
    }
}

fn sampling(args: &ResponseArgs, files: &ModelFiles) -> Result<Sampling, CliError> {
    let (temperature, params) = args.restrictions.resolve(&args.sampling, files)?;
    Ok(Sampling {
        site: PolicySite::Full,
        norm: Norm::None,
        samples: args.samples,
        temperature,
        params,
        max_new_tokens: args.max_new_tokens,
        batch: args.engine.batch(args.batch, args.samples),
        seed: args.sampling.seed,
    })
}

fn questions(
    args: &ResponseArgs,
    files: &ModelFiles,
    tokenizer: Option<&TextTokenizer>,
) -> Result<(Vec<Question>, Grading, Template), CliError> {
    let options = args.chat.options();
    if args.prompts.is_none() && args.data.is_empty() {
        let (questions, grading) = arithmetic(args, tokenizer)?;
        return Ok((questions, grading, Template { applied: None, date: None }));
    }
    let renderer = PromptRenderer::new(files, &args.chat.chat_template, args.chat.thinking)?;
    let (prepared, grading) = if let Some(path) = &args.prompts {
        let problems = read_prompts(path)?.into_iter().map(ungraded).collect();
        let prepared = renderer.prepare(problems, options.max_prompt_tokens, options.overlong)?;
        (prepared, Grading::Ungraded)
    } else {
        let options = PromptOptions { extract_answers: extracts_answers(&args.rule), ..options.clone() };
        let prepared = read_questions(&args.data, &options, &renderer)?;
        (prepared, Grading::Rule(Box::new(Grader::new(rewards(&args.rule))?)))
    };
    for (count, action) in [(prepared.dropped, "dropped"), (prepared.truncated, "truncated on the left")] {
        if count > 0 {
            outln!("{count} prompts of more than {} tokens {action}", options.max_prompt_tokens);
        }
    }
    if prepared.questions.is_empty() {
        return Err(CliError::Message(format!(
            "no prompt has at most {} tokens (--max-prompt-tokens); raise it, or give --overlong truncate-left",
            options.max_prompt_tokens
        )));
    }
    let applied = args.prompts.is_some().then(|| renderer.text_template().to_string());
    Ok((prepared.questions, grading, Template { applied, date: renderer.date() }))
}

/// Problems of the embedded arithmetic task.
fn arithmetic(args: &ResponseArgs, tokenizer: Option<&TextTokenizer>) -> Result<(Vec<Question>, Grading), CliError> {
    let tokenizer = tokenizer.ok_or_else(|| CliError::Message(NO_TOKENIZER.into()))?;
    let arithmetic = ArithmeticQuestions {
        task: TaskConfig::default().task(),
        tokenizer: tokenizer.clone(),
        seed: args.sampling.seed,
        per_draw: args.limit,
        held_out: args.limit,
        truncated: TruncatedReward::Zero,
    };
    let questions = arithmetic.held_out()?.into_iter().flat_map(|benchmark| benchmark.questions).collect();
    Ok((questions, Grading::Arithmetic(Box::new(arithmetic))))
}

/// A problem without an answer.
fn ungraded(prompt: String) -> Problem {
    Problem { prompt: Prompt::Text(prompt), answer: String::new(), data_source: String::new() }
}
