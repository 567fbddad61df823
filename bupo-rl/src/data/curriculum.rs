//! A curriculum: problems that are solved always or never are drawn no more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The training rows that are drawn no more, and what is known of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curriculum {
    /// Draws before the present pass over the rows left.
    since_draw: usize,
    /// Rows that are drawn no more.
    dropped: BTreeSet<usize>,
    /// By row, its newest groups in a row without reward variance.
    without_variance: BTreeMap<usize, usize>,
}

impl Curriculum {
    /// The rows that are drawn, of `rows`.
    pub(crate) fn kept(&self, rows: usize) -> Vec<usize> {
        (0..rows).filter(|row| !self.dropped.contains(row)).collect()
    }

    /// A draw (from 1) counted from the start of the present pass, and the draws before it.
    pub(crate) fn in_pass(&self, draw: usize) -> (usize, usize) {
        (draw.saturating_sub(self.since_draw), self.since_draw)
    }

    /// The number of rows that are drawn no more.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.len()
    }

    /// Counts the groups of a step: each one's row, and whether its rewards differ.
    pub(crate) fn observe(&mut self, groups: impl Iterator<Item = (usize, bool)>) {
        for (row, has_variance) in groups {
            if has_variance {
                self.without_variance.remove(&row);
            } else {
                *self.without_variance.entry(row).or_default() += 1;
            }
        }
    }

    /// After a step with the draws after `before` up to `draws`: if they ended a pass over the `rows`, drops those whose last `after`
    /// groups had no reward variance, unless fewer than `per_draw` would be left, and starts the next pass.
    pub(crate) fn end_pass(&mut self, before: usize, draws: usize, rows: usize, per_draw: usize, after: usize) {
        let steps = ((rows - self.dropped.len()) / per_draw.max(1)).max(1);
        let passes = |draws: usize| draws.saturating_sub(self.since_draw) / steps;
        if passes(draws) == passes(before) {
            return;
        }
        let done = self.without_variance.iter().filter(|(_, groups)| **groups >= after).map(|(row, _)| *row);
        let dropped: BTreeSet<usize> = self.dropped.iter().copied().chain(done).collect();
        if dropped.len() > self.dropped.len() && rows - dropped.len() >= per_draw {
            self.dropped = dropped;
            self.since_draw = draws;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_variance_are_dropped_at_the_end_of_a_pass() {
        let mut curriculum = Curriculum::default();
        let seen = |row: usize| (row, row.is_multiple_of(2));
        curriculum.observe((0..4).map(seen));
        curriculum.end_pass(0, 1, 8, 4, 1);
        assert_eq!((curriculum.dropped(), curriculum.in_pass(2)), (0, (2, 0)), "the pass has another draw");
        curriculum.observe((4..8).map(seen));
        curriculum.end_pass(1, 2, 8, 4, 1);
        assert_eq!(curriculum.kept(8), [0, 2, 4, 6]);
        assert_eq!(curriculum.in_pass(3), (1, 2));
        // Fewer than a step's rows would be left.
        curriculum.observe([(0, false)].into_iter());
        curriculum.end_pass(2, 3, 8, 4, 1);
        assert_eq!((curriculum.kept(8).len(), curriculum.in_pass(4)), (4, (2, 2)));
    }

    #[test]
    fn a_group_with_variance_starts_the_count_again() {
        let mut curriculum = Curriculum::default();
        for has_variance in [false, true, false] {
            curriculum.observe([(0, has_variance), (1, false)].into_iter());
        }
        curriculum.end_pass(0, 1, 2, 1, 2);
        assert_eq!(curriculum.dropped(), 0, "the pass has another draw");
        curriculum.end_pass(1, 2, 2, 1, 2);
        assert_eq!(curriculum.kept(2), [0]);
    }
}
