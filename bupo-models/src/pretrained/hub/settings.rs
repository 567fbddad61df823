//! Settings of downloads, from the environment.

use std::env;
use std::fs;
use std::path::PathBuf;

use super::types::HubError;

/// The cache and the server of downloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// The server.
    pub endpoint: String,
    /// For private and gated models.
    pub token: Option<String>,
    /// Use the cache only, never the network.
    pub offline: bool,
}

impl HubSettings {
    /// The settings of `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// If the endpoint is not an address, or there is no home folder.
    pub fn from_env() -> Result<Self, HubError> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = match (set("HF_HOME"), env::home_dir()) {
            (Some(home), _) => PathBuf::from(home),
            (None, Some(home)) => home.join(".cache").join("huggingface"),
            (None, None) => {
                let fix = "there is no home folder; set it to the folder for downloaded models";
                return Err(HubError::Setting { name: "HF_HOME", value: String::new(), fix });
            }
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let address = endpoint.strip_prefix("https://").or(endpoint.strip_prefix("http://")).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/[]".contains(c);
        if address.is_empty() || !address.chars().all(plain) {
            return Err(HubError::Setting {
                name: "HF_ENDPOINT",
                value: endpoint,
                fix: "it must be http:// or https:// followed by a server",
            });
        }
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let stored = fs::read_to_string(token_file).ok().map(|token| token.trim().to_string());
        Ok(Self {
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: set("HF_TOKEN").map(|token| token.trim().to_string()).or(stored).filter(|token| !token.is_empty()),
            offline: set("HF_HUB_OFFLINE")
                .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_ascii_lowercase().as_str())),
        })
    }
}
