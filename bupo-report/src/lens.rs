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
        values: json!({"positions": positions, "rows": rows}),
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
