//! The report of one or several training runs.

mod pictures;
mod read;
mod tables;

use std::path::Path;

use bupo_rl::{AutoLayer, KeptCompletion, Outcome, ProbeLine, StepMetrics};
use toml::Table as Settings;

use crate::ReportError;
use crate::page::{Part, Report, Section};

/// What a training run left in its folder.
#[derive(Debug, Clone)]
pub struct Run {
    /// The folder's name, or as much of its path as tells runs apart.
    pub name: String,
    settings: Settings,
    settings_text: String,
    /// Lines of `metrics.jsonl`.
    metrics: Vec<StepMetrics>,
    /// Lines of `probe.jsonl`.
    probe: Vec<ProbeLine>,
    /// Lines of `completions.jsonl`.
    completions: Vec<KeptCompletion>,
    /// `evaluation.json`; nothing while the run goes on, or where it was stopped.
    evaluation: Option<Outcome>,
    /// `boundary.json`, where a phase left its layer open.
    auto_layer: Option<AutoLayer>,
}

impl Run {
    /// Reads a run's folder. A run that still goes on, or was stopped, has no evaluation yet; a last line that was cut short
    /// is left out.
    ///
    /// # Errors
    /// If the folder has no settings or metrics, or they cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        read::read(folder)
    }
}

/// A page of some training runs, side by side, with every picture.
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
            title: "Learning".into(),
            text: "Dashed lines are changes of phase: which policy is trained from there on. Length that explodes, truncation, or an \
                   entropy that falls to 0 early are signs that a phase went on for too long."
                .into(),
            parts: vec![Part::Pictures(pictures::learning(runs))],
        },
        Section {
            title: "Updates".into(),
            text: "The size of the gradient before clipping, how many tokens were clipped, and how far the policy moved from the one \
                   that made the responses."
                .into(),
            parts: vec![Part::Pictures(pictures::updates(runs))],
        },
        Section {
            title: "What training a layer does to the full policy".into(),
            text: "While an internal policy is trained. The phase guard looks at these, and at reward, length and truncation above."
                .into(),
            parts: vec![Part::Pictures(pictures::divergence(runs))],
        },
        Section {
            title: "Seen from inside".into(),
            text: "The internal policies on the same responses throughout, those of the first evaluation: what changes from left to \
                   right is the model alone. A layer that is trained first moves first."
                .into(),
            parts: vec![Part::Pictures(pictures::inside(runs))],
        },
        Section {
            title: "Sample completions".into(),
            text: "The same held-out problems before and after training.".into(),
            parts: tables::completions(runs),
        },
        Section {
            title: if several { "Differences between the runs" } else { "Settings" }.into(),
            text: if several { "Settings that are not the same in all of them." } else { "" }.into(),
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
