//! The charts of one response: entropy by layer and token, with the most probable tokens on hover.

use bupo_analysis::ResponseMap;
use bupo_chart::{ColourScale, HeatMap};
use bupo_core::PolicySite;
use serde_json::{Value, json};

use crate::page::Picture;

/// The beginning of a prompt is left out of captions beyond this many characters.
const PROMPT: usize = 60;

/// The heat maps of a response: of layers, attention and feed-forward.
pub(crate) fn response_pictures(map: &ResponseMap, number: usize) -> Vec<Picture> {
    let layers: Vec<Vec<f64>> =
        map.cells.iter().map(|row| row.iter().map(|cell| f64::from(cell.entropy)).collect()).collect();
    let wide = |rows: &[Vec<f32>]| rows.iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
    let (attention, feed_forward): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (wide(&map.attention), wide(&map.feed_forward));
    let names =
        |site: fn(usize) -> PolicySite, count: usize| (1..=count).map(|layer| site(layer).to_string()).collect();
    let sites: Vec<String> = names(PolicySite::Layer, layers.len().saturating_sub(1));
    let sites = sites.into_iter().chain(["full".into()]).collect();
    let top: Vec<Vec<Vec<(&str, f64)>>> = map
        .cells
        .iter()
        .map(|row| {
            row.iter()
                .map(|cell| cell.top.iter().map(|(token, prob)| (token.as_str(), short(*prob))).collect())
                .collect()
        })
        .collect();
    // One range, so that the colours of the maps mean the same.
    let most = layers.iter().chain(&attention).chain(&feed_forward).flatten().copied().fold(0.0, f64::max);
    let picture = |name: &str, kind: &str, rows: Vec<String>, values: Vec<Vec<f64>>, top: Option<&Value>| {
        heat_map(map, number, most, (name, kind), rows, values, top)
    };
    let attn_sites = names(PolicySite::Attn, attention.len());
    let ffn_sites = names(PolicySite::Ffn, feed_forward.len());
    vec![
        picture("response", "layers", sites, layers, Some(&json!(top))),
        picture("response-attn", "attention", attn_sites, attention, None),
        picture("response-ffn", "feed-forward", ffn_sites, feed_forward, None),
    ]
}

fn heat_map(
    map: &ResponseMap,
    number: usize,
    most: f64,
    (name, kind): (&str, &str),
    rows: Vec<String>,
    values: Vec<Vec<f64>>,
    top: Option<&Value>,
) -> Picture {
    // The prompt stands under the first of a response's maps.
    let prompt = if top.is_some() { format!(" {}", prompt(map, number)) } else { String::new() };
    let caption = format!("{} Dark cells have low entropy.{prompt}", means(map, &rows, &values));
    let cells: Value = json!({
        "columns": map.tokens.iter().enumerate().map(|(place, token)| format!("{} {token}", place + 1)).collect::<Vec<_>>(),
        "rows": rows,
        "value": "entropy",
        "values": rounded(&values),
        "top": top,
    });
    let chart = HeatMap {
        title: format!("{}, response {number}: entropy of {kind}", map.model),
        x_label: "token of the response".into(),
        y_label: "policy".into(),
        value_label: format!("entropy (nats, norm {})", map.norm),
        columns: map.tokens.clone(),
        rows,
        values,
        range: Some((0.0, most)),
        scale: ColourScale::Sequential,
    };
    Picture { cells: Some(cells), ..Picture::new(format!("{name}-{number}"), chart, caption) }
}

/// The mean entropies of the first and the last rows.
fn means(map: &ResponseMap, rows: &[String], values: &[Vec<f64>]) -> String {
    let mean = |row: usize| {
        let values = &values[row];
        format!("{} {:.2}", rows[row], values.iter().sum::<f64>() / values.len().max(1) as f64)
    };
    // The full policy follows the last layer.
    let layers = map.cells.len().saturating_sub(1);
    let mut shown: Vec<usize> =
        [0, layers.saturating_sub(1), layers].into_iter().filter(|row| *row < rows.len()).collect();
    shown.dedup();
    let means: Vec<String> = shown.into_iter().map(mean).collect();
    format!("Mean over these tokens, in nats: {}.", means.join(", "))
}

/// The end of the prompt.
fn prompt(map: &ResponseMap, number: usize) -> String {
    let length = map.prompt.chars().count();
    let end: String = map.prompt.chars().skip(length.saturating_sub(PROMPT)).collect();
    let dots = if length > PROMPT { "\u{2026}" } else { "" };
    let cut = if map.cut { ", of which the beginning is shown" } else { "" };
    format!("Response {number}{cut} to \u{201c}{dots}{}\u{201d}.", end.replace('\n', " \u{21b5} ").trim())
}

/// Rounds values for tooltips.
pub(crate) fn rounded(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    values.iter().map(|row| row.iter().map(|value| short(*value)).collect()).collect()
}

/// Rounds to four decimal places; tooltips show three.
fn short(value: impl Into<f64>) -> f64 {
    (value.into() * 1e4).round() / 1e4
}
