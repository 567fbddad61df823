//! The boundary layer, where Bottom-up Policy Optimization begins, with the reason and how sure it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stages::Stages;

/// The last layer that explores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    /// The layer; nothing where none explores.
    pub layer: Option<usize>,
    /// The stages it is the boundary of.
    pub stages: Stages,
    /// What counts as no change of entropy, in nats.
    pub tolerance: f64,
    /// Share of the bootstrap's resamples with the same boundary; nothing of one response.
    pub share: Option<f64>,
    /// The other boundaries of the resamples (0 for none) and their shares, most frequent first.
    pub others: Vec<(usize, f64)>,
    /// The boundary at half the tolerance and at twice the tolerance, 0 for none.
    pub at_other_tolerances: (usize, usize),
    /// Mean feed-forward entropy change of the layers, in nats.
    pub changes: Vec<f64>,
}

/// Below this share of resamples a boundary is not sure.
const SURE: f64 = 0.9;

impl Boundary {
    /// Of the feed-forwards' mean entropy changes, with those of each bootstrap resample.
    pub fn find(changes: Vec<f64>, resamples: &[Vec<f64>], tolerance: f64) -> Self {
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
        }
    }

    /// Whether the same comes out of nine resamples in ten, at half and at twice the tolerance.
    pub fn is_sure(&self) -> bool {
        let own = self.stages.exploration;
        self.share.is_some_and(|share| share >= SURE) && self.at_other_tolerances == (own, own)
    }

    /// Why this layer, in words.
    pub fn reason(&self) -> String {
        let tolerance = self.tolerance;
        let Some(layer) = self.layer else {
            return format!(
                "no layer explores: no run of layers from the first on raises the entropy by more than {tolerance:.3} nats"
            );
        };
        let mean = |changes: &[f64]| changes.iter().sum::<f64>() / changes.len().max(1) as f64;
        let after = match self.stages.named().get(1) {
            Some((name, first, last)) => {
                let change = mean(&self.changes[first - 1..*last]);
                let (layers, change_it) = if first == last {
                    (format!("layer {first}"), "changes it")
                } else {
                    (format!("layers {first} to {last}"), "change it")
                };
                format!("; {layers} ({name}) {change_it} by {change:+.3}")
            }
            None => String::new(),
        };
        let first = if layer == 1 {
            "feed-forward of layer 1 raises".to_string()
        } else {
            format!("feed-forwards of layers 1 to {layer} raise")
        };
        format!(
            "the {first} the entropy by {:.3} nats on average, more than the tolerance of {tolerance:.3}{after}",
            mean(&self.changes[..layer])
        )
    }

    /// How sure it is, in words.
    pub fn certainty(&self) -> String {
        let name = |layer: usize| if layer == 0 { "none".to_string() } else { format!("layer {layer}") };
        let resampled = match self.share {
            None => "one response, so nothing can be said of how sure this is".to_string(),
            Some(share) => {
                let others: Vec<String> = self
                    .others
                    .iter()
                    .take(3)
                    .map(|(layer, share)| format!("{} in {:.0}%", name(*layer), share * 100.0))
                    .collect();
                let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
                format!("the same in {:.0}% of resamples of the responses{others}", share * 100.0)
            }
        };
        let (half, twice) = self.at_other_tolerances;
        let own = self.stages.exploration;
        let tolerances = if (half, twice) == (own, own) {
            "the same at half and at twice the tolerance".to_string()
        } else {
            format!("at half the tolerance {}, at twice {}", name(half), name(twice))
        };
        let verdict = if self.is_sure() { "sure" } else { "not sure" };
        format!("{verdict}: {resampled}; {tolerances}")
    }

    /// Lines of a training settings file that train this layer first.
    pub fn phases(&self) -> String {
        let internal = self.layer.map_or_else(
            || "# No layer explores: there is nothing to train before the full policy.\n".to_string(),
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
    fn a_boundary_says_why_and_how_sure_it_is() {
        let mut other = qwen_like();
        other[6] = 1.2;
        let resamples: Vec<_> = (0..100).map(|i| if i < 3 { other.clone() } else { qwen_like() }).collect();
        let boundary = Boundary::find(qwen_like(), &resamples, 0.119);
        assert_eq!((boundary.layer, boundary.share), (Some(6), Some(0.97)));
        assert_eq!(boundary.others, [(7, 0.03)]);
        assert!(boundary.is_sure());
        assert!(boundary.reason().contains("layers 1 to 6 raise the entropy by 1.200 nats"), "{}", boundary.reason());
        assert!(boundary.certainty().starts_with("sure: the same in 97%"), "{}", boundary.certainty());
        assert!(boundary.phases().contains("site = \"layer:6\""));
    }

    #[test]
    fn a_boundary_that_hangs_on_the_tolerance_is_not_sure() {
        let changes = vec![1.0, 0.15, -1.0];
        let boundary = Boundary::find(changes.clone(), &vec![changes; 50], 0.1);
        assert_eq!((boundary.layer, boundary.at_other_tolerances), (Some(2), (2, 1)));
        assert!(!boundary.is_sure() && boundary.certainty().starts_with("not sure"), "{}", boundary.certainty());
    }

    #[test]
    fn without_exploration_there_is_no_boundary() {
        let boundary = Boundary::find(vec![0.0; 5], &[], 0.1);
        assert_eq!((boundary.layer, boundary.share), (None, None));
        assert!(boundary.reason().starts_with("no layer explores"));
        assert!(!boundary.phases().contains("layer:"));
    }
}
