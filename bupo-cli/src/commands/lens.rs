//! `bupo lens`

mod attribution;
mod grid;
mod request;

use std::fmt::Write as _;

use bupo_core::Norm;
use bupo_models::pretrained::hub::Wanted;
use bupo_models::pretrained::load_config;
use bupo_models::{
    Attribution, DtypeChoice, LensOptions, LensSite, ModelError, ModelFiles, TextTokenizer, attribution as attribute,
    lens,
};
use bupo_report::{LensCell, LensGrid, LensPosition, LensRow, LensToken, lens_page};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;
use serde_json::{Value, json};

use crate::args::LensArgs;
use crate::backend::{Job, resolve, run_on};
use crate::chat::TextInput;
use crate::embedded::EMBEDDED_NAME;
use crate::error::{CliError, at_least_one};
use crate::files::check_writable;
use crate::model::{Attached, load_for_inference, model_files, model_title, warn_of_positions};

pub fn run(args: &LensArgs) -> Result<(), CliError> {
    at_least_one(&[("--top", args.top)])?;
    for path in args.json.iter().chain(&args.html) {
        check_writable(path)?;
    }
    let device = resolve(args.model.device.device)?;
    let files = model_files(args.model.model.as_deref(), Wanted::Model)?;
    let tokenizer = TextTokenizer::load(&files)?;
    let input = TextInput::open(&args.chat, &files)?;
    let encoded = input.encode(&tokenizer, std::slice::from_ref(&args.text))?;
    let ids = encoded.into_iter().next().map(|encoded| encoded.tokens).unwrap_or_default();
    if ids.is_empty() {
        return Err(CliError::Message("the text has no tokens; give at least one character".into()));
    }
    let config = load_config(&files)?;
    let options = request::options(args, &config, &tokenizer, ids.len())?;
    warn_of_positions(&config, ids.len());
    input.warn()?;
    let attached =
        Attached::open(&args.model.adapter, &args.norm, options.sites.as_deref().unwrap_or_default(), &files)?;
    let dtype = args.model.dtype.dtype;
    let job = Lens { files, attached, dtype, ids: &ids, options: &options, is_attributed: args.attribution };
    let read = run_on(device, job)?;
    let attribution =
        read.attribution.map(|read| attribution::named(read, options.sites.as_deref().unwrap_or_default(), &tokenizer));
    let grid = LensGrid { attribution: attribution.transpose()?, ..grid(&ids, &read.sites, &options, &tokenizer)? };
    if let Some(path) = &args.json {
        write_atomically(path, format!("{}\n", as_json(args, &options, &grid)).as_bytes())?;
    }
    if let Some(path) = &args.html {
        let model = args.model.model.as_deref().map_or_else(|| EMBEDDED_NAME.to_string(), model_title);
        let title = format!("Next tokens by layer: {model}");
        write_atomically(path, lens_page(&title, about(options.norm), &grid)?.as_bytes())?;
        outln!("page         {}", path.display());
    }
    if request::is_on_screen(args) {
        print(args, &options, &grid)?;
    }
    Ok(())
}

struct Lens<'a> {
    files: ModelFiles,
    attached: Attached,
    dtype: DtypeChoice,
    ids: &'a [u32],
    options: &'a LensOptions,
    is_attributed: bool,
}

struct Read {
    sites: Vec<LensSite>,
    attribution: Option<Attribution>,
}

impl Job for Lens<'_> {
    type Output = Read;

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError> {
        let model = load_for_inference::<B>(&self.files, &self.attached, self.dtype, device)?;
        let sites = lens(&model.decoder, self.ids, self.options)?;
        let LensOptions { positions, token, .. } = self.options;
        let attributed = || attribute(&model.decoder, self.ids, positions.as_deref(), *token);
        let attribution = self.is_attributed.then(attributed).transpose()?;
        Ok(Read { sites, attribution })
    }
}

/// The sites with the texts of their tokens.
fn grid(
    ids: &[u32],
    sites: &[LensSite],
    options: &LensOptions,
    tokenizer: &TextTokenizer,
) -> Result<LensGrid, ModelError> {
    let read = options.positions.clone().unwrap_or_else(|| (0..ids.len()).collect());
    let position = |index: &usize| {
        Ok(LensPosition { number: index + 1, id: ids[*index], text: tokenizer.token_text(ids[*index])? })
    };
    let mut rows = Vec::with_capacity(sites.len());
    for site in sites {
        let mut cells = Vec::with_capacity(read.len());
        for (column, top) in site.top.iter().enumerate() {
            let token = |token: &bupo_core::TokenProb| {
                Ok(LensToken { id: token.token, text: tokenizer.token_text(token.token)?, prob: token.prob })
            };
            cells.push(LensCell {
                entropy: site.entropy[column],
                top: top.iter().map(token).collect::<Result<_, ModelError>>()?,
                followed: site.followed.as_ref().map(|places| places[column]),
            });
        }
        rows.push(LensRow { site: site.site, cells });
    }
    let positions = read.iter().map(position).collect::<Result<_, ModelError>>()?;
    Ok(LensGrid { positions, rows, attribution: None })
}

fn print(args: &LensArgs, options: &LensOptions, grid: &LensGrid) -> Result<(), CliError> {
    if let Some(attribution) = &grid.attribution {
        outln!(
            "what each row added to the logit of the token after the arrow; the final norm's scale is the full policy's"
        );
        attribution::print(grid, attribution, !args.position.is_empty() || args.token.is_some());
        return Ok(());
    }
    outln!("{}", about(options.norm));
    match &args.token {
        Some(token) => grid::print_followed(grid, token),
        None if request::is_list(args) => out!("entropy H in nats\n{}", list(grid).map_err(format_error)?),
        None => {
            outln!("the most probable next token at each position, and its probability in percent");
            grid::print_grid(grid, !args.position.is_empty());
        }
    }
    Ok(())
}

/// One line about the norm and the other choice.
fn about(norm: Norm) -> &'static str {
    match norm {
        Norm::Final => "norm final (logit lens): states pass the final norm; none: raw, as in the paper",
        Norm::Tuned => {
            "norm tuned (tuned lens): states of layers pass a fitted map, then the final norm; final: the norm alone"
        }
        Norm::None => "norm none: raw states, as in the paper; final (logit lens): after the final norm",
    }
}

/// A block per position: its token, then one line per policy.
fn list(grid: &LensGrid) -> Result<String, std::fmt::Error> {
    let names: Vec<String> = grid.rows.iter().map(|row| row.site.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut list = String::new();
    for (column, position) in grid.positions.iter().enumerate() {
        writeln!(list, "\n{} {:?}", position.number, position.text)?;
        for (name, row) in names.iter().zip(&grid.rows) {
            let cell = &row.cells[column];
            write!(list, "  {name:width$}  H {:>6.3} ", cell.entropy)?;
            for token in &cell.top {
                write!(list, "  {:?} {:.3}", token.text, token.prob)?;
            }
            list.push('\n');
        }
    }
    Ok(list)
}

fn format_error(error: std::fmt::Error) -> CliError {
    CliError::Message(error.to_string())
}

fn as_json(args: &LensArgs, options: &LensOptions, grid: &LensGrid) -> Value {
    let site = |row: &LensRow, column: usize| {
        let cell = &row.cells[column];
        let token = |token: &LensToken| json!({"token": {"id": token.id, "text": token.text}, "prob": token.prob});
        let top: Vec<Value> = cell.top.iter().map(token).collect();
        let mut site = json!({"site": row.site, "entropy": cell.entropy, "top": top});
        if let Some(place) = cell.followed {
            site["followed"] = json!({"rank": place.rank, "logit": place.logit, "prob": place.prob});
        }
        site
    };
    let position = |(column, position): (usize, &LensPosition)| {
        let mut json = json!({
            "position": position.number,
            "token": {"id": position.id, "text": position.text},
            "sites": grid.rows.iter().map(|row| site(row, column)).collect::<Vec<_>>(),
        });
        if let Some(attribution) = &grid.attribution {
            json["attribution"] = attribution::as_json(attribution, column);
        }
        json
    };
    let positions: Vec<Value> = grid.positions.iter().enumerate().map(position).collect();
    let mut json = json!({"norm": options.norm, "positions": positions});
    if let (Some(id), Some(text)) = (options.token, &args.token) {
        json["followed"] = json!({"id": id, "text": text});
    }
    json
}
