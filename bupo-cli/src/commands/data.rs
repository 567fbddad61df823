//! `bupo data`

use std::collections::BTreeMap;
use std::path::PathBuf;

use bupo_data::{Prompt, describe, read_problems};
use bupo_eval::{AnswerCounts, extract_answers};
use bupo_models::pretrained::hub::Wanted;
use bupo_rl::{TrainConfig, prompt_renderer};

use crate::args::DataArgs;
use crate::embedded::EMBEDDED_NAME;
use crate::error::CliError;
use crate::model::model_files;

/// Prompts shown.
const SHOWN: usize = 3;
/// Characters shown per prompt.
const SHOWN_CHARACTERS: usize = 2000;

pub fn run(args: &DataArgs) -> Result<(), CliError> {
    let config = config(args)?;
    let paths: Vec<PathBuf> = if args.files.is_empty() {
        config.data.train.iter().chain(&config.data.validation).cloned().collect()
    } else {
        args.files.clone()
    };
    if paths.is_empty() {
        return Err(CliError::Message("the settings name no data files; give files, or set data.train".into()));
    }
    let model = args.model.as_deref().or(config.model.as_deref());
    let renderer = prompt_renderer(&config.data, &model_files(model, Wanted::Text)?)?;
    for path in &paths {
        let description = describe(path)?;
        outln!("{}: {}, {} rows", path.display(), description.format, description.rows);
        outln!("columns");
        let width = description.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
        for column in &description.columns {
            outln!("  {:<width$}  {}", column.name, column.kind);
        }
    }
    let options = config.prompt_options();
    let mut problems = read_problems(&paths, &options.columns)?;
    let counts = if options.extract_answers { extract_answers(&mut problems) } else { AnswerCounts::default() };
    if counts != AnswerCounts::default() {
        outln!("{counts}");
    }
    let mut sources: BTreeMap<&str, usize> = BTreeMap::new();
    problems.iter().for_each(|problem| *sources.entry(&problem.data_source).or_default() += 1);
    outln!("sources");
    for (source, rows) in sources {
        outln!("  {:<24} {rows}", if source.is_empty() { "(none)" } else { source });
    }
    let chat = problems.iter().filter(|problem| matches!(problem.prompt, Prompt::Chat(_))).count();
    outln!("prompts: {chat} of chat messages, {} of text", problems.len() - chat);
    let rendered = problems.iter().map(|problem| renderer.render(&problem.prompt)).collect::<Result<Vec<_>, _>>()?;
    outln!("lengths in tokens of {}", model.unwrap_or(EMBEDDED_NAME));
    let limit = options.max_prompt_tokens;
    print_lengths("prompt", rendered.iter().map(|(_, tokens)| tokens.len()).collect());
    let answers =
        problems.iter().map(|problem| renderer.tokenizer().encode_rendered(&problem.answer).map(|ids| ids.len()));
    print_lengths("answer", answers.collect::<Result<_, _>>()?);
    let over = rendered.iter().filter(|(_, tokens)| tokens.len() > limit).count();
    outln!("  {over} prompts are longer than the limit of {limit} tokens");
    for (index, (problem, (prompt, tokens))) in problems.iter().zip(&rendered).take(SHOWN).enumerate() {
        outln!("\nprompt {} ({} tokens; answer {})", index + 1, tokens.len(), problem.answer);
        outln!("{}", shortened(prompt));
    }
    Ok(())
}

/// The settings given, or the default settings with the options given.
fn config(args: &DataArgs) -> Result<TrainConfig, CliError> {
    let settings = &args.settings;
    if settings.config.is_some() || !settings.set.is_empty() {
        return Ok(TrainConfig::load(settings.config.as_deref(), &settings.set)?);
    }
    Ok(TrainConfig { data: args.prompts.data(), ..TrainConfig::default() })
}

fn print_lengths(name: &str, mut lengths: Vec<usize>) {
    lengths.sort_unstable();
    let at = |share: f64| lengths.get(((lengths.len().max(1) - 1) as f64 * share).round() as usize).unwrap_or(&0);
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    outln!("  {name:<8} min {}, median {}, mean {mean:.1}, 95% {}, max {}", at(0.0), at(0.5), at(0.95), at(1.0));
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{} ... ({} characters in total)", &text[..end], text.chars().count()),
        None => text.to_string(),
    }
}
