//! The report of an analysis of one or more models.

mod captions;
mod findings;
mod maps;
mod pictures;

use bupo_analysis::{Analysis, ResponseMap, Slice, Statistic};
use bupo_core::Norm;

use crate::page::{Part, Report, Section};
use pictures::Pictures;

/// The report of the internal policies of some models. `maps`, in the order of the models, are shown token by token. `complete` is whether all requested
/// responses were measured.
pub fn analysis_report(analyses: &[Analysis], maps: &[ResponseMap], complete: bool) -> Report {
    let names: Vec<&str> = analyses.iter().map(|analysis| analysis.info.title.as_str()).collect();
    let norm = analyses.first().map(|analysis| analysis.info.norm).unwrap_or_default();
    let partial = if complete { "" } else { " Incomplete: not all requested responses were measured." };
    let pictures = Pictures { analyses };
    let sections = vec![
        findings::section(analyses),
        Section {
            title: "Entropy by layer".into(),
            text: "Mean entropy of the policies of the residual stream (layer) and of the outputs of attention and feed-forward. The \
                   maximum, ln V, is the entropy of the uniform distribution. Bands around lines are 95% confidence intervals over \
                   responses."
                .into(),
            parts: vec![Part::Pictures(pictures.entropy())],
        },
        Section {
            title: "Entropy change by module".into(),
            text: format!(
                "Entropy at a module's output minus entropy at its input. Changes within the grey band, the tolerance, count as no \
                 change. The input is read after the module's own norm, the output {}.",
                match norm {
                    Norm::None => "without a norm, as in the paper",
                    Norm::Final | Norm::Tuned => "through the model's final norm",
                }
            ),
            parts: vec![Part::Pictures(pictures.entropy_change())],
        },
        maps::section(maps),
        Section {
            title: "Divergence from the full policy".into(),
            text: "Kullback-Leibler divergence in both directions, Jensen-Shannon divergence (at most ln 2), and the fraction of tokens \
                   with the same most probable token."
                .into(),
            parts: vec![Part::Pictures(pictures.divergence())],
        },
        Section {
            title: "Response tokens".into(),
            text: "Probability and rank of the response's tokens in each policy (rank 1 is the most probable token)."
                .into(),
            parts: vec![Part::Pictures(pictures.response_tokens())],
        },
        Section {
            title: "Direct logit attribution".into(),
            text: "What each layer, its attention and its feed-forward added to the model's logit of the response token. The final norm's \
                   scale is that of the full policy, so that with the embedding's all contributions add up to the logit."
                .into(),
            parts: vec![Part::Pictures(pictures.attribution())],
        },
        Section {
            title: "Similarity of the layers' states".into(),
            text: "Of each layer's states to the last layer's: the mean cosine of each token's states, and linear CKA over all response \
                   tokens, which is 1 for states that are equal up to a rotation and a scale. Of models after the first also to the same \
                   layer of the first, if they have as many layers of the same width and were measured on the same responses."
                .into(),
            parts: vec![Part::Pictures(pictures.similarity())],
        },
        Section {
            title: "Contributions".into(),
            text: "Norm of each contribution, and its cosine similarity with the state it is added to. The participation ratio is the \
                   effective number of dimensions of a response's states."
                .into(),
            parts: vec![Part::Pictures(pictures.contributions())],
        },
        Section {
            title: "By position".into(),
            text: "Entropy and entropy change by the token's position in the response.".into(),
            parts: vec![Part::Pictures(pictures.by_position())],
        },
        Section {
            title: "Correct and incorrect responses".into(),
            text: "Entropy and entropy change over responses with a score above 0.5 (correct) and over the others (incorrect).".into(),
            parts: vec![Part::Pictures(pictures.by_score())],
        },
        findings::settings(analyses),
    ];
    Report {
        title: format!("Internal policies of {}", names.join(", ")),
        subtitle: format!(
            "Norm {norm} between internal states and the unembedding; entropies and divergences in nats.{partial}"
        ),
        sections: sections.into_iter().filter_map(filled).collect(),
    }
}

/// Removes empty chart groups; nothing if no part is left.
fn filled(mut section: Section) -> Option<Section> {
    section.parts.retain(|part| !matches!(part, Part::Pictures(pictures) if pictures.is_empty()));
    (!section.parts.is_empty()).then_some(section)
}

/// Whether any model has this statistic.
fn has(analyses: &[Analysis], statistic: Statistic, slice: Slice) -> bool {
    analyses.iter().any(|analysis| analysis.rows.iter().any(|row| (row.statistic, row.slice) == (statistic, slice)))
}
