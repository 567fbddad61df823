//! Models of the Hugging Face Hub, fetched once and kept where Hugging Face keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Small files beside the weights, fetched where the repository has them.
const TEXT_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];
/// How often a download that breaks off is taken up again.
const RETRIES: usize = 3;

/// What can go wrong between here and the Hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not `org/name` or `org/name@revision`.
    #[error("`{0}` is not a Hub id; write org/name or org/name@revision")]
    Id(String),
    /// A setting of the environment cannot be used.
    #[error("{name} is `{value}`; {mend}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        mend: &'static str,
    },
    /// The Hub will not give the model to this user.
    #[error(
        "the Hub refuses {0}: it is private or gated; accept its terms on its page and set HF_TOKEN to a token that may read it"
    )]
    Refused(HubId),
    /// There is no such model or revision.
    #[error("there is no model {0} on the Hub (nor a folder of that name here); check the name and the revision")]
    NotFound(HubId),
    /// The Hub cannot be reached and the model is not kept here.
    #[error("cannot reach the Hub for {id} ({reason}), and it is not all in {}; give a model folder, or try again", cache.display())]
    Unreachable {
        /// The model.
        id: HubId,
        /// What failed.
        reason: String,
        /// Where it would be kept.
        cache: PathBuf,
    },
    /// Offline, and not all of it is here.
    #[error("HF_HUB_OFFLINE is set and {id} is not all in {}; unset it, or fetch the model first", cache.display())]
    Offline {
        /// The model.
        id: HubId,
        /// Where it would be kept.
        cache: PathBuf,
    },
    /// The model has no weights this project reads.
    #[error("{id} {reason}")]
    Weights {
        /// The model.
        id: HubId,
        /// What it has, and what it would need.
        reason: String,
    },
    /// A file could not be fetched or kept.
    #[error("cannot fetch {file} of {id}: {reason}")]
    File {
        /// The model.
        id: HubId,
        /// The file.
        file: String,
        /// What failed.
        reason: String,
    },
}

/// A model on the Hub: `org/name`, or `org/name@revision` with a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    name: String,
    revision: Option<String>,
}

/// Where and how models are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// The server.
    pub endpoint: String,
    /// For private and gated models.
    pub token: Option<String>,
    /// Nothing is asked of the network.
    pub offline: bool,
}

/// How much of a model is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Its config.
    Config,
    /// Config, tokenizer and chat template.
    Text,
    /// Everything.
    Model,
}

/// What is told while files are fetched.
pub trait FetchProgress {
    /// A file begins, of so many bytes.
    fn file(&mut self, name: &str, bytes: u64);
    /// So many bytes more of it are here.
    fn advance(&mut self, bytes: u64);
    /// It is here.
    fn done(&mut self);
}

impl HubSettings {
    /// As `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE` say.
    ///
    /// # Errors
    /// If the endpoint is no address, or there is no home folder.
    pub fn from_env() -> Result<Self, HubError> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = match (set("HF_HOME"), env::home_dir()) {
            (Some(home), _) => PathBuf::from(home),
            (None, Some(home)) => home.join(".cache").join("huggingface"),
            (None, None) => {
                let mend = "there is no home folder; set it to where models are to be kept";
                return Err(HubError::Setting { name: "HF_HOME", value: String::new(), mend });
            }
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let address = endpoint.strip_prefix("https://").or(endpoint.strip_prefix("http://")).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/[]".contains(c);
        if address.is_empty() || !address.chars().all(plain) {
            return Err(HubError::Setting {
                name: "HF_ENDPOINT",
                value: endpoint,
                mend: "it must be http:// or https:// and a server",
            });
        }
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let kept = fs::read_to_string(token_file).ok().map(|token| token.trim().to_string());
        Ok(Self {
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: set("HF_TOKEN").map(|token| token.trim().to_string()).or(kept).filter(|token| !token.is_empty()),
            offline: set("HF_HUB_OFFLINE")
                .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_ascii_lowercase().as_str())),
        })
    }
}

/// The folder of a model's files, fetched where they are not here yet. What is all here is not asked for again.
///
/// # Errors
/// If there is no such model, it may not be read, it has no safetensors weights, or a file cannot be fetched or kept.
pub fn fetch(
    id: &HubId,
    wanted: Wanted,
    settings: &HubSettings,
    progress: &mut dyn FetchProgress,
) -> Result<PathBuf, HubError> {
    if let Some(folder) = kept(id, wanted, settings) {
        return Ok(folder);
    }
    if settings.offline {
        return Err(HubError::Offline { id: id.clone(), cache: settings.cache.clone() });
    }
    Fetch::new(id, settings, progress)?.run(wanted)
}

/// The snapshot that is here, if all that is wanted of it is.
fn kept(id: &HubId, wanted: Wanted, settings: &HubSettings) -> Option<PathBuf> {
    let cache = Cache::new(settings.cache.clone());
    let revision = id.revision();
    let named = cache.repo(id.repo()).get(CONFIG).and_then(|path| path.parent().map(Path::to_path_buf));
    // A commit has no reference of its own where another program fetched it.
    let by_commit = cache.repo(id.repo()).pointer_path(revision);
    let folder = named.or(plain_name(revision).then_some(by_commit)).filter(|folder| folder.join(CONFIG).is_file())?;
    let there = |name: &str| folder.join(name).is_file();
    let whole = match wanted {
        Wanted::Config => true,
        Wanted::Text => there("tokenizer.json"),
        Wanted::Model => {
            let shards = fs::read(folder.join(INDEX)).ok().and_then(|index| shards(&index).ok());
            there("tokenizer.json")
                && (there(WEIGHTS) || shards.is_some_and(|names| names.iter().all(|name| there(name))))
        }
    };
    whole.then_some(folder)
}

/// One model being fetched.
struct Fetch<'a> {
    id: &'a HubId,
    settings: &'a HubSettings,
    progress: &'a mut dyn FetchProgress,
    api: Api,
    /// At the revision that was asked for.
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
        // The config comes last, so that a snapshot that has it has the rest.
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
        // They become names of files here.
        if !plain_name(metadata.etag()) || !plain_name(metadata.commit_hash()) {
            return Err(self.file_error(name, "the server names its contents in a way that cannot be kept".into()));
        }
        let blob = Cache::new(self.settings.cache.clone()).repo(self.id.repo()).blob_path(metadata.etag());
        let (part, size) = (blob.with_extension("part"), metadata.size() as u64);
        // A part that is as long as the whole cannot be taken up: there is nothing left to ask for.
        if fs::metadata(&part).is_ok_and(|part| part.len() >= size) {
            fs::remove_file(&part).map_err(|error| self.file_error(name, error.to_string()))?;
        }
        let bridge = Bridge(self.progress);
        let path = self.repo.download_with_progress(name, bridge).map_err(|error| self.failed(name, error))?;
        let length = fs::metadata(&path).map_err(|error| self.file_error(name, error.to_string()))?.len();
        if length != size {
            let removed = fs::remove_file(&path).and_then(|()| fs::remove_file(&blob));
            removed.map_err(|error| self.file_error(name, error.to_string()))?;
            return Err(self.file_error(name, format!("{length} of {size} bytes came; try again")));
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
                ureq::Error::StatusCode(code) => self.file_error(what, format!("the server answers {code}")),
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

/// hf-hub's progress, told on. It tells of a file anew when it takes it up again.
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
        Some(name) => Err(format!("it lists `{name}`, which is not the name of a safetensors file beside it")),
        None => Ok(names),
    }
}

/// Letters, digits and a few signs, not led by a dot: nothing that leads to another folder.
fn plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn is_pickled(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt"].iter().any(|ending| name.ends_with(ending))
}

impl HubId {
    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, self.revision().to_string())
    }
}

impl FromStr for HubId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::Id(text.to_string());
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        let (org, model) = name.split_once('/').ok_or_else(wrong)?;
        // Branches may have slashes: refs/pr/1.
        let revision_fits = revision.is_none_or(|revision| revision.split('/').all(plain_name));
        if plain_name(org) && plain_name(model) && revision_fits {
            Ok(Self { name: name.to_string(), revision: revision.map(str::to_string) })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
