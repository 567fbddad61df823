//! Checksums of a run's input files, so that a run is resumed with the files it was started with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bupo_data::describe;
use bupo_eval::ChatChoice;
use bupo_grade::Rule;
use bupo_models::adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use bupo_models::{ModelFiles, TunedLens};
use bupo_runs::digest;
use serde::{Deserialize, Serialize};

use crate::RlError;
use crate::config::TrainConfig;

/// Files of a model that determine prompts, tokens and the decoder.
const MODEL_FILES: [&str; 5] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/// The input files of a run by what they are: `data file FILE`, `scorer FILE`, `chat template FILE`, `model file NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Inputs(BTreeMap<String, InputFile>);

/// An input file's size and checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InputFile {
    /// Rows of a data file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    bytes: u64,
    /// SHA-256 of the file; of weights, of their header alone.
    sha256: String,
}

impl Inputs {
    /// Reads the files that a run names: data, scorers, a chat template, and the model's files.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn read(config: &TrainConfig, files: &ModelFiles) -> Result<Self, RlError> {
        let mut inputs = BTreeMap::new();
        let benchmarks = config.evaluation.benchmarks.iter().map(|benchmark| &benchmark.file);
        for path in config.data.train.iter().chain(&config.data.validation).chain(benchmarks) {
            let rows = Some(describe(path)?.rows);
            inputs.insert(format!("data file {}", path.display()), InputFile { rows, ..checksum(path)? });
        }
        if let ChatChoice::File(path) = &config.data.chat_template {
            inputs.insert(format!("chat template {}", path.display()), checksum(path)?);
        }
        for path in
            config.adapter.iter().flat_map(|folder| [ADAPTER_CONFIG, ADAPTER_WEIGHTS].map(|name| folder.join(name)))
        {
            inputs.insert(format!("adapter file {}", path.display()), checksum(&path)?);
        }
        if config.has_tuned_norm() {
            let (path, bytes) = TunedLens::bytes(config.tuned_lens.as_deref(), files)?;
            inputs.insert(format!("tuned lens {}", path.display()), digest_of(&mut bytes.as_slice(), &path)?);
        }
        for path in scorer_files(config) {
            inputs.insert(format!("scorer {}", path.display()), checksum(&path)?);
        }
        for name in MODEL_FILES.into_iter().filter(|name| files.has(name)) {
            let bytes = files.bytes(name)?;
            inputs.insert(format!("model file {name}"), digest_of(&mut bytes.as_slice(), &files.path(name))?);
        }
        if let ModelFiles::Folder(folder) = files {
            for path in weight_files(folder)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                inputs.insert(format!("model file {name}"), header_checksum(&path)?);
            }
        }
        Ok(Self(inputs))
    }

    /// Compares with the inputs of a checkpoint. Checkpoints of earlier versions have none and pass.
    ///
    /// # Errors
    /// Names the first file that is missing, new or different.
    pub(crate) fn check(&self, saved: &Self) -> Result<(), RlError> {
        if saved.0.is_empty() {
            return Ok(());
        }
        for name in saved.0.keys().chain(self.0.keys()) {
            let difference = match (saved.0.get(name), self.0.get(name)) {
                (Some(saved), Some(now)) if saved == now => continue,
                (Some(InputFile { rows: Some(saved), .. }), Some(InputFile { rows: Some(now), .. }))
                    if saved != now =>
                {
                    format!("it has {now} rows, not {saved}")
                }
                (Some(saved), Some(now)) if saved.bytes != now.bytes => {
                    format!("it has {} bytes, not {}", now.bytes, saved.bytes)
                }
                (Some(_), Some(_)) => "its checksum differs".to_string(),
                (Some(_), None) => "it is missing".to_string(),
                (None, _) => "it is new".to_string(),
            };
            return Err(RlError::Config(format!(
                "{name} is not the one that the run was started with: {difference}; restore it, or start a new run from the \
                 checkpoint with --fork"
            )));
        }
        Ok(())
    }
}

impl Inputs {
    /// The first file that others have differently, scorers aside: their programs may differ between machines.
    pub(crate) fn difference<'a>(&'a self, others: &'a Self) -> Option<&'a str> {
        let names = self.0.keys().chain(others.0.keys()).filter(|name| !name.starts_with("scorer "));
        names.map(String::as_str).find(|name| self.0.get(*name) != others.0.get(*name))
    }
}

/// The files that scorer commands name: the program, looked up in `PATH` if it has no slash, and arguments that are files.
fn scorer_files(config: &TrainConfig) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for rule in config.reward.rules() {
        if let Rule::Command(command) = rule {
            let mut words = command.split_whitespace();
            files.extend(words.next().and_then(program));
            files.extend(words.map(PathBuf::from).filter(|path| path.is_file()));
        }
    }
    files
}

fn program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, RlError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(RlError::io("read", folder))? {
        let path = entry.map_err(RlError::io("read", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn checksum(path: &Path) -> Result<InputFile, RlError> {
    digest_of(&mut File::open(path).map_err(RlError::io("read", path))?, path)
}

/// The checksum of a safetensors file's header (names, shapes, dtypes, places), and the size of the whole file.
fn header_checksum(path: &Path) -> Result<InputFile, RlError> {
    let mut file = File::open(path).map_err(RlError::io("read", path))?;
    let bytes = file.metadata().map_err(RlError::io("read", path))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(RlError::io("read", path))?;
    Ok(InputFile { bytes, ..digest_of(&mut file.take(u64::from_le_bytes(length)), path)? })
}

fn digest_of(reader: &mut impl Read, path: &Path) -> Result<InputFile, RlError> {
    let (bytes, sha256) = digest(reader).map_err(RlError::io("read", path))?;
    Ok(InputFile { rows: None, bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bupo_grade::Reward;

    use super::*;

    const CONFIG: &str = "{}";

    /// A safetensors file: the header's length, the header, and data.
    fn weights(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn a_change_of_any_kind_of_input_is_refused_by_name() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let rows = "{\"prompt\": \"1\", \"answer\": \"1\"}\n".repeat(3);
        let files: [(&str, Vec<u8>, Vec<u8>, &str); 7] = [
            ("rows.jsonl", rows.clone().into(), rows.repeat(2).into(), "6 rows, not 3"),
            ("template.jinja", b"{{ a }}".into(), b"{{ b }}".into(), "checksum differs"),
            ("score.py", b"print(1)".into(), b"print(10)".into(), "9 bytes, not 8"),
            ("words.txt", b"a".into(), b"b".into(), "checksum differs"),
            ("config.json", CONFIG.into(), b"[]".into(), "checksum differs"),
            ("tokenizer.json", b"x".into(), b"y".into(), "checksum differs"),
            ("model.safetensors", weights("{a}", &[0; 4]), weights("{b}", &[0; 4]), "checksum differs"),
        ];
        for (name, content, ..) in &files {
            fs::write(path(name), content)?;
        }
        let mut config = TrainConfig::default();
        config.data.train = vec![path("rows.jsonl")];
        config.data.chat_template = ChatChoice::File(path("template.jinja"));
        let command = format!("{} {} --strict", path("score.py").display(), path("words.txt").display());
        config.reward.rule = Reward::Rule(Rule::Command(command));
        let read = || Inputs::read(&config, &ModelFiles::folder(folder.path())?);
        let saved = read()?;
        saved.check(&saved)?;
        for (name, content, changed, expected) in &files {
            fs::write(path(name), changed)?;
            let error = read()?.check(&saved).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(name) && error.contains(expected), "{name}: {error}");
            fs::write(path(name), content)?;
        }
        // Only the header of weights is read: checksums of whole checkpoints would take minutes.
        fs::write(path("model.safetensors"), weights("{a}", &[1; 4]))?;
        read()?.check(&saved)?;
        fs::remove_file(path("words.txt"))?;
        let error = read()?.check(&saved).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("words.txt") && error.contains("missing"), "{error}");
        Ok(())
    }
}
