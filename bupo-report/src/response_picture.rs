//! The chart of one response: entropy by layer and token, with the most probable tokens on hover.

use bupo_analysis::{ResponseMap, visible};
use bupo_chart::{ColourScale, HeatMap};
use bupo_core::PolicySite;
use serde_json::{Value, json};

use crate::page::Picture;

/// The heat map of a response's entropy by layer and token.
pub(crate) fn response_picture(map: &ResponseMap, name: String) -> Picture {
    let layers = map.cells.len().saturating_sub(1);
    let rows: Vec<String> =
        (1..=layers).map(|layer| PolicySite::Layer(layer).to_string()).chain(["full".into()]).collect();
    let values: Vec<Vec<f64>> =
        map.cells.iter().map(|row| row.iter().map(|cell| f64::from(cell.entropy)).collect()).collect();
    let start: String = map.prompt.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
    let dots = if map.prompt.chars().count() > 60 { "\u{2026}" } else { "" };
    let chart = HeatMap {
        title: format!("{}: entropy by layer and token after \u{201c}{dots}{}\u{201d}", map.model, visible(&start)),
        x_label: "token of the response".into(),
        y_label: "policy".into(),
        value_label: format!("entropy (nats, norm {})", map.norm),
        columns: map.tokens.clone(),
        rows: rows.clone(),
        values: values.clone(),
        range: None,
        scale: ColourScale::Sequential,
    };
    let cut = if map.cut { " Only the beginning of the response is shown." } else { "" };
    let caption = format!(
        "Each column is the position that predicts the token below it; dark cells have low entropy. Hover over a cell for the \
             policy's most probable tokens.{cut}"
    );
    let top: Vec<Vec<Vec<(&str, f64)>>> = map
        .cells
        .iter()
        .map(|row| {
            row.iter()
                .map(|cell| cell.top.iter().map(|(token, prob)| (token.as_str(), short(*prob))).collect())
                .collect()
        })
        .collect();
    let cells: Value = json!({
        "columns": map.tokens.iter().enumerate().map(|(place, token)| format!("{} {token}", place + 1)).collect::<Vec<_>>(),
        "rows": rows,
        "value": "entropy",
        "values": rounded(&values),
        "top": top,
    });
    Picture { cells: Some(cells), ..Picture::new(name, chart, caption) }
}

/// Rounds values for tooltips.
pub(crate) fn rounded(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    values.iter().map(|row| row.iter().map(|value| short(*value)).collect()).collect()
}

/// Rounds to four decimal places; tooltips show three.
fn short(value: impl Into<f64>) -> f64 {
    (value.into() * 1e4).round() / 1e4
}
