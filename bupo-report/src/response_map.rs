//! A response as its layers see it: a heat map of their entropy, with what each would say.

use bupo_core::{Norm, PolicySite};
use bupo_models::{Decoder, Sequence, TextTokenizer, lens};
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use bupo_chart::{ColourScale, HeatMap};

use crate::ReportError;
use crate::page::Picture;

/// Tokens shown of each place's policy.
const TOP: usize = 5;
/// The most tokens of a map, which would be too narrow to read with more.
const TOKENS: usize = 96;

/// What each layer would say at each token of a response's beginning.
#[derive(Debug, Clone)]
pub struct ResponseMap {
    /// The model's name.
    pub model: String,
    /// Between states and unembedding.
    pub norm: Norm,
    /// What the response answers.
    pub prompt: String,
    /// The response's tokens, from its first.
    pub tokens: Vec<String>,
    /// By layer, the full policy last, then by token.
    pub cells: Vec<Vec<MapCell>>,
    /// Whether the response goes on.
    pub cut: bool,
}

/// A layer at the place that predicts a token.
#[derive(Debug, Clone)]
pub struct MapCell {
    /// The entropy in nats.
    pub entropy: f32,
    /// The most probable tokens with their probabilities.
    pub top: Vec<(String, f32)>,
}

/// Looks at the beginning of a response through every layer, `most_cells` at the most: with what its layer would say, a cell
/// takes about a hundred bytes of the page.
///
/// # Errors
/// If the response cannot be run or its tokens have no text.
pub fn response_map<B: Backend>(
    decoder: &Decoder<B>,
    tokenizer: &TextTokenizer,
    model: &str,
    sequence: &Sequence,
    norm: Norm,
    most_cells: usize,
) -> Result<ResponseMap, ReportError> {
    let shown = sequence.response.len().min(TOKENS).min(most_cells / (decoder.layers.len() + 1)).max(1);
    let response = &sequence.response[..shown.min(sequence.response.len())];
    let ids = [&sequence.prompt[..], &response[..response.len().saturating_sub(1)]].concat();
    let first = sequence.prompt.len() - 1;
    let text = |id: u32| -> Result<String, ReportError> {
        Ok(visible(&tokenizer.token_text(id)?).chars().take(LETTERS).collect())
    };
    let mut cells = Vec::new();
    for site in lens(decoder, &ids, norm, TOP)? {
        let mut row = Vec::with_capacity(response.len());
        for (entropy, top) in site.entropy.iter().zip(&site.top).skip(first) {
            let top = top.iter().map(|top| Ok((text(top.token)?, top.prob))).collect::<Result<_, ReportError>>()?;
            row.push(MapCell { entropy: *entropy, top });
        }
        cells.push(row);
    }
    Ok(ResponseMap {
        model: model.to_string(),
        norm,
        prompt: tokenizer.decode(&sequence.prompt)?,
        tokens: response.iter().map(|id| text(*id)).collect::<Result<_, _>>()?,
        cells,
        cut: response.len() < sequence.response.len(),
    })
}

/// Letters of a token that are shown.
const LETTERS: usize = 16;

/// A text with its spaces and line ends made visible.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' ' => '\u{2423}',
            '\n' => '\u{21b5}',
            '\t' => '\u{21e5}',
            other => other,
        })
        .collect()
}

impl ResponseMap {
    pub(crate) fn picture(&self, name: String) -> Picture {
        let layers = self.cells.len().saturating_sub(1);
        let rows: Vec<String> =
            (1..=layers).map(|layer| PolicySite::Layer(layer).to_string()).chain(["full".into()]).collect();
        let values: Vec<Vec<f64>> =
            self.cells.iter().map(|row| row.iter().map(|cell| f64::from(cell.entropy)).collect()).collect();
        let start: String = self.prompt.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
        let dots = if self.prompt.chars().count() > 60 { "\u{2026}" } else { "" };
        let chart = HeatMap {
            title: format!(
                "{}: entropy by layer and token after \u{201c}{dots}{}\u{201d}",
                self.model,
                visible(&start)
            ),
            x_label: "token of the response".into(),
            y_label: "policy".into(),
            value_label: format!("entropy (nats, norm {})", self.norm),
            columns: self.tokens.clone(),
            rows: rows.clone(),
            values: values.clone(),
            range: None,
            scale: ColourScale::Sequential,
        };
        let cut = if self.cut { " Only the response's beginning is shown." } else { "" };
        let caption = format!(
            "Each column is the place that predicts the token under it; dark cells are policies that have decided. Point at a \
             cell for the layer's most probable tokens.{cut}"
        );
        let top: Vec<Vec<Vec<(&str, f64)>>> = self
            .cells
            .iter()
            .map(|row| {
                row.iter()
                    .map(|cell| cell.top.iter().map(|(token, prob)| (token.as_str(), short(*prob))).collect())
                    .collect()
            })
            .collect();
        let cells: Value = json!({
            "columns": self.tokens.iter().enumerate().map(|(place, token)| format!("{} {token}", place + 1)).collect::<Vec<_>>(),
            "rows": rows,
            "value": "entropy",
            "values": rounded(&values),
            "top": top,
        });
        Picture { cells: Some(cells), ..Picture::new(name, chart, caption) }
    }
}

/// Values as short as a tooltip shows them.
pub(crate) fn rounded(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    values.iter().map(|row| row.iter().map(|value| short(*value)).collect()).collect()
}

/// Four places, one more than a tooltip shows.
fn short(value: impl Into<f64>) -> f64 {
    (value.into() * 1e4).round() / 1e4
}
