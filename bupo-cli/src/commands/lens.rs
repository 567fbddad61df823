//! `bupo lens`

use std::fmt::Write as _;

use bupo_core::Norm;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_models::{DtypeChoice, LensSite, ModelFiles, TextTokenizer, lens};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use crate::args::LensArgs;
use crate::backend::{Job, resolve, run_on};
use crate::error::CliError;
use crate::files::check_writable;
use crate::model::{load_for_inference, model_files, warn_of_positions};

pub fn run(args: &LensArgs) -> Result<(), CliError> {
    if args.top == 0 {
        return Err(CliError::Message("--top is 0; it must be at least 1".into()));
    }
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    let device = resolve(args.model.device.device)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let tokenizer = TextTokenizer::load(&files)?;
    let ids = tokenizer.encode(&args.text)?;
    if ids.is_empty() {
        return Err(CliError::Message("the text has no tokens; give at least one character".into()));
    }
    warn_of_positions(&load_config(&files)?, ids.len());
    let norm = args.norm.norm;
    let job = Lens { files, dtype: args.model.dtype.dtype, ids: &ids, norm, top: args.top };
    let sites = run_on(device, job)?;
    match &args.json {
        Some(path) => {
            let out = json!({"norm": norm, "positions": positions(&ids, &sites, &tokenizer)?});
            write_atomically(path, format!("{out}\n").as_bytes())?;
        }
        None => out!("norm {norm}; entropy H in nats\n{}", table(&ids, &sites, &tokenizer)?),
    }
    Ok(())
}

struct Lens<'a> {
    files: ModelFiles,
    dtype: DtypeChoice,
    ids: &'a [u32],
    norm: Norm,
    top: usize,
}

impl Job for Lens<'_> {
    type Output = Vec<LensSite>;

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let model = load_for_inference::<B>(&self.files, self.dtype, device)?;
        Ok(lens(&model.decoder, self.ids, self.norm, self.top)?)
    }
}

/// A block per position: its token, then one line per policy.
fn table(ids: &[u32], sites: &[LensSite], tokenizer: &TextTokenizer) -> Result<String, CliError> {
    let names: Vec<String> = sites.iter().map(|site| site.site.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut table = String::new();
    for (position, id) in ids.iter().enumerate() {
        writeln!(table, "\n{} {:?}", position + 1, tokenizer.token_text(*id)?).map_err(format_error)?;
        for (name, site) in names.iter().zip(sites) {
            write!(table, "  {name:width$}  H {:>6.3} ", site.entropy[position]).map_err(format_error)?;
            for token in &site.top[position] {
                write!(table, "  {:?} {:.3}", tokenizer.token_text(token.token)?, token.prob).map_err(format_error)?;
            }
            table.push('\n');
        }
    }
    Ok(table)
}

fn format_error(error: std::fmt::Error) -> CliError {
    CliError::Message(error.to_string())
}

fn positions(ids: &[u32], sites: &[LensSite], tokenizer: &TextTokenizer) -> Result<Vec<Value>, CliError> {
    let token = |id: u32| -> Result<Value, CliError> { Ok(json!({"id": id, "text": tokenizer.token_text(id)?})) };
    let mut positions = Vec::with_capacity(ids.len());
    for (position, id) in ids.iter().enumerate() {
        let mut policies = Vec::with_capacity(sites.len());
        for site in sites {
            let mut top = Vec::with_capacity(site.top[position].len());
            for next in &site.top[position] {
                top.push(json!({"token": token(next.token)?, "prob": next.prob}));
            }
            policies.push(json!({"site": site.site, "entropy": site.entropy[position], "top": top}));
        }
        positions.push(json!({"position": position + 1, "token": token(*id)?, "sites": policies}));
    }
    Ok(positions)
}
