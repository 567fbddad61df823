//! Entropies of the policies of every layer, attention and feed-forward at every token of one response, and the layers' most
//! probable tokens.

use bupo_core::{Norm, PolicySite};
use bupo_models::{Decoder, LensOptions, MeasureOptions, Sequence, TextTokenizer, lens, measure};
use burn::tensor::backend::Backend;

use crate::AnalysisError;

/// Most probable tokens shown per cell.
const TOP: usize = 5;
/// Limit of the tokens of a map, so that they stay readable.
const MAX_TOKENS: usize = 96;

/// The policies at each token of a response's beginning.
#[derive(Debug, Clone)]
pub struct ResponseMap {
    /// The model's name.
    pub model: String,
    /// Norm between internal states and the unembedding.
    pub norm: Norm,
    /// Text of the prompt.
    pub prompt: String,
    /// The response's first tokens.
    pub tokens: Vec<String>,
    /// The layer policies, `[layer][token]`, the full policy last.
    pub cells: Vec<Vec<MapCell>>,
    /// Entropies of the attention policies in nats, `[layer][token]`.
    pub attention: Vec<Vec<f32>>,
    /// Entropies of the feed-forward policies in nats, `[layer][token]`.
    pub feed_forward: Vec<Vec<f32>>,
    /// Whether the response has more tokens.
    pub cut: bool,
}

/// A policy at the position that predicts a token.
#[derive(Debug, Clone)]
pub struct MapCell {
    /// The entropy in nats.
    pub entropy: f32,
    /// The most probable tokens and their probabilities.
    pub top: Vec<(String, f32)>,
}

/// Computes the map of a response's beginning, with at most `max_cells` cells of layers, attention and feed-forward together. A
/// cell takes about 70 bytes of a page.
///
/// # Errors
/// If the model cannot run the response, or its tokens cannot be decoded.
pub fn response_map<B: Backend>(
    decoder: &Decoder<B>,
    tokenizer: &TextTokenizer,
    model: &str,
    sequence: &Sequence,
    norm: Norm,
    max_cells: usize,
) -> Result<ResponseMap, AnalysisError> {
    let shown = sequence.response.len().min(MAX_TOKENS).min(max_cells / (3 * decoder.layers.len() + 1)).max(1);
    let response = &sequence.response[..shown.min(sequence.response.len())];
    let ids = [&sequence.prompt[..], &response[..response.len().saturating_sub(1)]].concat();
    let first = sequence.prompt.len() - 1;
    let text = |id: u32| -> Result<String, AnalysisError> {
        Ok(visible(&tokenizer.token_text(id)?).chars().take(MAX_TOKEN_CHARACTERS).collect())
    };
    let options = LensOptions { norm, top: TOP, ..LensOptions::default() };
    let mut cells = Vec::new();
    for site in lens(decoder, &ids, &options)? {
        let mut row = Vec::with_capacity(response.len());
        for (entropy, top) in site.entropy.iter().zip(&site.top).skip(first) {
            let top = top.iter().map(|top| Ok((text(top.token)?, top.prob))).collect::<Result<_, AnalysisError>>()?;
            row.push(MapCell { entropy: *entropy, top });
        }
        cells.push(row);
    }
    let beginning = Sequence { prompt: sequence.prompt.clone(), response: response.to_vec() };
    let sites = measure(decoder, &[beginning], MeasureOptions { norm, layers: None })?.remove(0).sites;
    let entropies = |kind: fn(usize) -> PolicySite| -> Vec<Vec<f32>> {
        let of_kind = sites.iter().filter(|site| site.site.layer().map(kind) == Some(site.site));
        of_kind.map(|site| site.policy.entropy.clone()).collect()
    };
    Ok(ResponseMap {
        model: model.to_string(),
        norm,
        prompt: tokenizer.decode(&sequence.prompt)?,
        tokens: response.iter().map(|id| text(*id)).collect::<Result<_, _>>()?,
        attention: entropies(PolicySite::Attn),
        feed_forward: entropies(PolicySite::Ffn),
        cells,
        cut: response.len() < sequence.response.len(),
    })
}

/// Characters shown per token.
const MAX_TOKEN_CHARACTERS: usize = 16;

/// Replaces spaces, line ends and tabs by visible symbols.
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
