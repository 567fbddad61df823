//! Stages, boundary layer and the decrease of the entropy as text and as a table, and how the analysis was made.

use std::collections::BTreeSet;

use bupo_analysis::{Analysis, Convergence, Slice, Statistic};
use bupo_core::PolicySite;
use serde_json::Value;

use super::captions::{number, percent};
use crate::page::{Part, Section, Table};

pub(super) fn section(analyses: &[Analysis]) -> Section {
    let stage = |analysis: &Analysis, wanted: &str| {
        let stages = analysis.boundary.as_ref()?.stages.named();
        let (_, first, last) = stages.into_iter().find(|(name, ..)| *name == wanted)?;
        Some(layers(first, last))
    };
    let rows = [
        row(analyses, "layers", &|a| Some(a.info.num_layers.to_string())),
        row(analyses, "vocabulary", &|a| Some(a.info.vocab_size.to_string())),
        row(analyses, "responses", &|a| Some(a.responses.to_string())),
        row(analyses, "tokens", &|a| Some(a.tokens.to_string())),
        row(analyses, "mean score", &|a| a.mean_score.map(|score| format!("{score:.3}"))),
        row(analyses, "exploration", &|a| stage(a, "exploration")),
        row(analyses, "integration", &|a| stage(a, "integration")),
        row(analyses, "convergence", &|a| stage(a, "convergence")),
        row(analyses, "boundary layer", &|a| {
            Some(a.boundary.as_ref()?.layer.map_or("none".into(), |layer| layer.to_string()))
        }),
        row(analyses, "boundary is stable", &|a| {
            Some(if a.boundary.as_ref()?.is_stable() { "yes" } else { "no" }.into())
        }),
        row(analyses, "entropy decrease", &|a| a.convergence.map(decrease)),
    ];
    let mut parts =
        vec![table(analyses, "Stages by the feed-forward entropy change", rows.into_iter().flatten().collect())];
    parts.extend(analyses.iter().filter_map(|analysis| {
        let boundary = analysis.boundary.as_ref()?;
        Some(Part::Listing {
            name: format!("{}: phases for a training settings file", analysis.info.title),
            text: boundary.phases(),
            folded: false,
        })
    }));
    Section { title: "Findings".into(), text: analyses.iter().map(text).collect::<Vec<_>>().join("\n\n"), parts }
}

/// What is needed to make the analysis again.
pub(super) fn settings(analyses: &[Analysis]) -> Section {
    let names: BTreeSet<&String> = analyses.iter().flat_map(|analysis| analysis.info.settings.keys()).collect();
    let mut rows: Vec<Vec<String>> = [
        row(analyses, "model", &|a| Some(a.info.model.clone())),
        row(analyses, "norm", &|a| Some(a.info.norm.to_string())),
        row(analyses, "tolerance", &|a| Some(a.info.tolerance.to_string())),
    ]
    .into_iter()
    .flatten()
    .collect();
    rows.extend(names.into_iter().filter_map(|name| row(analyses, name, &|a| a.info.settings.get(name).map(plain))));
    rows.extend(row(analyses, "bupo", &|_| Some(env!("CARGO_PKG_VERSION").into())));
    Section {
        title: "Settings".into(),
        text: "What makes this analysis again. The responses and their tokens are in completions.jsonl.".into(),
        parts: vec![table(analyses, "Settings", rows)],
    }
}

/// A row with a cell per model; nothing if no model has the value.
fn row(analyses: &[Analysis], name: &str, value: &dyn Fn(&Analysis) -> Option<String>) -> Option<Vec<String>> {
    let values: Vec<Option<String>> = analyses.iter().map(value).collect();
    let known = values.iter().any(Option::is_some);
    let cells = values.into_iter().map(|value| value.unwrap_or_else(|| "\u{2013}".into()));
    known.then(|| std::iter::once(name.to_string()).chain(cells).collect())
}

fn table(analyses: &[Analysis], caption: &str, rows: Vec<Vec<String>>) -> Part {
    let header = std::iter::once(String::new()).chain(analyses.iter().map(|a| a.info.title.clone())).collect();
    Part::Table(Table { caption: caption.into(), header, rows })
}

/// One paragraph per model.
fn text(analysis: &Analysis) -> String {
    let title = &analysis.info.title;
    let (Some(boundary), Some(convergence)) = (&analysis.boundary, &analysis.convergence) else {
        return format!("{title}: only the first layers were measured, so there are no stages.");
    };
    let layer = boundary.layer.map_or("no boundary layer".to_string(), |layer| format!("boundary layer {layer}"));
    let warning = analysis.unreadable().map_or(String::new(), |warning| format!("\n\nWarning: {warning}."));
    format!(
        "{title}: {layer}: {} ({}).{} {}.{}{warning}",
        boundary.reason(),
        boundary.certainty(),
        entropies(analysis),
        capitalized(&convergence.describe()),
        agreement(analysis),
    )
}

/// Where the layer policies' entropy starts and ends.
fn entropies(analysis: &Analysis) -> String {
    let stream = analysis.stream_entropies();
    let (Some(first), Some(last)) = (stream.first(), stream.last()) else { return String::new() };
    let full = analysis.row(PolicySite::Full, Statistic::Entropy, Slice::All);
    let full = full.map_or(String::new(), |row| format!("; the full policy's is {}", number(row.estimate.mean)));
    format!(
        " With norm {}, the entropy of the residual stream's policy is {} nats at the embedding and {} after layer {}{full}; ln V is {:.2}.",
        analysis.info.norm,
        number(*first),
        number(*last),
        analysis.info.num_layers,
        (analysis.info.vocab_size as f64).ln(),
    )
}

/// Where the layer policies agree most with the full policy, below the last layer.
fn agreement(analysis: &Analysis) -> String {
    let agreements = analysis.by_layer(PolicySite::Layer, Statistic::Agreement, Slice::All);
    let below = agreements.iter().filter(|(layer, _)| *layer < analysis.info.num_layers);
    let best = below.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    let (Some((layer, best)), Some((_, last))) = (best, agreements.last()) else { return String::new() };
    format!(
        " Layer {layer} agrees with the full policy on {} of tokens, the most below the last layer, which agrees on {}.",
        percent(best.mean),
        percent(last.mean)
    )
}

fn decrease(convergence: Convergence) -> String {
    match convergence {
        Convergence::None => "below 10% of ln V".into(),
        Convergence::Abrupt { from, to } => format!("abrupt, {}", layers(from, to)),
        Convergence::Progressive { from, to } => format!("progressive, {}", layers(from, to)),
    }
}

fn layers(first: usize, last: usize) -> String {
    if first == last { format!("layer {first}") } else { format!("layers {first} to {last}") }
}

/// A setting's value, texts without quotation marks and lists separated by commas.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
