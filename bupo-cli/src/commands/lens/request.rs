//! What a lens reads, checked against the model and the text.

use bupo_core::PolicySite;
use bupo_models::{LensOptions, ModelConfig, TextTokenizer};

use crate::args::{LensArgs, NumberRange};
use crate::error::CliError;

/// Tokens per policy if `--top` is not given.
const TOP: usize = 5;

/// # Errors
/// If a layer or a position does not exist, `--token` is not one token, or `--top` is given for a printed attribution.
pub fn options(
    args: &LensArgs,
    config: &ModelConfig,
    tokenizer: &TextTokenizer,
    tokens: usize,
) -> Result<LensOptions, CliError> {
    if args.attribution && args.top.is_some() && is_on_screen(args) {
        return Err(CliError::Message(
            "a printed --attribution has no --top; remove it, or give --html or --json".into(),
        ));
    }
    let positions = match (&args.position[..], is_on_screen(args)) {
        ([], true) if args.token.is_some() => Some(vec![tokens - 1]),
        ([], true) if !is_list(args) => Some((tokens.saturating_sub(super::grid::most_columns())..tokens).collect()),
        ([], _) => None,
        (ranges, _) => {
            let mut positions = Vec::new();
            for range in ranges {
                check(*range, "--position", "the text has positions", tokens)?;
                positions.extend((range.first..=range.last).map(|position| position - 1));
            }
            positions.sort_unstable();
            positions.dedup();
            Some(positions)
        }
    };
    let token = args.token.as_deref().map(|text| followed(text, tokenizer)).transpose()?;
    let sites = Some(sites(args, config.num_hidden_layers)?);
    let top = if is_on_screen(args) && !is_list(args) { 1 } else { args.top.unwrap_or(TOP) };
    Ok(LensOptions { norm: args.norm.norm, top, sites, positions, token })
}

/// Whether the result is printed.
pub fn is_on_screen(args: &LensArgs) -> bool {
    args.html.is_none() && args.json.is_none()
}

/// Whether it is printed position by position.
pub fn is_list(args: &LensArgs) -> bool {
    args.list || (args.top.is_some() && args.token.is_none() && !args.attribution)
}

/// The sites of the chosen layers, and the full policy.
fn sites(args: &LensArgs, num_layers: usize) -> Result<Vec<PolicySite>, CliError> {
    let NumberRange { first, last } = args.layers.unwrap_or(NumberRange { first: 1, last: num_layers });
    check(NumberRange { first, last }, "--layers", "the model has layers", num_layers)?;
    let sites = (first..=last).flat_map(|layer| args.site.iter().map(move |site| site.of(layer)));
    Ok(sites.chain([PolicySite::Full]).collect())
}

fn check(range: NumberRange, option: &str, of: &str, last: usize) -> Result<(), CliError> {
    if range.last <= last {
        return Ok(());
    }
    Err(CliError::Message(format!("{option} has {}, but {of} 1 to {last}", range.last)))
}

/// The id of a text that is one token.
fn followed(text: &str, tokenizer: &TextTokenizer) -> Result<u32, CliError> {
    let ids = tokenizer.encode_rendered(text)?;
    if let [id] = ids[..] {
        return Ok(id);
    }
    let parts = ids.iter().map(|id| tokenizer.token_text(*id).map(|text| format!("{text:?}")));
    let parts = parts.collect::<Result<Vec<_>, _>>()?.join(" ");
    Err(CliError::Message(format!(
        "--token {text:?} is {} tokens ({parts}); give the text of one, with its space in front if it has one",
        ids.len()
    )))
}
