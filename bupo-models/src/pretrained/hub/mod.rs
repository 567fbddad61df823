//! Models of the Hugging Face Hub, downloaded once into the cache of Hugging Face.

mod settings;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use serde::Deserialize;

pub use settings::HubSettings;
use types::plain_name;
pub use types::{HubError, HubId};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Small files other than weights, downloaded if the repository has them.
const TEXT_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];
/// How often an interrupted download is resumed.
const RETRIES: usize = 3;

/// The files of a model to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The config.
    Config,
    /// Config, tokenizer and chat template.
    Text,
    /// Config, tokenizer, chat template and weights.
    Model,
}

/// Reports of the progress of downloads.
pub trait FetchProgress {
    /// A file of `bytes` bytes starts, or is resumed.
    fn file(&mut self, name: &str, bytes: u64);
    /// `bytes` more bytes have arrived.
    fn advance(&mut self, bytes: u64);
    /// The file is complete.
    fn done(&mut self);
}

/// The folder of a model's files in the cache; files that are missing there are downloaded. Without missing files the
/// network is not used.
///
/// # Errors
/// If the model does not exist, access is denied, it has no safetensors weights, or a file cannot be downloaded or
/// stored.
pub fn fetch(
    id: &HubId,
    wanted: Wanted,
    settings: &HubSettings,
    progress: &mut dyn FetchProgress,
) -> Result<PathBuf, HubError> {
    if let Some(folder) = cached(id, wanted, settings) {
        return Ok(folder);
    }
    if settings.offline {
        return Err(HubError::Offline { id: id.clone(), cache: settings.cache.clone() });
    }
    Fetch::new(id, settings, progress)?.run(wanted)
}

/// The cached snapshot, if it has all wanted files.
fn cached(id: &HubId, wanted: Wanted, settings: &HubSettings) -> Option<PathBuf> {
    let cache = Cache::new(settings.cache.clone());
    let revision = id.revision();
    let named = cache.repo(id.repo()).get(CONFIG).and_then(|path| path.parent().map(Path::to_path_buf));
    // A commit that another program downloaded has no reference of its own.
    let by_commit = cache.repo(id.repo()).pointer_path(revision);
    let folder = named.or(plain_name(revision).then_some(by_commit)).filter(|folder| folder.join(CONFIG).is_file())?;
    let has = |name: &str| folder.join(name).is_file();
    let complete = match wanted {
        Wanted::Config => true,
        Wanted::Text => has("tokenizer.json"),
        Wanted::Model => {
            let shards = fs::read(folder.join(INDEX)).ok().and_then(|index| shards(&index).ok());
            has("tokenizer.json") && (has(WEIGHTS) || shards.is_some_and(|names| names.iter().all(|name| has(name))))
        }
    };
    complete.then_some(folder)
}

/// The download of one model.
struct Fetch<'a> {
    id: &'a HubId,
    settings: &'a HubSettings,
    progress: &'a mut dyn FetchProgress,
    api: Api,
    /// At the requested revision.
    repo: ApiRepo,
}

impl<'a> Fetch<'a> {
    fn new(id: &'a HubId, settings: &'a HubSettings, progress: &'a mut dyn FetchProgress) -> Result<Self, HubError> {
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_retries(RETRIES)
            .with_progress(false)
            .build()
            .map_err(|error| HubError::File { id: id.clone(), file: CONFIG.into(), reason: error.to_string() })?;
        Ok(Self { id, settings, progress, repo: api.repo(id.repo()), api })
    }

    fn run(&mut self, wanted: Wanted) -> Result<PathBuf, HubError> {
        let info = self.repo.info().map_err(|error| self.failed("its list of files", error))?;
        let has = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
        if !has(CONFIG) {
            return Err(self.weights("has no config.json, so it is not a model that transformers loads"));
        }
        let mut names: Vec<&str> = vec![CONFIG];
        if wanted != Wanted::Config {
            names.extend(TEXT_FILES.into_iter().filter(|name| has(name)));
        }
        if wanted == Wanted::Model {
            let weights = [WEIGHTS, INDEX].into_iter().find(|name| has(name));
            let pickled = info.siblings.iter().map(|file| &file.rfilename).find(|name| is_pickled(name));
            names.extend(["generation_config.json"].into_iter().filter(|name| has(name)));
            names.push(weights.ok_or_else(|| match pickled {
                Some(name) => self.weights(&format!(
                    "has {name} but no safetensors; pickled weights can run code and are not read: look for a revision with \
                     safetensors, or load it with transformers and save it again"
                )),
                None => self.weights("has no safetensors weights"),
            })?);
        }
        // The config is downloaded last, so that a snapshot with a config is complete.
        let mut folder = PathBuf::new();
        for name in names.iter().rev() {
            let path = self.file(name)?;
            if *name == INDEX {
                let index = fs::read(&path).map_err(|error| self.file_error(name, error.to_string()))?;
                for shard in shards(&index).map_err(|reason| self.file_error(name, reason))? {
                    self.file(&shard)?;
                }
            }
            folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        }
        Ok(folder)
    }

    fn file(&mut self, name: &str) -> Result<PathBuf, HubError> {
        if let Some(path) = Cache::new(self.settings.cache.clone()).repo(self.id.repo()).get(name) {
            return Ok(path);
        }
        let metadata = self.api.metadata(&self.repo.url(name)).map_err(|error| self.failed(name, error))?;
        // They become file names in the cache.
        if !plain_name(metadata.etag()) || !plain_name(metadata.commit_hash()) {
            return Err(self.file_error(
                name,
                "the server's ETag or commit is not a plain name and cannot be kept as a file name".into(),
            ));
        }
        let blob = Cache::new(self.settings.cache.clone()).repo(self.id.repo()).blob_path(metadata.etag());
        let (part, size) = (blob.with_extension("part"), metadata.size() as u64);
        // A partial file of full length cannot be resumed: no bytes are left to request.
        if fs::metadata(&part).is_ok_and(|part| part.len() >= size) {
            fs::remove_file(&part).map_err(|error| self.file_error(name, error.to_string()))?;
        }
        let bridge = Bridge(self.progress);
        let path = self.repo.download_with_progress(name, bridge).map_err(|error| self.failed(name, error))?;
        let length = fs::metadata(&path).map_err(|error| self.file_error(name, error.to_string()))?.len();
        if length != size {
            let removed = fs::remove_file(&path).and_then(|()| fs::remove_file(&blob));
            removed.map_err(|error| self.file_error(name, error.to_string()))?;
            return Err(self.file_error(name, format!("{length} of {size} bytes arrived; try again")));
        }
        Ok(path)
    }

    fn failed(&self, what: &str, error: ApiError) -> HubError {
        let unreachable =
            |reason: String| HubError::Unreachable { id: self.id.clone(), reason, cache: self.settings.cache.clone() };
        match error {
            ApiError::TooManyRetries(error) => self.failed(what, *error),
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(401 | 403) => HubError::Refused(self.id.clone()),
                ureq::Error::StatusCode(404) => HubError::NotFound(self.id.clone()),
                ureq::Error::StatusCode(code) => {
                    self.file_error(what, format!("the server answered with status {code}"))
                }
                other => unreachable(other.to_string()),
            },
            ApiError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                unreachable("the connection broke off".into())
            }
            other => self.file_error(what, other.to_string()),
        }
    }

    fn file_error(&self, file: &str, reason: String) -> HubError {
        HubError::File { id: self.id.clone(), file: file.into(), reason }
    }

    fn weights(&self, reason: &str) -> HubError {
        HubError::Weights { id: self.id.clone(), reason: reason.into() }
    }
}

/// Forwards hf-hub's progress.
struct Bridge<'a>(&'a mut dyn FetchProgress);

impl hf_hub::api::Progress for Bridge<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        self.0.file(filename, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.0.advance(size as u64);
    }

    fn finish(&mut self) {
        self.0.done();
    }
}

/// The names of the shards an index lists.
fn shards(index: &[u8]) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|name| !plain_name(name) || !name.ends_with(".safetensors")) {
        Some(name) => Err(format!("it lists `{name}`, which is not the name of a safetensors file in the same folder")),
        None => Ok(names),
    }
}

fn is_pickled(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt"].iter().any(|ending| name.ends_with(ending))
}
