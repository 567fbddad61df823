//! The report of one or several models.

mod findings;
mod pictures;

use bupo_analysis::{Analysis, ResponseMap, Slice, Statistic};

use crate::page::{Part, Report, Section};
use crate::response_picture::response_picture;
use pictures::Pictures;

/// A page of what the policies inside some models say, with every picture; `maps` are responses to look at closely.
pub fn analysis_report(analyses: &[Analysis], maps: &[ResponseMap], complete: bool) -> Report {
    let names: Vec<&str> = analyses.iter().map(|analysis| analysis.info.model.as_str()).collect();
    let norm = analyses.first().map(|analysis| analysis.info.norm).unwrap_or_default();
    let partial = if complete { "" } else { " Stopped early: of what was asked for, only this much was analysed." };
    let pictures = Pictures { analyses };
    let sections = vec![
        findings::section(analyses),
        Section {
            title: "Entropy through the layers".into(),
            text: "How undecided the policy of each state is, from the first layer to the last: the stream itself (layer), and what \
                   attention and feed-forward add to it, each read as a policy of its own. A stream starts near ln V, where every \
                   token is as likely, and ends near 0."
                .into(),
            parts: vec![Part::Pictures(pictures.entropy_flow())],
        },
        Section {
            title: "What each layer does to the entropy".into(),
            text: "Entropy of what a module writes less entropy of what it reads. Above zero a module opens possibilities \
                   (exploration), below zero it closes them (convergence); the grey band is what counts as no change. Bands are 95% \
                   intervals over responses. What attention and feed-forward read is normed, what they write is not, as the method \
                   has it."
                .into(),
            parts: vec![Part::Pictures(pictures.entropy_change())],
        },
        Section {
            title: "Token by token".into(),
            text: "A few responses as their layers see them.".into(),
            parts: vec![Part::Pictures(
                maps.iter().enumerate().map(|(index, map)| response_picture(map, format!("response-{}", index + 1))).collect(),
            )],
        },
        Section {
            title: "Distance to the full policy".into(),
            text: "How far each state, read as a policy, is from what the model says in the end: Kullback-Leibler divergence both ways, \
                   Jensen-Shannon (at most ln 2), and how often the most probable token is the same. Where agreement climbs, the \
                   answer is being settled."
                .into(),
            parts: vec![Part::Pictures(pictures.distance())],
        },
        Section {
            title: "The tokens that were written".into(),
            text: "The probability that each policy gives to the response's own tokens, and their rank in it (1 is the first choice)."
                .into(),
            parts: vec![Part::Pictures(pictures.written())],
        },
        Section {
            title: "Contributions".into(),
            text: "How large each contribution is, and how it points against the state it is added to: a cosine above zero \
                   strengthens the state, below zero takes from it. Directions say over how many dimensions the states of a \
                   response spread."
                .into(),
            parts: vec![Part::Pictures(pictures.contributions())],
        },
        Section {
            title: "By position".into(),
            text: "The same entropies at the response's first tokens and at later ones.".into(),
            parts: vec![Part::Pictures(pictures.by_position())],
        },
        Section {
            title: "Right and wrong responses".into(),
            text: "The same entropies over responses worth more than half, and over the others.".into(),
            parts: vec![Part::Pictures(pictures.by_score())],
        },
    ];
    Report {
        title: format!("Internal policies of {}", names.join(", ")),
        subtitle: format!(
            "Norm {norm} between internal states and the unembedding; entropies and divergences in nats.{partial}"
        ),
        sections: sections.into_iter().filter_map(filled).collect(),
    }
}

/// A section without pictures nobody has numbers for.
fn filled(mut section: Section) -> Option<Section> {
    section.parts.retain(|part| !matches!(part, Part::Pictures(pictures) if pictures.is_empty()));
    (!section.parts.is_empty()).then_some(section)
}

/// Whether any model has this statistic.
fn has(analyses: &[Analysis], statistic: Statistic, slice: Slice) -> bool {
    analyses.iter().any(|analysis| analysis.rows.iter().any(|row| (row.statistic, row.slice) == (statistic, slice)))
}
