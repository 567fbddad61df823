//! Further sites of a phase: policy losses beside the one of the phase's site, and divergences from the full policy.

use bupo_core::{Divergence, Norm, PolicySite};
use serde::{Deserialize, Serialize};

use crate::RlError;

/// What the loss of a phase has of a further site.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteTerm {
    /// `layer:N`, not above the phase's site.
    pub site: PolicySite,
    /// The norm before the unembedding.
    #[serde(default)]
    pub norm: Norm,
    /// The weight of its policy loss, which is that of `[objective]`; 0 for none.
    #[serde(default)]
    pub weight: f64,
    /// A divergence from the full policy, aggregated like the surrogate.
    #[serde(default)]
    pub divergence: SiteDivergence,
    /// The divergence's weight.
    #[serde(default = "one")]
    pub divergence_weight: f64,
    /// Whether the divergence of a response's tokens is multiplied by its advantage, so that it grows where that is below 0.
    #[serde(default)]
    pub advantage_weighted: bool,
    /// Whether the full policy is a constant in the divergence.
    #[serde(default = "yes")]
    pub detached: bool,
}

/// The divergence of a further site from the full policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteDivergence {
    /// None.
    #[default]
    None,
    /// KL(site's policy || full policy).
    Kl,
    /// KL(full policy || site's policy).
    ReverseKl,
    /// The Jensen-Shannon divergence.
    Js,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl SiteTerm {
    /// The divergence in the loss.
    pub(crate) fn divergence(&self) -> Option<Divergence> {
        match self.divergence {
            SiteDivergence::None => None,
            SiteDivergence::Kl => Some(Divergence::Kl),
            SiteDivergence::ReverseKl => Some(Divergence::ReverseKl),
            SiteDivergence::Js => Some(Divergence::Js),
        }
    }

    /// Its layer; `None` for other sites, which [`Self::check`] refuses.
    pub(crate) fn layer(&self) -> Option<usize> {
        match self.site {
            PolicySite::Layer(layer) => Some(layer),
            PolicySite::Full | PolicySite::Attn(_) | PolicySite::Ffn(_) => None,
        }
    }

    /// Checks the term against the site of its phase, in a model of `num_layers` layers.
    pub(super) fn check(&self, site: PolicySite, norm: Norm, num_layers: usize) -> Result<(), RlError> {
        let error = |text: String| Err(RlError::Config(format!("phases.*.sites: {} {text}", self.site)));
        let depth = match site {
            PolicySite::Full | PolicySite::Layer(_) => site.depth(num_layers)?,
            PolicySite::Attn(_) | PolicySite::Ffn(_) => {
                return error(format!(
                    "is beside {site}, but only full and layer:N can have further sites; change the phase's site"
                ));
            }
        };
        self.site.depth(num_layers)?;
        let Some(layer) = self.layer() else {
            return error("is not possible as a further site; give layer:N".into());
        };
        if layer > depth {
            return error(format!("is above the phase's site {site}; give the higher of the two as the phase's site"));
        }
        if self.site == site && self.norm == norm {
            return error("is the phase's site; give another one".into());
        }
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return error(format!("has weight {}; it must be 0 or more", self.weight));
        }
        if !self.divergence_weight.is_finite() || self.divergence_weight == 0.0 {
            return error(format!(
                "has divergence_weight {}; it must be a number other than 0",
                self.divergence_weight
            ));
        }
        if self.weight == 0.0 && self.divergence == SiteDivergence::None {
            return error("has no effect: it has neither a weight nor a divergence; give one".into());
        }
        if self.divergence != SiteDivergence::None && site != PolicySite::Full {
            return error(format!(
                "has a divergence from the full policy, which a phase on {site} does not run; set the phase's site to full"
            ));
        }
        Ok(())
    }
}
