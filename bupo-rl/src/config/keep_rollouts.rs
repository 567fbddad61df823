//! How many of a step's responses are kept.

use serde::{Deserialize, Serialize};

/// The responses of each step that are kept in `rollouts.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Setting", into = "Setting")]
pub enum KeepRollouts {
    /// None.
    #[default]
    None,
    /// The first ones, at least 1.
    First(usize),
    /// All.
    All,
}

impl KeepRollouts {
    /// The largest number of responses kept of a step.
    pub(crate) fn limit(self) -> usize {
        match self {
            Self::None => 0,
            Self::First(count) => count,
            Self::All => usize::MAX,
        }
    }
}

/// The setting as it is written: a number or a name.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "it must be \"all\", \"none\" or a number of responses")]
enum Setting {
    Count(usize),
    Name(String),
}

impl TryFrom<Setting> for KeepRollouts {
    type Error = String;

    fn try_from(setting: Setting) -> Result<Self, String> {
        match setting {
            Setting::Count(0) => Err("it is 0; set it to \"none\" or to at least 1".into()),
            Setting::Count(count) => Ok(Self::First(count)),
            Setting::Name(name) => match name.as_str() {
                "all" => Ok(Self::All),
                "none" => Ok(Self::None),
                _ => Err(format!("it is {name:?}; it must be \"all\", \"none\" or a number of responses")),
            },
        }
    }
}

impl From<KeepRollouts> for Setting {
    fn from(keep: KeepRollouts) -> Self {
        match keep {
            KeepRollouts::None => Self::Name("none".into()),
            KeepRollouts::First(count) => Self::Count(count),
            KeepRollouts::All => Self::Name("all".into()),
        }
    }
}
