//! The page of a lens: the next tokens of every layer's policy at every position of a text.

use bupo_analysis::visible;
use bupo_core::{PolicySite, TokenRank};
use serde_json::{Value, json};

use crate::ReportError;
use crate::frame::Frame;

const TEMPLATE: &str = include_str!("lens/page.html");
const STYLE: &str = include_str!("lens/page.css");
const SCRIPT: &str = include_str!("lens/page.js");

/// The next tokens of policies at positions of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct LensGrid {
    /// The positions.
    pub positions: Vec<LensPosition>,
    /// The policies, in the order of the forward pass.
    pub rows: Vec<LensRow>,
    /// What added to the logit of one token per position, if that is shown.
    pub attribution: Option<LensAttribution>,
}

/// A position of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct LensPosition {
    /// Its number, from 1.
    pub number: usize,
    /// The id of its token.
    pub id: u32,
    /// The text of its token.
    pub text: String,
}

/// A policy at all positions.
#[derive(Debug, Clone, PartialEq)]
pub struct LensRow {
    /// Its site.
    pub site: PolicySite,
    /// One cell per position.
    pub cells: Vec<LensCell>,
}

/// A policy at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct LensCell {
    /// The entropy in nats.
    pub entropy: f32,
    /// The most probable tokens, most probable first.
    pub top: Vec<LensToken>,
    /// The place of a token that is followed through the layers.
    pub followed: Option<TokenRank>,
}

/// A next token and its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct LensToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Its probability.
    pub prob: f32,
}

/// The direct logit attribution at all positions.
#[derive(Debug, Clone, PartialEq)]
pub struct LensAttribution {
    /// The attributed token of each position: its id and its text.
    pub tokens: Vec<(u32, String)>,
    /// Its logit in the full policy.
    pub logits: Vec<f32>,
    /// What the embedding added to it.
    pub embedding: Vec<f32>,
    /// What each site added to it.
    pub sites: Vec<(PolicySite, Vec<f32>)>,
}

impl LensAttribution {
    /// The rows of a table with their names: the embedding, the sites, and the logit.
    pub fn rows(&self) -> Vec<(String, &[f32])> {
        let sites = self.sites.iter().map(|(site, added)| (site.to_string(), &added[..]));
        [("embed".to_string(), &self.embedding[..])]
            .into_iter()
            .chain(sites)
            .chain([("logit".to_string(), &self.logits[..])])
            .collect()
    }

    /// The share of a row's part of a position in the greatest part there, for its colour: from -1 to 1, and 0 for the logit.
    pub fn share(&self, name: &str, added: f32, column: usize) -> f32 {
        if name == "logit" {
            return 0.0;
        }
        let parts = self.sites.iter().map(|(_, added)| added).chain([&self.embedding]);
        let most = parts.fold(f32::MIN_POSITIVE, |most, added| most.max(added[column].abs()));
        (added / most).clamp(-1.0, 1.0)
    }
}

/// Renders a page with a table of the most probable tokens; pointing at a cell shows its other tokens and its entropy.
///
/// # Errors
/// [`ReportError::Page`] if the template fails.
pub fn lens_page(title: &str, subtitle: &str, grid: &LensGrid) -> Result<String, ReportError> {
    let positions: Vec<Value> = grid
        .positions
        .iter()
        .map(|position| json!({"number": position.number, "text": visible(&position.text)}))
        .collect();
    let top = |cell: &LensCell| cell.top.first().map(|token| (visible(&token.text), token.prob)).unwrap_or_default();
    let cells = |row: &LensRow| row.cells.iter().map(top).collect::<Vec<_>>();
    let rows: Vec<Value> =
        grid.rows.iter().map(|row| json!({"name": row.site.to_string(), "cells": cells(row)})).collect();
    let frame = Frame {
        title,
        subtitle,
        template: TEMPLATE,
        values: json!({"positions": positions, "rows": rows, "attribution": grid.attribution.as_ref().map(attribution)}),
        style: STYLE,
        script: SCRIPT,
        data: grid.rows.iter().map(hover).collect(),
    };
    frame.html()
}

/// What the page's script shows of each cell of a row.
fn hover(row: &LensRow) -> Value {
    let cell = |cell: &LensCell| {
        let top: Vec<Value> = cell.top.iter().map(|token| json!([visible(&token.text), token.prob])).collect();
        let followed = cell.followed.map(|place| json!([place.rank, place.logit, place.prob]));
        json!({"entropy": cell.entropy, "top": top, "followed": followed})
    };
    row.cells.iter().map(cell).collect()
}

fn attribution(attribution: &LensAttribution) -> Value {
    let row = |(name, added): (String, &[f32])| {
        let cell = |(column, added): (usize, &f32)| {
            let share = attribution.share(&name, *added, column);
            json!({"text": format!("{added:+.2}"), "share": share.abs(), "less": share < 0.0})
        };
        let cells: Vec<Value> = added.iter().enumerate().map(cell).collect();
        json!({"name": name, "cells": cells})
    };
    let tokens: Vec<String> = attribution.tokens.iter().map(|(_, text)| visible(text)).collect();
    json!({"tokens": tokens, "rows": attribution.rows().into_iter().map(row).collect::<Vec<_>>()})
}
