//! Options of `bupo lens`.

use std::path::PathBuf;
use std::str::FromStr;

use bupo_core::PolicySite;
use clap::{Args, ValueEnum};

use super::chat::ChatArgs;
use super::model::{ModelArgs, NormArgs};

#[derive(Debug, Args)]
#[command(mut_arg("norm", |norm| norm.default_value("final")))]
pub struct LensArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Text, encoded as it is unless --chat is given
    #[arg(value_name = "TEXT")]
    pub text: String,
    #[command(flatten)]
    pub chat: ChatArgs,
    #[command(flatten)]
    pub norm: NormArgs,
    /// States read: those after a layer, or the contributions of its attention or feed-forward
    #[arg(long, value_name = "SITE,...", value_delimiter = ',', default_value = "layer")]
    pub site: Vec<LensSiteArg>,
    /// Layers, counted from 1: A-B, or one layer [default: all]
    #[arg(long, value_name = "A-B")]
    pub layers: Option<NumberRange>,
    /// Positions, counted from 1: N, or A-B [default: all, on the screen the last ones that fit]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub position: Vec<NumberRange>,
    /// Print the rank, logit and probability of this token by layer, at the last position unless --position is given
    #[arg(long, value_name = "TEXT")]
    pub token: Option<String>,
    /// Show what the embedding and each --site added to the logit of a token (direct logit attribution): of --token, by default of
    /// the full policy's most probable next token
    #[arg(long, conflicts_with = "list")]
    pub attribution: bool,
    /// Print the most probable tokens and the entropies position by position instead of a grid
    #[arg(long, conflicts_with = "token")]
    pub list: bool,
    /// Tokens per policy of --list (which --top implies), --html and --json [default: 5]
    #[arg(long, value_name = "K")]
    pub top: Option<usize>,
    /// Write the grid to this file as a page that shows more tokens on hover
    #[arg(long, value_name = "OUT.html")]
    pub html: Option<PathBuf>,
    /// Write the result to this file as JSON instead
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LensSiteArg {
    /// The state after a layer
    Layer,
    /// The contribution of a layer's attention
    Attn,
    /// The contribution of a layer's feed-forward
    Ffn,
}

impl LensSiteArg {
    pub fn of(self, layer: usize) -> PolicySite {
        match self {
            Self::Layer => PolicySite::Layer(layer),
            Self::Attn => PolicySite::Attn(layer),
            Self::Ffn => PolicySite::Ffn(layer),
        }
    }
}

/// Numbers from `first` to `last`, written `N` or `A-B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRange {
    pub first: usize,
    pub last: usize,
}

impl FromStr for NumberRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.trim().parse().ok().zip(last.trim().parse().ok());
        range
            .filter(|(first, last)| 1 <= *first && first <= last)
            .map(|(first, last)| Self { first, last })
            .ok_or_else(|| "write a number from 1, or a range of them such as 2-5".into())
    }
}
