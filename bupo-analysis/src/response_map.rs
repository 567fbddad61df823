//! The entropy and most probable tokens of every layer at every token of one response.

use bupo_core::Norm;
use bupo_models::{Decoder, Sequence, TextTokenizer, lens};
use burn::tensor::backend::Backend;

use crate::AnalysisError;

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
) -> Result<ResponseMap, AnalysisError> {
    let shown = sequence.response.len().min(TOKENS).min(most_cells / (decoder.layers.len() + 1)).max(1);
    let response = &sequence.response[..shown.min(sequence.response.len())];
    let ids = [&sequence.prompt[..], &response[..response.len().saturating_sub(1)]].concat();
    let first = sequence.prompt.len() - 1;
    let text = |id: u32| -> Result<String, AnalysisError> {
        Ok(visible(&tokenizer.token_text(id)?).chars().take(LETTERS).collect())
    };
    let mut cells = Vec::new();
    for site in lens(decoder, &ids, norm, TOP)? {
        let mut row = Vec::with_capacity(response.len());
        for (entropy, top) in site.entropy.iter().zip(&site.top).skip(first) {
            let top = top.iter().map(|top| Ok((text(top.token)?, top.prob))).collect::<Result<_, AnalysisError>>()?;
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

/// A text with its spaces, line ends and tabs replaced by visible symbols.
pub fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' ' => '\u{2423}',
            '\n' => '\u{21b5}',
            '\t' => '\u{21e5}',
            other => other,
        })
        .collect()
}
