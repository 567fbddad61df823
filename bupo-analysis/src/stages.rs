//! The stages of the layers, by the entropy change of their feed-forward.
//!
//! The paper (arXiv 2512.19673, section 4) reads three stages off a picture: exploration, where the feed-forward raises the
//! entropy; integration, where it leaves it; convergence, where it lowers it. Here they are a fit: of all ways to cut the layers into an
//! exploring, an integrating and a converging run, in that order and each possibly empty, the one with the least misfit. With a
//! tolerance t and a layer's change c, the misfit of a layer is
//!
//! ```text
//! exploration   max(0, t - c)        the change should be above t
//! integration   max(0, |c| - t)      within t
//! convergence   max(0, t + c)        below -t
//! ```
//!
//! A sum over layers, so that one layer that differs by a little does not end a stage.

use serde::{Deserialize, Serialize};

/// What counts as no change, as a share of ln V, the largest entropy there is.
pub const DEFAULT_TOLERANCE: f64 = 0.01;

/// Layers `1 ..= exploration` explore, those up to and including `integration` integrate, those above converge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// The number of layers.
    pub num_layers: usize,
    /// The last layer that explores; 0 if none does.
    pub exploration: usize,
    /// The last layer that integrates; that of exploration if none does.
    pub integration: usize,
}

impl Stages {
    /// Of the feed-forwards' entropy changes, layer 1 first, in nats, with a tolerance in nats. Where several cuts fit as
    /// well, the shortest exploration and convergence are taken.
    pub fn fit(changes: &[f64], tolerance: f64) -> Self {
        let known = |change: &f64| if change.is_finite() { *change } else { 0.0 };
        let misfits: Vec<[f64; 3]> = changes
            .iter()
            .map(known)
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
                // Rounding does not make one cut better than another.
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
    fn families_come_out_as_the_paper_reads_them() {
        assert_eq!(ends(&runs(&[(6, 1.2), (20, 0.03), (10, -0.8)])), (6, 26), "three stages");
        assert_eq!(ends(&runs(&[(27, 0.3), (1, -2.5)])), (27, 27), "positive up to the last layer");
        assert_eq!(ends(&runs(&[(31, 0.3), (1, 0.02)])), (31, 32), "positive up to the last layer but one");
    }

    #[test]
    fn stages_may_be_missing() {
        assert_eq!(ends(&runs(&[(8, 0.0)])), (0, 8), "flat");
        assert_eq!(ends(&runs(&[(8, 1.0)])), (8, 8), "exploring throughout");
        assert_eq!(ends(&runs(&[(8, -1.0)])), (0, 0), "converging throughout");
        assert_eq!(ends(&[]), (0, 0), "no layers");
        assert_eq!(
            Stages::fit(&runs(&[(3, 1.0), (2, -1.0)]), TOLERANCE).named(),
            [("exploration", 1, 3), ("convergence", 4, 5)]
        );
    }

    #[test]
    fn one_odd_layer_does_not_end_a_stage() {
        let mut changes = runs(&[(6, 1.2), (20, 0.03), (10, -0.8)]);
        changes[0] = -0.4;
        changes[3] = 0.05;
        changes[15] = 0.2;
        changes[30] = 0.1;
        assert_eq!(ends(&changes), (6, 26));
    }

    #[test]
    fn noise_does_not_move_them() {
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
        // At twice what the tolerance allows they move by at most a layer three times in four.
        assert!(near >= 375, "{near}");
    }

    #[test]
    fn values_that_are_not_numbers_count_as_no_change() {
        assert_eq!(ends(&[1.0, f64::NAN, -1.0]), (1, 2));
    }
}
