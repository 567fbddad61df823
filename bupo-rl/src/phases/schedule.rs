//! Phases: which policy is trained for how many steps.

use bupo_core::{Norm, PolicySite};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::climb::PhaseSites;
use super::site_term::SiteTerm;
use crate::RlError;

/// Which policy a phase of the settings trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseSite {
    /// A given site.
    At(PolicySite),
    /// The boundary layer, chosen on the first rollouts.
    Auto,
}

/// A phase in the settings: `site = "layer:6"`, `layer = 6` or `layer = "auto"`. `S` is how the site is written: a phase of settings
/// as written can have a range of layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig<S = PhaseSite> {
    /// The policy whose log-probs are in the loss.
    #[serde(alias = "layer")]
    pub site: S,
    /// The number of steps.
    pub steps: usize,
    /// The norm before the unembedding.
    #[serde(default)]
    pub norm: Norm,
    /// The samples whose policy loss is in the loss.
    #[serde(default, skip_serializing_if = "Samples::is_all")]
    pub samples: Samples,
    /// Whether the loss is of the response alone, without its prompt: its first token, which nothing precedes, is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_prompt: bool,
    /// Further sites, whose losses are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteTerm>,
}

/// The samples of a policy loss, by the sign of their advantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Samples {
    /// All.
    #[default]
    All,
    /// Those with an advantage above 0.
    Positive,
    /// Those with an advantage below 0.
    Negative,
}

impl Samples {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Consecutive steps that train one policy. Bottom-up Policy Optimization has two phases: an internal layer policy, then the
/// full policy (arXiv 2512.19673, section 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The policy whose log-probs are in the loss.
    pub site: PolicySite,
    /// The number of steps.
    pub steps: usize,
    /// The norm before the unembedding.
    pub norm: Norm,
    /// The samples whose policy loss is in the loss.
    #[serde(default)]
    pub samples: Samples,
    /// Whether the loss is of the response without its prompt.
    #[serde(default)]
    pub without_prompt: bool,
    /// Further sites, whose losses are added.
    #[serde(default)]
    pub sites: Vec<SiteTerm>,
}

impl Phase {
    /// A phase of the policy loss of one site alone.
    pub fn of_site(site: PolicySite, steps: usize, norm: Norm) -> Self {
        Self { site, steps, norm, samples: Samples::All, without_prompt: false, sites: Vec::new() }
    }
}

impl PhaseConfig {
    /// A phase of the policy loss of one site alone.
    pub fn of_site(site: PhaseSite, steps: usize) -> Self {
        Self { site, steps, norm: Norm::None, samples: Samples::All, without_prompt: false, sites: Vec::new() }
    }

    /// Whether the loss is another than the policy loss of its site.
    pub(crate) fn has_more_than_its_site(&self) -> bool {
        !self.samples.is_all() || self.without_prompt || !self.sites.is_empty()
    }
}

impl Phase {
    /// Whether its policy applies the final norm.
    pub fn has_final_norm(&self) -> bool {
        self.norm.of_site(self.site) != Norm::None
    }
}

/// The phases of a run in order. Steps count from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    phases: Vec<Phase>,
    /// Whether each phase's site is `auto` and not resolved yet; until then its site is the last layer, the upper bound.
    #[serde(rename = "open")]
    auto: Vec<bool>,
    /// Whether each phase was ended early.
    ended: Vec<bool>,
}

impl Schedule {
    /// A schedule for a model of `num_layers` layers.
    ///
    /// # Errors
    /// If there are no steps, or a site is outside the model.
    pub fn new(phases: &[PhaseConfig], num_layers: usize) -> Result<Self, RlError> {
        let mut schedule = Self { phases: Vec::new(), auto: Vec::new(), ended: Vec::new() };
        for phase in phases {
            let site = match phase.site {
                PhaseSite::At(site) => site,
                PhaseSite::Auto => PolicySite::Layer(num_layers),
            };
            site.depth(num_layers)?;
            if phase.norm == Norm::Tuned && matches!(site, PolicySite::Attn(_) | PolicySite::Ffn(_)) {
                return Err(RlError::Config(format!(
                    "a phase of {site} has norm = \"tuned\", but a tuned lens reads layer:N alone; set its norm to \"final\""
                )));
            }
            if phase.site == PhaseSite::Auto && !phase.sites.is_empty() {
                return Err(RlError::Config(
                    "a phase with layer = \"auto\" cannot have sites, whose layers must not be above it; give its layer".into(),
                ));
            }
            for term in &phase.sites {
                term.check(site, phase.norm, num_layers)?;
            }
            schedule.phases.push(Phase {
                site,
                steps: phase.steps,
                norm: phase.norm,
                samples: phase.samples,
                without_prompt: phase.without_prompt,
                sites: phase.sites.clone(),
            });
            schedule.auto.push(phase.site == PhaseSite::Auto);
            schedule.ended.push(false);
        }
        if schedule.steps() == 0 {
            return Err(RlError::Config("the phases have no steps; give at least one phase with steps >= 1".into()));
        }
        Ok(schedule)
    }

    /// The phases, in order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Whether each phase's site is `auto` and not resolved yet.
    pub fn auto(&self) -> &[bool] {
        &self.auto
    }

    /// Whether the site of any phase is not resolved yet.
    pub fn has_auto_layer(&self) -> bool {
        self.auto.contains(&true)
    }

    /// Sets the site of all phases that are not resolved yet.
    pub fn resolve_auto_layer(&mut self, site: PolicySite) {
        for (phase, auto) in self.phases.iter_mut().zip(&mut self.auto) {
            if std::mem::take(auto) {
                phase.site = site;
            }
        }
    }

    /// Ends the phase of a step (from 1) with that step.
    pub fn end(&mut self, step: usize) {
        let (number, _) = self.at(step);
        let before: usize = self.phases[..number - 1].iter().map(|phase| phase.steps).sum();
        self.phases[number - 1].steps = step - before;
        self.ended[number - 1] = true;
    }

    /// Copies from a checkpoint's schedule of the same phases: resolved sites and phases ended early.
    pub fn restore(&mut self, other: &Self) {
        for (index, (phase, was)) in self.phases.iter_mut().zip(&other.phases).enumerate() {
            if self.auto[index] {
                phase.site = was.site;
                self.auto[index] = other.auto[index];
            }
            if other.ended[index] {
                phase.steps = was.steps;
                self.ended[index] = true;
            }
        }
    }

    /// The number of steps of all phases.
    pub fn steps(&self) -> usize {
        self.phases.iter().map(|phase| phase.steps).sum()
    }

    /// The phase of a step (from 1) and its number (from 1); beyond the end, the last phase.
    pub fn at(&self, step: usize) -> (usize, Phase) {
        let mut end = 0;
        for (index, phase) in self.phases.iter().enumerate() {
            end += phase.steps;
            if step <= end || index + 1 == self.phases.len() {
                return (index + 1, phase.clone());
            }
        }
        (1, Phase::of_site(PolicySite::Full, 0, Norm::None))
    }
}

pub(super) const AUTO: &str = "auto";

impl Serialize for PhaseSite {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(site) => site.serialize(serializer),
            Self::Auto => serializer.serialize_str(AUTO),
        }
    }
}

impl<'de> Deserialize<'de> for PhaseSite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PhaseSites(sites) = PhaseSites::deserialize(deserializer)?;
        match sites[..] {
            [site] => Ok(site),
            _ => Err(D::Error::custom("a range of layers is not one site; name one layer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(site: PhaseSite, steps: usize) -> PhaseConfig {
        PhaseConfig::of_site(site, steps)
    }

    const LAYER_3: PhaseSite = PhaseSite::At(PolicySite::Layer(3));
    const FULL: PhaseSite = PhaseSite::At(PolicySite::Full);

    fn sites(schedule: &Schedule) -> Vec<String> {
        (1..=schedule.steps()).map(|step| schedule.at(step).1.site.to_string()).collect()
    }

    #[test]
    fn the_first_phase_lasts_exactly_its_steps() -> Result<(), RlError> {
        let schedule = Schedule::new(&[phase(LAYER_3, 2), phase(FULL, 3)], 4)?;
        assert_eq!(sites(&schedule), ["layer:3", "layer:3", "full", "full", "full"]);
        Ok(())
    }

    #[test]
    fn empty_phases_are_skipped() -> Result<(), RlError> {
        let schedule = Schedule::new(&[phase(LAYER_3, 0), phase(FULL, 1)], 4)?;
        assert_eq!(schedule.at(1), (2, Phase::of_site(PolicySite::Full, 1, Norm::None)));
        Ok(())
    }

    #[test]
    fn an_auto_layer_is_resolved_once() -> Result<(), RlError> {
        let mut schedule = Schedule::new(&[phase(PhaseSite::Auto, 1), phase(LAYER_3, 1), phase(FULL, 1)], 4)?;
        assert!(schedule.has_auto_layer());
        schedule.resolve_auto_layer(PolicySite::Layer(2));
        schedule.resolve_auto_layer(PolicySite::Layer(1));
        assert_eq!(
            (schedule.has_auto_layer(), sites(&schedule)),
            (false, ["layer:2", "layer:3", "full"].map(String::from).into())
        );
        Ok(())
    }

    #[test]
    fn a_phase_ended_early_stays_ended_with_longer_settings() -> Result<(), RlError> {
        let mut schedule = Schedule::new(&[phase(LAYER_3, 5), phase(FULL, 2)], 4)?;
        schedule.end(3);
        assert_eq!(sites(&schedule), ["layer:3", "layer:3", "layer:3", "full", "full"]);
        let mut longer = Schedule::new(&[phase(LAYER_3, 9), phase(FULL, 3)], 4)?;
        longer.restore(&schedule);
        assert_eq!(sites(&longer), ["layer:3", "layer:3", "layer:3", "full", "full", "full"]);
        longer.end(5);
        assert_eq!(longer.steps(), 5);
        Ok(())
    }

    #[test]
    fn sites_outside_the_model_and_no_steps_are_refused() {
        assert!(Schedule::new(&[phase(PhaseSite::At(PolicySite::Layer(5)), 2)], 4).is_err());
        assert!(Schedule::new(&[phase(FULL, 0)], 4).is_err());
    }

    #[test]
    fn further_sites_that_cannot_be_are_refused_with_the_mend() -> Result<(), Box<dyn std::error::Error>> {
        let of = |phase: &str, term: &str| -> Result<(), String> {
            let text = format!("{phase}\nsteps = 1\nsites = [{{ {term} }}]");
            let phase: PhaseConfig = toml::from_str(&text).map_err(|error| error.to_string())?;
            Schedule::new(&[phase], 4).map(drop).map_err(|error| error.to_string())
        };
        let full = "site = \"full\"";
        of(full, "site = \"layer:4\", divergence = \"js\"")?;
        of("layer = 3", "site = \"layer:3\", norm = \"final\", weight = 0.5")?;
        for (phase, term, expected) in [
            (full, "site = \"layer:2\"", "it has neither a weight nor a divergence"),
            (full, "site = \"layer:5\", weight = 1.0", "outside the model"),
            (full, "site = \"attn:2\", weight = 1.0", "give layer:N"),
            (full, "site = \"layer:2\", weight = -1.0", "0 or more"),
            (full, "site = \"layer:2\", divergence = \"js\", divergence_weight = 0.0", "other than 0"),
            ("layer = 2", "site = \"layer:3\", weight = 1.0", "is above the phase's site layer:2"),
            ("layer = 2", "site = \"layer:2\", weight = 1.0", "is the phase's site"),
            ("layer = 2", "site = \"layer:1\", divergence = \"kl\"", "set the phase's site to full"),
            ("site = \"ffn:2\"", "site = \"layer:1\", weight = 1.0", "change the phase's site"),
            ("layer = \"auto\"", "site = \"layer:1\", weight = 1.0", "cannot have sites"),
            (full, "site = \"layer:2\", wieght = 1.0", "wieght"),
        ] {
            let error = of(phase, term).err().unwrap_or_default();
            assert!(error.contains(expected), "{phase} {term}: {error}");
        }
        Ok(())
    }

    #[test]
    fn sites_have_three_notations() -> Result<(), Box<dyn std::error::Error>> {
        let read = |text: &str| toml::from_str::<PhaseConfig>(text).map(|phase| phase.site);
        assert_eq!(read("site = \"layer:3\"\nsteps = 1")?, LAYER_3);
        assert_eq!(read("layer = 3\nsteps = 1")?, LAYER_3);
        assert_eq!(read("layer = \"auto\"\nsteps = 1")?, PhaseSite::Auto);
        for wrong in ["layer = \"x\"\nsteps = 1", "layer = -1\nsteps = 1", "layer = 1.5\nsteps = 1", "steps = 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let written = toml::to_string(&phase(PhaseSite::Auto, 2))?;
        assert_eq!(toml::from_str::<PhaseConfig>(&written)?, phase(PhaseSite::Auto, 2));
        Ok(())
    }
}
