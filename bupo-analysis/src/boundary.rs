//! The boundary layer, which Bottom-up Policy Optimization trains first, with its reason and its stability.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stages::Stages;

/// The last layer of the exploration stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    /// The layer; nothing if there is no exploration stage.
    pub layer: Option<usize>,
    /// The stages of the layers.
    pub stages: Stages,
    /// Entropy changes up to this count as no change, in nats.
    pub tolerance: f64,
    /// Fraction of the bootstrap resamples with the same boundary; nothing for one response.
    pub share: Option<f64>,
    /// The other boundaries of the resamples (0 for none) and their fractions, most frequent first.
    pub others: Vec<(usize, f64)>,
    /// The boundaries at half and at twice the tolerance, 0 for none.
    pub at_other_tolerances: (usize, usize),
    /// Mean feed-forward entropy change per layer, in nats.
    pub changes: Vec<f64>,
    /// The number of responses; 0 in files of earlier versions, which did not record it.
    #[serde(default)]
    pub responses: usize,
}

/// The fraction of resamples that must agree for a boundary to be stable.
const STABLE: f64 = 0.9;
/// The number of responses that a stable boundary needs: resamples of fewer have too few different means.
const MIN_RESPONSES: usize = 10;

impl Boundary {
    /// Finds the boundary from the mean entropy changes of the feed-forwards, `[layer]`, and those of each bootstrap resample,
    /// `[resample][layer]`, of that many responses. Changes and `tolerance` are in nats.
    pub fn find(changes: Vec<f64>, resamples: &[Vec<f64>], tolerance: f64, responses: usize) -> Self {
        let stages = Stages::fit(&changes, tolerance);
        let at = |factor: f64| Stages::fit(&changes, factor * tolerance).exploration;
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for resample in resamples {
            *counts.entry(Stages::fit(resample, tolerance).exploration).or_default() += 1;
        }
        let share = |count: usize| count as f64 / resamples.len() as f64;
        let own = counts.remove(&stages.exploration).unwrap_or(0);
        let mut others: Vec<(usize, f64)> = counts.into_iter().map(|(layer, count)| (layer, share(count))).collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Self {
            layer: (stages.exploration > 0).then_some(stages.exploration),
            share: (!resamples.is_empty()).then(|| share(own)),
            others,
            at_other_tolerances: (at(0.5), at(2.0)),
            stages,
            tolerance,
            changes,
            responses,
        }
    }

    /// Whether there are at least 10 responses, and 90% of their resamples, half the tolerance and twice the tolerance give the
    /// same boundary.
    pub fn is_stable(&self) -> bool {
        let own = self.stages.exploration;
        let same = self.share.is_some_and(|share| share >= STABLE) && self.at_other_tolerances == (own, own);
        same && self.responses >= MIN_RESPONSES
    }

    /// Why this is the boundary layer, as text.
    pub fn reason(&self) -> String {
        let tolerance = self.tolerance;
        let Some(layer) = self.layer else {
            return format!(
                "no exploration stage: no range of layers from layer 1 on increases the entropy by more than {tolerance:.3} nats"
            );
        };
        let mean = |changes: &[f64]| changes.iter().sum::<f64>() / changes.len().max(1) as f64;
        let after = match self.stages.named().get(1) {
            Some((name, first, last)) => {
                let change = mean(&self.changes[first - 1..*last]);
                let (layers, verb) = if first == last {
                    (format!("layer {first}"), "changes it")
                } else {
                    (format!("layers {first} to {last}"), "change it")
                };
                format!("; {layers} ({name}) {verb} by {change:+.3}")
            }
            None => String::new(),
        };
        let first = if layer == 1 {
            "feed-forward of layer 1 increases".to_string()
        } else {
            format!("feed-forwards of layers 1 to {layer} increase")
        };
        format!(
            "the {first} the entropy by {:.3} nats on average, more than the tolerance of {tolerance:.3}{after}",
            mean(&self.changes[..layer])
        )
    }

    /// How stable the boundary is under resampling and other tolerances, as text.
    pub fn certainty(&self) -> String {
        let name = |layer: usize| if layer == 0 { "none".to_string() } else { format!("layer {layer}") };
        let resampled = match self.share {
            None => "only one response, so it cannot be resampled".to_string(),
            Some(share) => {
                let others: Vec<String> = self
                    .others
                    .iter()
                    .take(3)
                    .map(|(layer, share)| format!("{} in {:.0}%", name(*layer), share * 100.0))
                    .collect();
                let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
                format!("the same in {:.0}% of the bootstrap resamples{others}", share * 100.0)
            }
        };
        let (half, twice) = self.at_other_tolerances;
        let own = self.stages.exploration;
        let tolerances = if (half, twice) == (own, own) {
            "the same at half and at twice the tolerance".to_string()
        } else {
            format!("at half the tolerance {}, at twice {}", name(half), name(twice))
        };
        let few = match self.responses {
            2..MIN_RESPONSES => format!("{} responses are too few to tell; ", self.responses),
            _ => String::new(),
        };
        let verdict = if self.is_stable() { "stable" } else { "not stable" };
        format!("{verdict}: {few}{resampled}; {tolerances}")
    }

    /// The `[[phases]]` of a training settings file that trains this layer first.
    pub fn phases(&self) -> String {
        let internal = self.layer.map_or_else(
            || "# No exploration stage: no internal policy is trained before the full policy.\n".to_string(),
            |layer| format!("[[phases]]\nsite = \"layer:{layer}\"\nsteps = 20        # 20 to 30 in the paper\n\n"),
        );
        format!("{internal}[[phases]]\nsite = \"full\"\nsteps = 280\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qwen_like() -> Vec<f64> {
        [vec![1.2; 6], vec![0.03; 20], vec![-0.8; 10]].concat()
    }

    #[test]
    fn a_boundary_has_a_reason_and_a_stability() {
        let mut other = qwen_like();
        other[6] = 1.2;
        let resamples: Vec<_> = (0..100).map(|i| if i < 3 { other.clone() } else { qwen_like() }).collect();
        let boundary = Boundary::find(qwen_like(), &resamples, 0.119, 100);
        assert_eq!((boundary.layer, boundary.share), (Some(6), Some(0.97)));
        assert_eq!(boundary.others, [(7, 0.03)]);
        assert!(boundary.is_stable());
        assert!(
            boundary.reason().contains("layers 1 to 6 increase the entropy by 1.200 nats"),
            "{}",
            boundary.reason()
        );
        assert!(boundary.certainty().starts_with("stable: the same in 97%"), "{}", boundary.certainty());
        assert!(boundary.phases().contains("site = \"layer:6\""));
    }

    #[test]
    fn a_boundary_of_few_responses_is_not_stable() {
        let of = |responses| Boundary::find(qwen_like(), &vec![qwen_like(); 50], 0.119, responses);
        for responses in [2, 9] {
            assert!(!of(responses).is_stable());
            let text = of(responses).certainty();
            let wanted = format!("not stable: {responses} responses are too few to tell; the same in 100%");
            assert!(text.starts_with(&wanted), "{text}");
        }
        assert!(of(10).is_stable() && of(10).certainty().starts_with("stable: the same in 100%"));
        assert!(Boundary::find(qwen_like(), &[], 0.119, 1).certainty().starts_with("not stable: only one response"));
    }

    #[test]
    fn a_boundary_that_depends_on_the_tolerance_is_not_stable() {
        let changes = vec![1.0, 0.15, -1.0];
        let boundary = Boundary::find(changes.clone(), &vec![changes; 50], 0.1, 50);
        assert_eq!((boundary.layer, boundary.at_other_tolerances), (Some(2), (2, 1)));
        assert!(!boundary.is_stable() && boundary.certainty().starts_with("not stable"), "{}", boundary.certainty());
    }

    #[test]
    fn without_exploration_there_is_no_boundary() {
        let boundary = Boundary::find(vec![0.0; 5], &[], 0.1, 1);
        assert_eq!((boundary.layer, boundary.share), (None, None));
        assert!(boundary.reason().starts_with("no exploration stage"));
        assert!(!boundary.phases().contains("layer:"));
    }
}
