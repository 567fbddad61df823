//! `bupo lens`

use std::fmt::Write as _;

use bupo_models::pretrained::hub::Wanted;
use bupo_models::{LensSite, TextTokenizer, lens};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use super::{check_writable, load_to_read, model_files};
use crate::args::LensArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;

pub fn run(args: LensArgs) -> Result<(), CliError> {
    if args.top == 0 {
        return Err(CliError::Message("--top is 0; it must be at least 1".into()));
    }
    args.json.as_deref().map_or(Ok(()), check_writable)?;
    run_on(args.model.device.device, Lens(args))
}

struct Lens(LensArgs);

impl Job for Lens {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
        let tokenizer = TextTokenizer::load(&files)?;
        let ids = tokenizer.encode(&args.text)?;
        if ids.is_empty() {
            return Err(CliError::Message("the text has no tokens; give at least a character".into()));
        }
        let model = load_to_read::<B>(&files, args.model.dtype.dtype, device)?;
        let sites = lens(&model.decoder, &ids, args.norm, args.top)?;
        match &args.json {
            Some(path) => {
                let out = json!({"norm": args.norm, "positions": positions(&ids, &sites, &tokenizer)?});
                Ok(write_atomically(path, format!("{out}\n").as_bytes())?)
            }
            None => {
                out!("norm {}; entropy H in nats\n{}", args.norm, page(&ids, &sites, &tokenizer)?);
                Ok(())
            }
        }
    }
}

/// A block for each place: its token, then a line for each site.
fn page(ids: &[u32], sites: &[LensSite], tokenizer: &TextTokenizer) -> Result<String, CliError> {
    let names: Vec<String> = sites.iter().map(|site| site.site.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut page = String::new();
    for (place, id) in ids.iter().enumerate() {
        writeln!(page, "\n{} {:?}", place + 1, tokenizer.token_text(*id)?).map_err(unwritten)?;
        for (name, site) in names.iter().zip(sites) {
            write!(page, "  {name:width$}  H {:>6.3} ", site.entropy[place]).map_err(unwritten)?;
            for token in &site.top[place] {
                write!(page, "  {:?} {:.3}", tokenizer.token_text(token.token)?, token.prob).map_err(unwritten)?;
            }
            page.push('\n');
        }
    }
    Ok(page)
}

fn unwritten(error: std::fmt::Error) -> CliError {
    CliError::Message(error.to_string())
}

fn positions(ids: &[u32], sites: &[LensSite], tokenizer: &TextTokenizer) -> Result<Vec<Value>, CliError> {
    let token = |id: u32| -> Result<Value, CliError> { Ok(json!({"id": id, "text": tokenizer.token_text(id)?})) };
    let mut positions = Vec::with_capacity(ids.len());
    for (place, id) in ids.iter().enumerate() {
        let mut said = Vec::with_capacity(sites.len());
        for site in sites {
            let mut top = Vec::with_capacity(site.top[place].len());
            for next in &site.top[place] {
                top.push(json!({"token": token(next.token)?, "prob": next.prob}));
            }
            said.push(json!({"site": site.site, "entropy": site.entropy[place], "top": top}));
        }
        positions.push(json!({"position": place + 1, "token": token(*id)?, "sites": said}));
    }
    Ok(positions)
}
