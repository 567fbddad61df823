//! One file a command.

pub mod generate;
pub mod replay;
pub mod trace;
pub mod train;
pub mod warmup;

use std::fs;
use std::path::Path;

use bupo_models::ModelFiles;

use crate::error::CliError;

/// The model inside the program, file by file.
const EMBEDDED: ModelFiles = ModelFiles::Embedded(&[
    ("config.json", include_bytes!("../../../models/arithmetic-1m/config.json")),
    ("generation_config.json", include_bytes!("../../../models/arithmetic-1m/generation_config.json")),
    ("tokenizer.json", include_bytes!("../../../models/arithmetic-1m/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../models/arithmetic-1m/tokenizer_config.json")),
    ("model.safetensors", include_bytes!("../../../models/arithmetic-1m/model.safetensors")),
]);

/// A model folder, or the model inside the program.
fn model_files(folder: Option<&Path>) -> Result<ModelFiles, CliError> {
    Ok(folder.map_or(Ok(EMBEDDED), ModelFiles::folder)?)
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
