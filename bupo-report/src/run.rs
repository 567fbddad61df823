//! The report of training runs.

mod completions;
mod evaluations;
mod pictures;
mod read;
mod refinement;
mod tables;

use std::path::Path;

use bupo_rl::{AutoLayer, EvaluationLine, KeptCompletion, Outcome, ProbeLine, StepMetrics};
use toml::Table as Settings;

use crate::ReportError;
use crate::page::{Part, Report, Section};

/// The files of a training run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of the run folder.
    pub name: String,
    settings: Settings,
    settings_text: String,
    /// Lines of `metrics.jsonl`.
    metrics: Vec<StepMetrics>,
    /// Lines of `probe.jsonl`.
    probe: Vec<ProbeLine>,
    /// Lines of `completions.jsonl`.
    completions: Vec<KeptCompletion>,
    /// Lines of `evaluations.jsonl`.
    evaluations: Vec<EvaluationLine>,
    /// `evaluation.json`; nothing if the run is not finished.
    evaluation: Option<Outcome>,
    /// `boundary.json`; nothing if no phase has `layer = "auto"`.
    auto_layer: Option<AutoLayer>,
}

impl Run {
    /// Reads a run folder. The run can be unfinished; an incomplete last line of a log is skipped.
    ///
    /// # Errors
    /// If the folder has no settings or metrics, or a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        read::read(folder)
    }
}

/// The report of some training runs, with a line of each run in every chart.
pub fn run_report(runs: &[Run]) -> Report {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let several = runs.len() > 1;
    let sections = vec![
        Section {
            title: "Outcome".into(),
            text: tables::outcome_text(runs),
            parts: vec![Part::Table(tables::outcome(runs)), Part::Table(tables::evaluation(runs))],
        },
        Section {
            title: "Training".into(),
            text: "Dashed lines mark the start of a phase and the policy that it trains. Rapidly growing response lengths, truncated \
                   responses or an early decrease of the entropy to 0 indicate that a phase has too many steps."
                .into(),
            parts: vec![Part::Pictures(pictures::learning(runs))],
        },
        Section {
            title: "Evaluations".into(),
            text: "On held-out problems, before, during and after training. The best checkpoint and evaluation.patience go by the \
                   unweighted mean of Avg@K over benchmarks."
                .into(),
            parts: vec![Part::Pictures(evaluations::pictures(runs))],
        },
        Section {
            title: "Updates".into(),
            text: "Gradient norm before clipping, fraction of clipped tokens, and change of the policy relative to the policy that \
                   sampled the responses."
                .into(),
            parts: vec![Part::Pictures(pictures::updates(runs))],
        },
        Section {
            title: "Effect of internal-policy training on the full policy".into(),
            text: "Measured in the phases that train an internal policy. The phase guard uses these metrics and reward, length and \
                   truncation."
                .into(),
            parts: vec![Part::Pictures(pictures::divergence(runs))],
        },
        Section {
            title: "Internal policies during training".into(),
            text: "Measured on fixed responses, those of the first evaluation, so that all changes are due to changes of the model."
                .into(),
            parts: vec![Part::Pictures(pictures::internal_policies(runs))],
        },
        Section {
            title: "Feature refinement".into(),
            text: "Similarity of the layers' states on the same fixed responses, before, during and after training: to the last layer of the \
                   same step, and to the same layer before training. The paper reports that training an internal layer brings the lower \
                   layers closer to the last one early (arXiv 2512.19673). Linear CKA is 1 for states that are equal up to a rotation and a scale."
                .into(),
            parts: vec![Part::Pictures(refinement::pictures(runs))],
        },
        Section {
            title: "Sample completions".into(),
            text: "Responses to the same held-out problems before and after training, with their scores.".into(),
            parts: completions::completions(runs),
        },
        Section {
            title: if several { "Differences between the runs" } else { "Settings" }.into(),
            text: if several { "Settings that differ between the runs." } else { "" }.into(),
            parts: several.then(|| Part::Table(tables::differences(runs))).into_iter().chain(tables::settings(runs)).collect(),
        },
    ];
    Report {
        title: format!("Training: {}", names.join(", ")),
        subtitle: tables::subtitle(runs),
        sections: sections.into_iter().filter(filled).collect(),
    }
}

fn filled(section: &Section) -> bool {
    section.parts.iter().any(|part| !matches!(part, Part::Pictures(pictures) if pictures.is_empty()))
}
