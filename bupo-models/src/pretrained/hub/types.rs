//! Ids of models on the Hub, and the errors of downloading them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hf_hub::{Repo, RepoType};

/// A model on the Hub: `org/name`, or `org/name@revision` with a branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    name: String,
    revision: Option<String>,
}

/// Errors of downloading a model from the Hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not `org/name` or `org/name@revision`.
    #[error("`{0}` is not a Hub id; write org/name or org/name@revision")]
    Id(String),
    /// An environment variable has a value that cannot be used.
    #[error("{name} is `{value}`; {fix}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        fix: &'static str,
    },
    /// The Hub denies access to the model.
    #[error(
        "the Hub refuses {0}: it is private or gated; accept its terms on its page and set HF_TOKEN to a token that may read it"
    )]
    Refused(HubId),
    /// There is no such model or revision.
    #[error("there is no model {0} on the Hub (nor a folder of that name here); check the name and the revision")]
    NotFound(HubId),
    /// The Hub cannot be reached, and the model is not in the cache.
    #[error("cannot reach the Hub for {id} ({reason}), and {} does not have all of it; give a model folder, or try again", cache.display())]
    Unreachable {
        /// The model.
        id: HubId,
        /// What failed.
        reason: String,
        /// The cache.
        cache: PathBuf,
    },
    /// Offline, and the model is not in the cache.
    #[error("HF_HUB_OFFLINE is set and {} does not have all of {id}; unset it, or download the model first", cache.display())]
    Offline {
        /// The model.
        id: HubId,
        /// The cache.
        cache: PathBuf,
    },
    /// The model has no safetensors weights or no config.
    #[error("{id} {reason}")]
    Weights {
        /// The model.
        id: HubId,
        /// What is missing, and how to fix it.
        reason: String,
    },
    /// A file could not be downloaded or stored.
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

impl HubId {
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    pub(super) fn repo(&self) -> Repo {
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

/// Whether a name has only letters, digits and `._-`, with no dot first, so that it cannot lead to another folder.
pub(super) fn plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
