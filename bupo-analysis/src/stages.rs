//! The stages of the layers, by the entropy change of their feed-forwards.
//!
//! The paper (arXiv 2512.19673, section 4) identifies three stages by inspection: in exploration the feed-forward increases the
//! entropy, in integration it does not change it, in convergence it decreases it. Here the stages are fitted: of all partitions of
//! the layers into exploration, integration and convergence, in this order and each possibly empty, the one with the smallest
//! misfit is taken. With tolerance t, a layer with entropy change c has the misfit
//!
//! ```text
//! exploration   max(0, t - c)        0 if c is at least t
//! integration   max(0, |c| - t)      0 if c is from -t to t
//! convergence   max(0, t + c)        0 if c is at most -t
//! ```
//!
//! The misfits are summed over layers, so that a single deviating layer does not end a stage.

use serde::{Deserialize, Serialize};

/// The default tolerance, as a fraction of ln V, the maximum entropy.
pub const DEFAULT_TOLERANCE: f64 = 0.01;

/// The last layers of the stages: exploration is `1 ..= exploration`, integration `exploration + 1 ..= integration`, and convergence
/// the layers above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// The number of layers.
    pub num_layers: usize,
    /// The last layer of exploration; 0 if it has no layers.
    pub exploration: usize,
    /// The last layer of integration; equal to `exploration` if it has no layers.
    pub integration: usize,
}

impl Stages {
    /// Fits the stages to the feed-forwards' entropy changes, layer 1 first. Changes and tolerance are in nats; changes that are
    /// not finite count as 0. Of equally good partitions, the one with the shortest exploration and convergence is taken.
    pub fn fit(changes: &[f64], tolerance: f64) -> Self {
        let finite = |change: &f64| if change.is_finite() { *change } else { 0.0 };
        let misfits: Vec<[f64; 3]> = changes
            .iter()
            .map(finite)
            .map(|c| [tolerance - c, c.abs() - tolerance, tolerance + c].map(|misfit| misfit.max(0.0)))
            .collect();
        let sum = |range: std::ops::Range<usize>, stage: usize| -> f64 {
            misfits[range].iter().map(|misfit| misfit[stage]).sum()
        };
        let num_layers = changes.len();
        let mut best = (f64::INFINITY, 0, num_layers);
        for exploration in 0..=num_layers {
            for integration in (exploration..=num_layers).rev() {
                let misfit =
                    sum(0..exploration, 0) + sum(exploration..integration, 1) + sum(integration..num_layers, 2);
                // Differences below this are rounding errors.
                if misfit < best.0 - 1e-12 {
                    best = (misfit, exploration, integration);
                }
            }
        }
        Self { num_layers, exploration: best.1, integration: best.2 }
    }

    /// The stages that have layers: name, first and last layer.
    pub fn named(self) -> Vec<(&'static str, usize, usize)> {
        [
            ("exploration", 1, self.exploration),
            ("integration", self.exploration + 1, self.integration),
            ("convergence", self.integration + 1, self.num_layers),
        ]
        .into_iter()
        .filter(|(_, first, last)| first <= last)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// 1% of ln 151,936.
    const TOLERANCE: f64 = 0.119;

    fn runs(parts: &[(usize, f64)]) -> Vec<f64> {
        parts.iter().flat_map(|(layers, change)| std::iter::repeat_n(*change, *layers)).collect()
    }

    fn ends(changes: &[f64]) -> (usize, usize) {
        let Stages { exploration, integration, .. } = Stages::fit(changes, TOLERANCE);
        (exploration, integration)
    }

    #[test]
    fn stages_agree_with_the_paper_for_its_model_families() {
        assert_eq!(ends(&runs(&[(6, 1.2), (20, 0.03), (10, -0.8)])), (6, 26), "three stages");
        assert_eq!(ends(&runs(&[(27, 0.3), (1, -2.5)])), (27, 27), "positive up to the last layer");
        assert_eq!(ends(&runs(&[(31, 0.3), (1, 0.02)])), (31, 32), "positive up to the last layer but one");
    }

    #[test]
    fn stages_can_be_empty() {
        assert_eq!(ends(&runs(&[(8, 0.0)])), (0, 8), "flat");
        assert_eq!(ends(&runs(&[(8, 1.0)])), (8, 8), "exploration only");
        assert_eq!(ends(&runs(&[(8, -1.0)])), (0, 0), "convergence only");
        assert_eq!(ends(&[]), (0, 0), "no layers");
        assert_eq!(
            Stages::fit(&runs(&[(3, 1.0), (2, -1.0)]), TOLERANCE).named(),
            [("exploration", 1, 3), ("convergence", 4, 5)]
        );
    }

    #[test]
    fn one_deviating_layer_does_not_end_a_stage() {
        let mut changes = runs(&[(6, 1.2), (20, 0.03), (10, -0.8)]);
        changes[0] = -0.4;
        changes[3] = 0.05;
        changes[15] = 0.2;
        changes[30] = 0.1;
        assert_eq!(ends(&changes), (6, 26));
    }

    #[test]
    fn noise_does_not_move_stages() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut noisy = |size: f64| -> Vec<f64> {
            let changes = runs(&[(6, 1.0), (20, 0.0), (10, -0.8)]);
            changes.into_iter().map(|change| change + rng.random_range(-size..size)).collect()
        };
        let mut near = 0;
        for _ in 0..500 {
            let changes = noisy(TOLERANCE);
            assert_eq!(ends(&changes), (6, 26), "{changes:?}");
            let (exploration, integration) = ends(&noisy(2.0 * TOLERANCE));
            near += usize::from((5..=7).contains(&exploration) && (25..=27).contains(&integration));
        }
        // With noise of twice the tolerance, they move by at most one layer in 75% of the trials.
        assert!(near >= 375, "{near}");
    }

    #[test]
    fn nan_counts_as_no_change() {
        assert_eq!(ends(&[1.0, f64::NAN, -1.0]), (1, 2));
    }
}
