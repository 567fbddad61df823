//! `bupo analyze`

mod output;
mod recorded;

use std::sync::atomic::{AtomicBool, Ordering};

use bupo_analysis::{Analysis, AnalysisInfo, LayerSimilarity, MeasureAccumulator, ResponseMap, response_map};
use bupo_core::PolicySite;
use bupo_engine::RemoteEngine;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::{load_config, load_eos_token_ids};
use bupo_models::{ComputeDtype, LoadedModel, MeasureOptions, ModelConfig, ModelFiles, ScoredSequence, TextTokenizer};
use bupo_report::analysis_report;
use burn::tensor::backend::Backend;

use self::output::Output;
use self::recorded::check_tokens_of;
use crate::args::AnalyzeArgs;
use crate::backend::{Job, resolve, run_on};
use crate::embedded::EMBEDDED_NAME;
use crate::error::{CliError, at_least_one};
use crate::interrupt::stop_on_interrupt;
use crate::model::{Attached, load_for_inference, model_files, model_title, warn_of_positions};
use crate::responses::ResponseSource;
use crate::screen::{StepBar, print_analysis};

/// Responses per model that the page shows token by token.
const MAPS_PER_MODEL: usize = 3;
/// Limit over all models, of which each has at least one.
const MAX_MAPS: usize = 6;
/// Limit of heat-map cells over all responses, which keeps the page below 3 MB.
const MAX_CELLS: usize = 18_000;
/// Responses measured between updates of the progress bar and checks for Ctrl-C.
const MEASURED_AT_ONCE: usize = 16;

pub fn run(args: &AnalyzeArgs) -> Result<(), CliError> {
    check(args)?;
    let device = resolve(args.device.device)?;
    let names: Vec<Option<&str>> =
        if args.model.is_empty() { vec![None] } else { args.model.iter().map(|name| Some(name.as_str())).collect() };
    let models = names.into_iter().map(|name| Subject::open(name, args)).collect::<Result<Vec<_>, _>>()?;
    let mut output = Output::open(args.out.as_deref(), args.force)?;
    let stop = stop_on_interrupt("the responses measured so far are saved")?;
    let (mut analyses, mut maps) = (Vec::new(), Vec::new());
    let (mut complete, mut failed) = (true, None);
    for (index, subject) in models.iter().enumerate() {
        let base = models.first().filter(|base| index > 0 && subject.is_comparable(base));
        let job = Analyze { subject, base, args, num_models: models.len(), output: &mut output, stop: &stop };
        let analyzed = run_on(device, job);
        subject.source.warn_of_failures();
        match analyzed {
            Ok(Some(analyzed)) => {
                print_analysis(&analyzed.analysis);
                if let Some(warning) = analyzed.analysis.unreadable() {
                    eprintln!("warning: {}: {warning}", analyzed.analysis.info.model);
                }
                analyses.push(analyzed.analysis);
                maps.extend(analyzed.maps);
                complete &= analyzed.complete;
            }
            Ok(None) => complete = false,
            // The analyses of the models before this one are still written.
            Err(error) => (complete, failed) = (false, Some(error)),
        }
        if !complete {
            break;
        }
    }
    if analyses.is_empty() {
        output.abandon();
        let stopped = || CliError::Message("stopped before a response was measured; nothing is written".into());
        return Err(failed.unwrap_or_else(stopped));
    }
    output.write(&analyses, &analysis_report(&analyses, &maps, complete), complete)?;
    failed.map_or(Ok(()), Err)
}

fn check(args: &AnalyzeArgs) -> Result<(), CliError> {
    let message = |text: String| Err(CliError::Message(text));
    at_least_one(&[("--layers", args.layers)])?;
    args.responses.check()?;
    if args.responses.engine.has_servers() && args.model.len() > 1 {
        return message("--engine samples from one model; give one --model".into());
    }
    if args.adapter.adapter.is_some() && (args.model.len() > 1 || args.responses.engine.has_servers()) {
        let text =
            "--adapter is of one model that samples here; give one --model, and no --engine, or merge it (bupo merge)";
        return message(text.into());
    }
    if args.norm.tuned_lens.is_some() && args.model.len() > 1 {
        return message(
            "--tuned-lens is of one model; give one --model, or keep each lens in its model's folder".into(),
        );
    }
    if !(args.tolerance >= 0.0 && args.tolerance < 1.0) {
        return message(format!("--tolerance is {}; it must be at least 0 and below 1", args.tolerance));
    }
    let repeated = args.model.iter().enumerate().find(|(index, model)| args.model[..*index].contains(model));
    if let Some((_, model)) = repeated {
        return message(format!("--model names {model} twice; remove one"));
    }
    Ok(())
}

/// A model to analyze, with all that is read before its weights.
struct Subject {
    name: String,
    title: String,
    files: ModelFiles,
    attached: Attached,
    config: ModelConfig,
    tokenizer: Option<TextTokenizer>,
    source: ResponseSource,
    /// What samples, if not the model that is measured.
    servers: Option<RemoteEngine>,
    /// The last layer measured, if not all are.
    layers: Option<usize>,
}

impl Subject {
    fn open(model: Option<&str>, args: &AnalyzeArgs) -> Result<Self, CliError> {
        let name = model.unwrap_or(EMBEDDED_NAME).to_string();
        let files = model_files(model, Wanted::Model)?;
        let config = load_config(&files)?;
        let attached = Attached::open(&args.adapter, &args.norm, &[PolicySite::Layer(1)], &files)?;
        if let Some(layers) = args.layers.filter(|layers| *layers > config.num_hidden_layers) {
            let last = config.num_hidden_layers;
            return Err(CliError::Message(format!("--layers is {layers}, but the model has layers 1 to {last}")));
        }
        // Given token ids need no tokenizer.
        let tokenizer = if files.has("tokenizer.json") || args.responses.completions.is_none() {
            let tokenizer = TextTokenizer::load(&files)?;
            tokenizer.check_vocabulary(config.vocab_size)?;
            Some(tokenizer)
        } else {
            None
        };
        let eos = load_eos_token_ids(&files, &config)?;
        let source = ResponseSource::open(&args.responses, &files, tokenizer.as_ref(), &eos, config.vocab_size)?;
        let servers = args.responses.engine.connect(&config, source.max_tokens(&args.responses))?;
        if let Some(path) = &args.responses.completions {
            check_tokens_of(path, tokenizer.as_ref(), &eos, &name, &args.model)?;
        }
        warn_of_positions(&config, source.max_tokens(&args.responses));
        let layers = args.layers.filter(|layers| *layers < config.num_hidden_layers);
        Ok(Self { title: title(&name, &args.model), name, files, attached, config, tokenizer, source, servers, layers })
    }

    /// Whether the states of another model on the same responses can be compared with this one's layer by layer.
    fn is_comparable(&self, other: &Self) -> bool {
        let shape = |subject: &Self| (subject.config.num_hidden_layers, subject.config.hidden_size);
        shape(self) == shape(other) && self.source.has_same_responses(&other.source)
    }

    /// `dtype`: that of the layers.
    fn info(&self, args: &AnalyzeArgs, dtype: ComputeDtype) -> AnalysisInfo {
        let mut settings = self.source.settings(&args.responses);
        if let Some(layers) = args.layers {
            settings.insert("layers".into(), layers.into());
        }
        if let Some(lens) = &args.norm.tuned_lens {
            settings.insert("tuned_lens".into(), lens.display().to_string().into());
        }
        settings.insert("dtype".into(), dtype.to_string().into());
        AnalysisInfo {
            model: self.name.clone(),
            title: self.title.clone(),
            settings,
            norm: args.norm.norm,
            num_layers: self.config.num_hidden_layers,
            vocab_size: self.config.vocab_size,
            tolerance: args.tolerance,
        }
    }
}

/// The analysis of one model.
struct Analyze<'a> {
    subject: &'a Subject,
    /// The first model, if the states of this one are compared with its.
    base: Option<&'a Subject>,
    args: &'a AnalyzeArgs,
    num_models: usize,
    output: &'a mut Output,
    stop: &'a AtomicBool,
}

struct Analyzed {
    analysis: Analysis,
    maps: Vec<ResponseMap>,
    /// Whether all requested responses were measured, and their states compared.
    complete: bool,
}

impl Job for Analyze<'_> {
    /// Nothing if no response was measured.
    type Output = Option<Analyzed>;

    fn run<B: Backend>(mut self, device: &B::Device) -> Result<Self::Output, CliError> {
        let Self { subject, args, .. } = self;
        let dtype = args.dtype.dtype.for_model::<B>(&subject.files, device)?;
        let model = load_for_inference::<B>(&subject.files, &subject.attached, dtype.into(), device)?;
        let (accumulator, responses) = self.measure(&model)?;
        if accumulator.responses() == 0 {
            return Ok(None);
        }
        let mut analysis = Analysis::new(subject.info(args, dtype), &accumulator)?;
        let mut maps = Vec::new();
        let mut complete = accumulator.responses() == subject.source.len(&args.responses);
        // Comparisons with the last layer, and maps, need all layers.
        if subject.layers.is_none() {
            match self.similarity(&model, &responses, device)? {
                Some(similarity) => analysis.add_similarity(&similarity),
                None => complete = false,
            }
            maps = self.maps(&model, &examples(&responses))?;
        }
        Ok(Some(Analyzed { analysis, maps, complete }))
    }
}

impl Analyze<'_> {
    /// Samples or reads responses, and measures them. Also returns the responses that were measured.
    fn measure<B: Backend>(
        &mut self,
        model: &LoadedModel<B>,
    ) -> Result<(MeasureAccumulator, Vec<ScoredSequence>), CliError> {
        let Self { subject: Subject { name, source, tokenizer, servers, layers, .. }, args, .. } = *self;
        let tokenizer = tokenizer.as_ref();
        outln!("{name}: {}", source.describe(&args.responses));
        let options = MeasureOptions { norm: args.norm.norm, layers: *layers };
        let (mut accumulator, mut measured) = (MeasureAccumulator::default(), Vec::new());
        let bar = StepBar::in_parts("responses", source.len(&args.responses), source.parts());
        while accumulator.responses() < source.len(&args.responses) && !self.stop.load(Ordering::Relaxed) {
            let done = accumulator.responses();
            let responses = source
                .next(done, model, servers.as_ref(), tokenizer, &args.responses, &|sampled| bar.advance(sampled))?;
            for part in responses.chunks(MEASURED_AT_ONCE) {
                accumulator.measure(&model.decoder, part, options, &|count| bar.advance(count))?;
                measured.extend_from_slice(part);
                for response in part {
                    self.output.completion(name, response, tokenizer)?;
                }
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok((accumulator, measured))
    }

    /// Compares the states of the layers; nothing if that is stopped.
    fn similarity<B: Backend>(
        &self,
        model: &LoadedModel<B>,
        responses: &[ScoredSequence],
        device: &B::Device,
    ) -> Result<Option<LayerSimilarity>, CliError> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let base = self.base.map(|base| {
            let dtype = self.args.dtype.dtype.for_model::<B>(&base.files, device)?;
            load_for_inference::<B>(&base.files, &base.attached, dtype.into(), device)
        });
        let base = base.transpose()?;
        let bar = StepBar::in_parts("responses whose states are compared", responses.len(), 2);
        let go_on = |count: usize| {
            bar.advance(count);
            !self.stop.load(Ordering::Relaxed)
        };
        let base = base.as_ref().map(|base| &base.decoder);
        Ok(LayerSimilarity::measure(&model.decoder, base, responses, &go_on)?)
    }

    fn maps<B: Backend>(
        &self,
        model: &LoadedModel<B>,
        examples: &[ScoredSequence],
    ) -> Result<Vec<ResponseMap>, CliError> {
        let Subject { title, tokenizer: Some(tokenizer), .. } = self.subject else { return Ok(Vec::new()) };
        let count = (MAX_MAPS / self.num_models).clamp(1, MAPS_PER_MODEL);
        let cells = MAX_CELLS / (self.num_models * count);
        let norm = self.args.norm.norm;
        let map = |example: &ScoredSequence| {
            Ok(response_map(&model.decoder, tokenizer, title, &example.sequence, norm, cells)?)
        };
        examples.iter().take(count).map(map).collect()
    }
}

/// A model's title; the whole path if another model has the same.
fn title(name: &str, models: &[String]) -> String {
    let title = model_title(name);
    let shared = models.iter().filter(|model| model_title(model) == title).count() > 1;
    if shared { name.to_string() } else { title }
}

/// The first responses, one per prompt.
fn examples(responses: &[ScoredSequence]) -> Vec<ScoredSequence> {
    let mut examples: Vec<ScoredSequence> = Vec::new();
    for response in responses {
        let same_prompt = |other: &ScoredSequence| other.sequence.prompt == response.sequence.prompt;
        if examples.len() < MAPS_PER_MODEL && !examples.iter().any(same_prompt) {
            examples.push(response.clone());
        }
    }
    examples
}
