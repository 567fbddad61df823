//! `bupo analyze`

mod output;
mod source;

use std::sync::atomic::{AtomicBool, Ordering};

use bupo_analysis::{Analysis, AnalysisInfo, MeasureAccumulator, ResponseMap, response_map};
use bupo_models::ScoredSequence;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::{LoadedModel, MeasureOptions, ModelFiles, TextTokenizer};
use bupo_report::analysis_report;
use burn::tensor::backend::Backend;

use self::output::Output;
use self::source::Source;
use super::{load_to_read, model_files, stop_on_interrupt};
use crate::args::AnalyzeArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;
use crate::screen::StepBar;
use crate::screen::analysis::print_analysis;

/// Responses of each model that the page shows token by token.
const MAPS: usize = 3;
/// With several models fewer, but one each.
const MAPS_IN_ALL: usize = 6;
/// Cells of all of them, which keep the page below 3 MB.
const CELLS_IN_ALL: usize = 12_000;

pub fn run(args: AnalyzeArgs) -> Result<(), CliError> {
    let message = |text: String| Err(CliError::Message(text));
    if args.samples == 0 || args.max_new_tokens == 0 || args.batch == 0 || args.limit == 0 || args.layers == Some(0) {
        return message("--samples, --max-new-tokens, --batch, --limit and --layers must be at least 1".into());
    }
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return message(format!("--temperature is {}; it must be 0 or more", args.temperature));
    }
    if !(args.tolerance >= 0.0 && args.tolerance < 1.0) {
        return message(format!("--tolerance is {}; it must be at least 0 and below 1", args.tolerance));
    }
    if let Some(twice) =
        args.model.iter().enumerate().find_map(|(i, model)| args.model[..i].contains(model).then_some(model))
    {
        return message(format!("--model names {twice} twice"));
    }
    run_on(args.device.device, Analyze(args))
}

struct Analyze(AnalyzeArgs);

/// A model as it is named, with what is read of it before the weights.
struct Named {
    name: String,
    files: ModelFiles,
    tokenizer: Option<TextTokenizer>,
    source: Source,
    /// The last layer measured, where it is not the model's.
    layers: Option<usize>,
}

impl Job for Analyze {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let names = if args.model.is_empty() {
            vec![None]
        } else {
            args.model.iter().map(|name| Some(name.as_str())).collect()
        };
        let models = names.into_iter().map(|name| Named::open(name, &args)).collect::<Result<Vec<_>, _>>()?;
        let mut output = Output::open(args.out.as_deref(), args.force)?;
        let stop = stop_on_interrupt("what is measured is kept")?;
        let (mut analyses, mut maps) = (Vec::new(), Vec::new());
        let mut complete = true;
        let mut failed = None;
        for named in &models {
            match analyze::<B>(named, &args, device, models.len(), &mut output, &stop) {
                Ok(Some((analysis, looked, whole))) => {
                    print_analysis(&analysis);
                    analyses.push(analysis);
                    maps.extend(looked);
                    complete &= whole;
                }
                Ok(None) => complete = false,
                // What the models before it came to is kept.
                Err(error) => failed = Some(error),
            }
            complete &= failed.is_none();
            if !complete {
                break;
            }
        }
        if analyses.is_empty() {
            output.abandon();
            let stopped = || CliError::Message("stopped before any response was measured; nothing is written".into());
            return Err(failed.unwrap_or_else(stopped));
        }
        output.write(&analyses, &analysis_report(&analyses, &maps, complete), complete)?;
        failed.map_or(Ok(()), Err)
    }
}

/// A model's analysis, its responses looked at closely, and whether all that was asked for was measured; nothing where none was.
fn analyze<B: Backend>(
    named: &Named,
    args: &AnalyzeArgs,
    device: &B::Device,
    models: usize,
    output: &mut Output,
    stop: &AtomicBool,
) -> Result<Option<(Analysis, Vec<ResponseMap>, bool)>, CliError> {
    let model = load_to_read::<B>(&named.files, args.dtype.dtype, device)?;
    let (accumulator, first) = measure_all(named, &model, args, output, stop)?;
    if accumulator.responses() == 0 {
        return Ok(None);
    }
    let analysis = Analysis::new(info(named, &model, args), &accumulator)?;
    // A map needs every layer.
    let maps =
        if named.layers.is_some() { Vec::new() } else { look_closely(named, &model, &first, args.norm, models)? };
    Ok(Some((analysis, maps, accumulator.responses() == named.source.len(args))))
}

impl Named {
    /// Reads and checks all but the weights.
    fn open(model: Option<&str>, args: &AnalyzeArgs) -> Result<Self, CliError> {
        let files = model_files(model, Wanted::Model)?;
        let config = bupo_models::pretrained::load_config(&files)?;
        if let Some(layers) = args.layers.filter(|layers| *layers > config.num_hidden_layers) {
            let all = config.num_hidden_layers;
            return Err(CliError::Message(format!("--layers is {layers}, but the model has layers 1 to {all}")));
        }
        // Only token ids do without a tokenizer.
        let tokenizer = if files.has("tokenizer.json") || args.completions.is_none() {
            let tokenizer = TextTokenizer::load(&files)?;
            tokenizer.check_vocabulary(config.vocab_size)?;
            Some(tokenizer)
        } else {
            None
        };
        let eos = bupo_models::pretrained::load_eos_token_ids(&files, &config)?;
        let source = Source::open(args, &files, tokenizer.as_ref(), &eos, config.vocab_size)?;
        let layers = args.layers.filter(|layers| *layers < config.num_hidden_layers);
        Ok(Self { name: model.unwrap_or("the embedded model").to_string(), files, tokenizer, source, layers })
    }
}

fn info<B: Backend>(named: &Named, model: &LoadedModel<B>, args: &AnalyzeArgs) -> AnalysisInfo {
    AnalysisInfo {
        model: named.name.clone(),
        norm: args.norm,
        num_layers: model.config.num_hidden_layers,
        vocab_size: model.config.vocab_size,
        tolerance: args.tolerance,
    }
}

/// Gets responses, some at a time, and measures them. The first are handed back too.
fn measure_all<B: Backend>(
    named: &Named,
    model: &LoadedModel<B>,
    args: &AnalyzeArgs,
    output: &mut Output,
    stop: &AtomicBool,
) -> Result<(MeasureAccumulator, Vec<ScoredSequence>), CliError> {
    let Named { name, source, tokenizer, layers, .. } = named;
    outln!("{name}: {}", source.describe(args));
    let options = MeasureOptions { norm: args.norm, layers: *layers };
    let (mut accumulator, mut first) = (MeasureAccumulator::default(), Vec::<ScoredSequence>::new());
    let bar = StepBar::new(source.len(args));
    while accumulator.responses() < source.len(args) && !stop.load(Ordering::Relaxed) {
        let responses = source.next(accumulator.responses(), model, tokenizer.as_ref(), args)?;
        // As many as one block at a time, so that Ctrl-C is heard and the bar moves.
        for part in responses.chunks(16) {
            accumulator.measure(&model.decoder, part, options)?;
            for response in part {
                output.completion(name, response, tokenizer.as_ref())?;
            }
            bar.advance(part.len());
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        for response in responses {
            // One of each prompt: others to the same would look alike.
            let seen = |other: &ScoredSequence| other.sequence.prompt == response.sequence.prompt;
            if first.len() < MAPS && !first.iter().any(seen) {
                first.push(response);
            }
        }
    }
    bar.finish();
    Ok((accumulator, first))
}

fn look_closely<B: Backend>(
    named: &Named,
    model: &LoadedModel<B>,
    first: &[ScoredSequence],
    norm: bupo_core::Norm,
    models: usize,
) -> Result<Vec<ResponseMap>, CliError> {
    let Some(tokenizer) = &named.tokenizer else { return Ok(Vec::new()) };
    let count = (MAPS_IN_ALL / models).clamp(1, MAPS);
    let map = |response: &ScoredSequence| {
        response_map(&model.decoder, tokenizer, &named.name, &response.sequence, norm, CELLS_IN_ALL / (models * count))
            .map_err(CliError::from)
    };
    first.iter().take(count).map(map).collect()
}
