//! Phases: which policy is trained for how many steps.

use bupo_core::{Norm, PolicySite};
use serde::{Deserialize, Serialize};

use crate::RlError;

/// Some steps of training one policy. Bottom-up Policy Optimization is two of them: an internal layer, then the full
/// policy (arXiv 2512.19673, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// The policy whose log-probs the loss is of.
    pub site: PolicySite,
    /// How many steps it is trained.
    pub steps: usize,
    /// The norm between its state and the unembedding.
    #[serde(default)]
    pub norm: Norm,
}

/// Phases, one after the other. Steps count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    phases: Vec<Phase>,
}

impl Schedule {
    /// A schedule for a model of `num_layers` layers.
    ///
    /// # Errors
    /// If there are no steps, or a site is outside the model.
    pub fn new(phases: Vec<Phase>, num_layers: usize) -> Result<Self, RlError> {
        for phase in &phases {
            phase.site.depth(num_layers)?;
        }
        if phases.iter().all(|phase| phase.steps == 0) {
            return Err(RlError::Config("the phases have no steps; give at least one phase with steps from 1".into()));
        }
        Ok(Self { phases })
    }

    /// The phases, in order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The number of steps of all phases.
    pub fn steps(&self) -> usize {
        self.phases.iter().map(|phase| phase.steps).sum()
    }

    /// The phase of a step (from 1) and its number (from 1); the last one's beyond the end.
    pub fn at(&self, step: usize) -> (usize, Phase) {
        let mut end = 0;
        for (index, phase) in self.phases.iter().enumerate() {
            end += phase.steps;
            if step <= end || index + 1 == self.phases.len() {
                return (index + 1, *phase);
            }
        }
        (1, Phase { site: PolicySite::Full, steps: 0, norm: Norm::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(site: PolicySite, steps: usize) -> Phase {
        Phase { site, steps, norm: Norm::None }
    }

    #[test]
    fn the_first_phase_lasts_exactly_its_steps() -> Result<(), RlError> {
        let schedule = Schedule::new(vec![phase(PolicySite::Layer(3), 2), phase(PolicySite::Full, 3)], 4)?;
        let sites: Vec<_> = (1..=schedule.steps()).map(|step| schedule.at(step).1.site.to_string()).collect();
        assert_eq!(sites, ["layer:3", "layer:3", "full", "full", "full"]);
        Ok(())
    }

    #[test]
    fn empty_phases_are_passed_over() -> Result<(), RlError> {
        let schedule = Schedule::new(vec![phase(PolicySite::Layer(1), 0), phase(PolicySite::Full, 1)], 4)?;
        assert_eq!(schedule.at(1), (2, phase(PolicySite::Full, 1)));
        Ok(())
    }

    #[test]
    fn sites_outside_the_model_and_no_steps_are_refused() {
        assert!(Schedule::new(vec![phase(PolicySite::Layer(5), 2)], 4).is_err());
        assert!(Schedule::new(vec![phase(PolicySite::Full, 0)], 4).is_err());
    }
}
