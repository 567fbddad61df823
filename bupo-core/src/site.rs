//! Names of the policies of a model.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::CoreError;

/// The point of the residual stream whose state is unembedded into a policy. Layers are 1-based.
///
/// Written and parsed as `full`, `layer:6`, `attn:3`, `ffn:3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum PolicySite {
    /// The model's own policy: `softmax(norm_final(H^L) E_u^T)`.
    Full,
    /// The state after a layer: `softmax(H^l E_u^T)`.
    Layer(usize),
    /// A layer's attention contribution alone: `softmax(A^l E_u^T)`.
    Attn(usize),
    /// A layer's feed-forward contribution alone: `softmax(F^l E_u^T)`.
    Ffn(usize),
}

/// What is applied between a state and the unembedding.
///
/// The method uses [`Norm::None`] (arXiv 2512.19673, Table 5); [`Norm::Final`] is the logit lens, [`Norm::Tuned`] the tuned lens (arXiv
/// 2303.08112). [`PolicySite::Full`] always has the final norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// No norm.
    #[default]
    None,
    /// The model's final norm, computed on that state.
    Final,
    /// An affine map of the state's layer, fitted to the full policy, then the final norm. Contributions of attention and feed-forward
    /// have no map and are read as with [`Self::Final`].
    Tuned,
}

impl Norm {
    /// What is really applied to the state of a site.
    pub fn of_site(self, site: PolicySite) -> Self {
        match (site, self) {
            (PolicySite::Full, _) => Self::Final,
            (PolicySite::Attn(_) | PolicySite::Ffn(_), Self::Tuned) => Self::Final,
            (_, norm) => norm,
        }
    }
}

impl PolicySite {
    /// The layer of the site; `None` for the full policy.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::Layer(layer) | Self::Attn(layer) | Self::Ffn(layer) => Some(layer),
        }
    }

    /// `full`, `layer`, `attn` or `ffn`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Layer(_) => "layer",
            Self::Attn(_) => "attn",
            Self::Ffn(_) => "ffn",
        }
    }

    /// The sites of a range of layers, `layer:2-6`, from the lowest to the highest; of the name of one site that site alone.
    ///
    /// # Errors
    /// If the name is of no site, or the range is empty.
    pub fn range(text: &str) -> Result<Vec<Self>, CoreError> {
        let Some((kind, (first, last))) =
            text.split_once(':').and_then(|(kind, layers)| Some((kind, layers.split_once('-')?)))
        else {
            return Ok(vec![text.parse()?]);
        };
        let range = || CoreError::UnknownRange(text.to_string());
        let number = |text: &str| text.parse::<usize>().ok().filter(|layer| *layer > 0).ok_or_else(range);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(range());
        }
        (first..=last).map(|layer| format!("{kind}:{layer}").parse()).collect()
    }

    /// The number of layers that must run to reach this site in a model of `num_layers` layers.
    ///
    /// # Errors
    /// If the site names layer 0 or a layer above the last.
    pub fn depth(self, num_layers: usize) -> Result<usize, CoreError> {
        match self.layer() {
            None => Ok(num_layers),
            Some(layer) if (1..=num_layers).contains(&layer) => Ok(layer),
            Some(_) => Err(CoreError::LayerOutOfRange { site: self.to_string(), num_layers }),
        }
    }
}

impl fmt::Display for PolicySite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer() {
            None => f.write_str(self.kind()),
            Some(layer) => write!(f, "{}:{layer}", self.kind()),
        }
    }
}

impl FromStr for PolicySite {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        let unknown = || CoreError::UnknownSite(text.to_string());
        if text == "full" {
            return Ok(Self::Full);
        }
        let (kind, layer) = text.split_once(':').ok_or_else(unknown)?;
        let layer = layer.parse().ok().filter(|layer| *layer > 0).ok_or_else(unknown)?;
        match kind {
            "layer" => Ok(Self::Layer(layer)),
            "attn" => Ok(Self::Attn(layer)),
            "ffn" => Ok(Self::Ffn(layer)),
            _ => Err(unknown()),
        }
    }
}

impl From<PolicySite> for String {
    fn from(site: PolicySite) -> Self {
        site.to_string()
    }
}

impl TryFrom<String> for PolicySite {
    type Error = CoreError;

    fn try_from(text: String) -> Result<Self, CoreError> {
        text.parse()
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Final => "final",
            Self::Tuned => "tuned",
        })
    }
}

impl FromStr for Norm {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        match text {
            "none" => Ok(Self::None),
            "final" => Ok(Self::Final),
            "tuned" => Ok(Self::Tuned),
            _ => Err(CoreError::UnknownNorm(text.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["full", "layer:6", "attn:3", "ffn:36"] {
            assert_eq!(name.parse::<PolicySite>().map(|site| site.to_string()), Ok(name.to_string()));
        }
    }

    #[test]
    fn a_range_has_its_sites_from_the_lowest_to_the_highest() {
        let names = |text: &str| PolicySite::range(text).map(|sites| sites.iter().map(PolicySite::to_string).collect());
        for (text, expected) in
            [("layer:2-4", vec!["layer:2", "layer:3", "layer:4"]), ("ffn:3-3", vec!["ffn:3"]), ("full", vec!["full"])]
        {
            assert_eq!(names(text), Ok(expected.into_iter().map(String::from).collect::<Vec<_>>()), "{text}");
        }
        for text in ["layer:4-2", "layer:0-2", "layer:1-", "layer:-3", "layer:1-x"] {
            assert_eq!(names(text), Err(CoreError::UnknownRange(text.to_string())), "{text}");
        }
        assert_eq!(names("mlp:1-2"), Err(CoreError::UnknownSite("mlp:1".into())));
    }

    #[test]
    fn unknown_names_are_refused() {
        for name in ["", "layer", "layer:", "layer:0", "layer:-1", "layer:x", "mlp:3", "Full", "layer:1.5"] {
            assert_eq!(name.parse::<PolicySite>(), Err(CoreError::UnknownSite(name.to_string())), "{name}");
        }
    }

    #[test]
    fn a_layer_outside_the_model_has_no_depth() {
        assert_eq!(PolicySite::Full.depth(4), Ok(4));
        assert_eq!(PolicySite::Ffn(4).depth(4), Ok(4));
        assert!(PolicySite::Layer(5).depth(4).is_err());
        assert!(PolicySite::Attn(0).depth(4).is_err());
    }
}
