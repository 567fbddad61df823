//! The charts of one response: entropy by layer and token, with the most probable tokens on hover.

use bupo_analysis::ResponseMap;
use bupo_chart::{ColourScale, HeatMap};
use bupo_core::PolicySite;
use serde_json::{Value, json};

use crate::page::Picture;

/// The beginning of a prompt is left out of captions beyond this many characters.
const PROMPT: usize = 60;

/// The entropies of one kind of policies at each token.
struct Rows {
    /// The beginning of file names.
    file: &'static str,
    kind: &'static str,
    sites: Vec<String>,
    values: Vec<Vec<f64>>,
}

/// The heat maps of a response: of layers, attention and feed-forward. `most` is the entropy of the last colour.
pub(crate) fn response_pictures(map: &ResponseMap, number: usize, most: f64) -> Vec<Picture> {
    let top: Vec<Vec<Vec<(&str, f64)>>> = map
        .cells
        .iter()
        .map(|row| {
            row.iter()
                .map(|cell| cell.top.iter().map(|(token, prob)| (token.as_str(), short(*prob))).collect())
                .collect()
        })
        .collect();
    let top = json!(top);
    let picture = |(index, rows): (usize, Rows)| {
        // The prompt stands under the first of a response's maps, which has tokens on hover.
        let is_first = index == 0;
        let prompt = if is_first { format!(" {}", prompt(map, number)) } else { String::new() };
        let means = means(map, &rows, |mean| format!("{mean:.2}"));
        let caption = format!("Mean over these tokens, in nats: {means}. Dark cells have low entropy.{prompt}");
        let mut cells = cells(map, &rows, "entropy");
        if is_first {
            cells["top"] = top.clone();
        }
        let chart = HeatMap {
            title: format!("{}, response {number}: entropy of {}", map.model, rows.kind),
            value_label: format!("entropy (nats, norm {})", map.norm),
            range: Some((0.0, most)),
            scale: ColourScale::Sequential,
            ..heat_map(map, &rows)
        };
        Picture { cells: Some(cells), ..Picture::new(format!("{}-{number}", rows.file), chart, caption) }
    };
    rows(map).into_iter().enumerate().map(picture).collect()
}

/// The heat maps of the entropies of one model, B, minus those of another, A, at the same tokens and sites.
pub(crate) fn difference_pictures(a: &ResponseMap, b: &ResponseMap, number: usize) -> Vec<Picture> {
    let minus = |(a, b): (Rows, Rows)| {
        let row = |(a, b): (&Vec<f64>, &Vec<f64>)| b.iter().zip(a).map(|(b, a)| b - a).collect();
        Rows { values: a.values.iter().zip(&b.values).map(row).collect(), ..a }
    };
    let kinds: Vec<Rows> = rows(a).into_iter().zip(rows(b)).map(minus).collect();
    let most = kinds.iter().flat_map(|rows| &rows.values).flatten().fold(0.0, |most: f64, value| most.max(value.abs()));
    let picture = |rows: Rows| {
        let means = means(a, &rows, |mean| format!("{mean:+.2}"));
        let caption = format!(
            "Mean difference over these tokens, in nats: {means}. Orange: more entropy in B ({}). Blue: more in A ({}).",
            b.model, a.model
        );
        let mut cells = cells(a, &rows, "entropy");
        cells["more"] = json!([a.model, b.model]);
        let chart = HeatMap {
            title: format!("{} minus {}, response {number}: entropy of {}", b.model, a.model, rows.kind),
            value_label: "more in A \u{2190} nats \u{2192} more in B".into(),
            range: Some((-most, most)),
            scale: ColourScale::Diverging,
            ..heat_map(a, &rows)
        };
        Picture { cells: Some(cells), ..Picture::new(format!("{}-difference-{number}", rows.file), chart, caption) }
    };
    kinds.into_iter().map(picture).collect()
}

/// The greatest entropy of maps whose colours mean the same.
pub(crate) fn most_entropy<'a>(maps: impl IntoIterator<Item = &'a ResponseMap>) -> f64 {
    maps.into_iter().flat_map(rows).flat_map(|rows| rows.values).flatten().fold(0.0, f64::max)
}

/// The entropies of layers, attention and feed-forward.
fn rows(map: &ResponseMap) -> [Rows; 3] {
    let names = |site: fn(usize) -> PolicySite, rows: &[Vec<f32>]| {
        (1..=rows.len()).map(|layer| site(layer).to_string()).collect::<Vec<_>>()
    };
    let wide = |rows: &[Vec<f32>]| rows.iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
    let layers = map.cells.iter().map(|row| row.iter().map(|cell| f64::from(cell.entropy)).collect()).collect();
    // The full policy follows the last layer.
    let layer_names = names(PolicySite::Layer, &map.attention).into_iter().chain(["full".into()]).collect();
    [
        Rows { file: "response", kind: "layers", sites: layer_names, values: layers },
        Rows {
            file: "response-attn",
            kind: "attention",
            sites: names(PolicySite::Attn, &map.attention),
            values: wide(&map.attention),
        },
        Rows {
            file: "response-ffn",
            kind: "feed-forward",
            sites: names(PolicySite::Ffn, &map.feed_forward),
            values: wide(&map.feed_forward),
        },
    ]
}

fn heat_map(map: &ResponseMap, rows: &Rows) -> HeatMap {
    HeatMap {
        x_label: "token of the response".into(),
        y_label: "policy".into(),
        columns: map.tokens.clone(),
        rows: rows.sites.clone(),
        values: rows.values.clone(),
        ..HeatMap::default()
    }
}

/// What the page's script shows on hover.
fn cells(map: &ResponseMap, rows: &Rows, value: &str) -> Value {
    let column = |(place, token): (usize, &String)| format!("{} {token}", place + 1);
    json!({
        "columns": map.tokens.iter().enumerate().map(column).collect::<Vec<_>>(),
        "rows": rows.sites,
        "value": value,
        "values": rounded(&rows.values),
    })
}

/// The means of the first and the last rows.
fn means(map: &ResponseMap, rows: &Rows, number: fn(f64) -> String) -> String {
    let mean = |row: usize| {
        let values = &rows.values[row];
        format!("{} {}", rows.sites[row], number(values.iter().sum::<f64>() / values.len().max(1) as f64))
    };
    let layers = map.attention.len();
    let mut shown: Vec<usize> =
        [0, layers.saturating_sub(1), layers].into_iter().filter(|row| *row < rows.sites.len()).collect();
    shown.dedup();
    shown.into_iter().map(mean).collect::<Vec<_>>().join(", ")
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
