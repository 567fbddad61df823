//! The direct logit attribution of a lens: on the screen and as JSON.

use bupo_core::PolicySite;
use bupo_models::{Attribution, ModelError, TextTokenizer};
use bupo_report::{LensAttribution, LensGrid};
use console::Style;
use serde_json::{Value, json};

use super::grid::{Columns, print_table, short};

/// The parts of `attribution` at the read `sites`, with the texts of its tokens.
pub fn named(
    attribution: Attribution,
    sites: &[PolicySite],
    tokenizer: &TextTokenizer,
) -> Result<LensAttribution, ModelError> {
    let text = |id: &u32| Ok((*id, tokenizer.token_text(*id)?));
    Ok(LensAttribution {
        tokens: attribution.tokens.iter().map(text).collect::<Result<_, ModelError>>()?,
        logits: attribution.logits,
        embedding: attribution.embedding,
        sites: attribution
            .sites
            .into_iter()
            .filter(|site| sites.contains(&site.site))
            .map(|site| (site.site, site.added))
            .collect(),
    })
}

/// Prints a row per site and a column per position, with the token of each position above it. `all` as of the grid of policies.
pub fn print(grid: &LensGrid, attribution: &LensAttribution, all: bool) {
    let rows = attribution.rows();
    let token = |column: usize| format!("\u{2192} {}", short(&attribution.tokens[column].1));
    let cell = |row: usize, column: usize| {
        let (name, added) = (&rows[row].0, rows[row].1[column]);
        let style = if name == "logit" { Style::new().bold() } else { style(attribution.share(name, added, column)) };
        (format!("{added:+.2}"), style)
    };
    let columns = Columns { names: rows.iter().map(|(name, _)| name.clone()).collect(), third: &token, cell: &cell };
    print_table(grid, &columns, all);
}

/// Colours that are readable on light and dark terminals; without them, cells still have signs.
fn style(share: f32) -> Style {
    match share {
        share if share.abs() < 0.1 => Style::new().dim(),
        0.0.. => Style::new().green(),
        _ => Style::new().red(),
    }
}

/// The attribution at one position.
pub fn as_json(attribution: &LensAttribution, column: usize) -> Value {
    let (id, text) = &attribution.tokens[column];
    let site = |(site, added): &(PolicySite, Vec<f32>)| json!({"site": site, "added": added[column]});
    json!({
        "token": {"id": id, "text": text},
        "logit": attribution.logits[column],
        "embedding": attribution.embedding[column],
        "sites": attribution.sites.iter().map(site).collect::<Vec<_>>(),
    })
}
