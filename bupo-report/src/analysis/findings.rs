//! Stages, boundary layer and convergence as text and as a table.

use bupo_analysis::Analysis;

use crate::page::{Part, Section, Table};

pub(super) fn section(analyses: &[Analysis]) -> Section {
    let header = std::iter::once(String::new()).chain(analyses.iter().map(|a| a.info.model.clone())).collect();
    let row = |name: &str, value: &dyn Fn(&Analysis) -> Option<String>| {
        let values: Vec<Option<String>> = analyses.iter().map(value).collect();
        let known = values.iter().any(Option::is_some);
        let cells = values.into_iter().map(|value| value.unwrap_or_else(|| "\u{2013}".into()));
        known.then(|| std::iter::once(name.to_string()).chain(cells).collect::<Vec<_>>())
    };
    let stage = |analysis: &Analysis, wanted: &str| {
        let stages = analysis.boundary.as_ref()?.stages.named();
        let (_, first, last) = stages.into_iter().find(|(name, ..)| *name == wanted)?;
        Some(if first == last { format!("layer {first}") } else { format!("layers {first} to {last}") })
    };
    let rows = [
        row("layers", &|a| Some(a.info.num_layers.to_string())),
        row("vocabulary", &|a| Some(a.info.vocab_size.to_string())),
        row("responses", &|a| Some(a.responses.to_string())),
        row("tokens", &|a| Some(a.tokens.to_string())),
        row("mean score", &|a| a.mean_score.map(|score| format!("{score:.3}"))),
        row("exploration", &|a| stage(a, "exploration")),
        row("integration", &|a| stage(a, "integration")),
        row("convergence", &|a| stage(a, "convergence")),
        row("boundary layer", &|a| Some(a.boundary.as_ref()?.layer.map_or("none".into(), |layer| layer.to_string()))),
        row("stable", &|a| Some(if a.boundary.as_ref()?.is_stable() { "yes" } else { "no" }.into())),
    ];
    let mut parts = vec![Part::Table(Table {
        caption: "Stages by the feed-forward entropy change".into(),
        header,
        rows: rows.into_iter().flatten().collect(),
    })];
    parts.extend(analyses.iter().filter_map(|analysis| {
        let boundary = analysis.boundary.as_ref()?;
        Some(Part::Listing {
            name: format!("{}: phases for a training settings file", analysis.info.model),
            text: boundary.phases(),
            folded: false,
        })
    }));
    Section { title: "Findings".into(), text: analyses.iter().map(text).collect::<Vec<_>>().join("\n\n"), parts }
}

/// One paragraph per model.
fn text(analysis: &Analysis) -> String {
    let model = &analysis.info.model;
    let (Some(boundary), Some(convergence)) = (&analysis.boundary, &analysis.convergence) else {
        return format!("{model}: only the first layers were measured, so there are no stages.");
    };
    let layer = boundary.layer.map_or("no boundary layer".to_string(), |layer| format!("boundary layer {layer}"));
    format!(
        "{model}: {layer}: {} ({}). {}.",
        boundary.reason(),
        boundary.certainty(),
        capitalized(&convergence.describe())
    )
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
