//! One file a command.

pub mod analyze;
pub mod bench;
pub mod config;
pub mod data;
pub mod devices;
pub mod eval;
pub mod generate;
pub mod grade;
pub mod lens;
pub mod pretrain;
pub mod replay;
pub mod report;
pub mod runs;
pub mod trace;
pub mod train;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bupo_data::Columns;
use bupo_eval::PromptOptions;
use bupo_models::pretrained::hub::{HubId, HubSettings, Wanted, fetch};
use bupo_models::{DtypeChoice, LoadedModel, ModelError, ModelFiles, load_model};
use bupo_report::{Report, ReportError};
use bupo_runs::write_atomically;
use burn::tensor::backend::Backend;

use crate::args::PromptArgs;
use crate::error::CliError;
use crate::screen::FetchScreen;

/// The model inside the program, file by file.
const EMBEDDED: ModelFiles = ModelFiles::Embedded(&[
    ("config.json", include_bytes!("../../../models/arithmetic-1m/config.json")),
    ("generation_config.json", include_bytes!("../../../models/arithmetic-1m/generation_config.json")),
    ("tokenizer.json", include_bytes!("../../../models/arithmetic-1m/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../models/arithmetic-1m/tokenizer_config.json")),
    ("model.safetensors", include_bytes!("../../../models/arithmetic-1m/model.safetensors")),
]);

/// A model folder, a model of the Hub, as much of it fetched as is wanted, or the model inside the program.
fn model_files(model: Option<&str>, wanted: Wanted) -> Result<ModelFiles, CliError> {
    let Some(model) = model else { return Ok(EMBEDDED) };
    let folder = Path::new(model);
    if folder.exists() {
        return Ok(ModelFiles::folder(folder)?);
    }
    // What does not look like a Hub id was meant as a folder.
    let Ok(id) = model.parse::<HubId>() else { return Ok(ModelFiles::folder(folder)?) };
    let settings = HubSettings::from_env().map_err(ModelError::from)?;
    let fetched = fetch(&id, wanted, &settings, &mut FetchScreen::default()).map_err(ModelError::from)?;
    Ok(ModelFiles::folder(&fetched)?)
}

/// Loads a model that is looked at and not trained: its layers are kept in the dtype they compute in alone.
fn load_to_read<B: Backend>(
    files: &ModelFiles,
    dtype: DtypeChoice,
    device: &B::Device,
) -> Result<LoadedModel<B>, CliError> {
    let dtype = dtype.for_model::<B>(files, device)?;
    let model = load_model::<B>(files, device)?;
    Ok(LoadedModel { decoder: model.decoder.with_compute_dtype(dtype).cast_weights(), ..model })
}

/// How rows of data files become prompts, by the command line.
fn prompt_options(args: &PromptArgs) -> PromptOptions {
    PromptOptions {
        columns: Columns {
            prompt: args.prompt_column.clone(),
            answer: args.answer_column.clone(),
            data_source: args.source_column.clone(),
        },
        max_prompt_tokens: args.max_prompt_tokens,
        overlong: args.overlong.into(),
    }
}

/// The first of `runs/NAME-1`, `runs/NAME-2`, ... that is not there.
fn free_folder(name: &str) -> PathBuf {
    let numbered = |number: usize| Path::new("runs").join(format!("{name}-{number}"));
    (1..).map(numbered).find(|folder| !folder.exists()).unwrap_or_else(|| numbered(0))
}

/// Reads `[[id, ...], ...]`.
fn read_tokens(path: &Path) -> Result<Vec<Vec<u32>>, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::Message(format!("{}: not rows of token ids, [[id, ...], ...]: {error}", path.display()))
    })
}

/// Checks before long work that a file can be written: what stands there must be a plain file, and its folder must
/// exist.
fn check_writable(path: &Path) -> Result<(), CliError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.exists() && !path.is_file() {
        return Err(CliError::Message(format!(
            "{} is not a plain file; give the name of a file to write",
            path.display()
        )));
    }
    if !parent.is_dir() {
        return Err(CliError::Message(format!("{}: there is no folder {}", path.display(), parent.display())));
    }
    // A file beside it, so that what stands there already is not touched before there is something to put there.
    tempfile::NamedTempFile::new_in(parent).map(drop).map_err(CliError::io("write", path))
}

/// Writes a report's pictures as SVG and PNG.
fn write_pictures(report: &Report, folder: &Path) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::io("create", folder))?;
    for picture in report.pictures() {
        write_atomically(&folder.join(format!("{}.svg", picture.name)), picture.chart.svg().as_bytes())?;
        write_atomically(
            &folder.join(format!("{}.png", picture.name)),
            &picture.chart.png().map_err(ReportError::from)?,
        )?;
    }
    Ok(())
}

/// Set by the first Ctrl-C or SIGTERM; the second ends the program.
fn stop_on_interrupt(kept: &'static str) -> Result<Arc<AtomicBool>, CliError> {
    const INTERRUPTED: i32 = 130;
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if heard.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        eprintln!("stopping: {kept}; Ctrl-C again stops at once");
    })
    .map_err(|error| CliError::Message(format!("Ctrl-C cannot be listened for: {error}")))?;
    Ok(stop)
}
