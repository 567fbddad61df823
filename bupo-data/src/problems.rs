//! Problems, and the batches of them that training steps use.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::{error::DataError, message::Message};

/// A problem with its reference answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The prompt.
    pub prompt: Prompt,
    /// The answer that responses are graded against.
    pub answer: String,
    /// The name of the dataset that the problem is from; empty if the file has none.
    pub data_source: String,
}

/// The prompt of a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Messages, which a chat template renders.
    Chat(Vec<Message>),
}

/// The indices of the problems in each batch, epoch after epoch.
///
/// An epoch has as many steps as there are whole batches; the remaining problems are not used in that epoch. Batches are
/// computed from the step alone, so a resumed run uses the same ones.
#[derive(Clone, Debug)]
pub struct Epochs {
    rows: usize,
    batch: usize,
    shuffle: Option<u64>,
}

impl Epochs {
    /// Batches of `batch` out of `rows` problems: in the order of the file, or shuffled in each epoch with the seed
    /// `shuffle`.
    pub fn new(rows: usize, batch: usize, shuffle: Option<u64>) -> Result<Self, DataError> {
        if batch == 0 || batch > rows {
            return Err(DataError::Batch { batch, rows });
        }
        Ok(Self { rows, batch, shuffle })
    }

    /// The number of steps of an epoch.
    pub fn steps(&self) -> usize {
        self.rows / self.batch
    }

    /// The epoch of a step; both are counted from 1.
    pub fn epoch(&self, step: usize) -> usize {
        step.saturating_sub(1) / self.steps() + 1
    }

    /// The indices of the problems of a step. Steps are counted from 1; step 0 is step 1.
    pub fn batch(&self, step: usize) -> Vec<usize> {
        let start = step.saturating_sub(1) % self.steps() * self.batch;
        let mut order: Vec<usize> = (0..self.rows).collect();
        if let Some(seed) = self.shuffle {
            shuffle(&mut order, seed, self.epoch(step) as u64);
        }
        order.into_iter().skip(start).take(self.batch).collect()
    }
}

/// Splits the problems at random into a training set and a validation set of `held_out` problems, each as indices in the
/// order of the file. The same seed gives the same split.
pub fn split_validation(rows: usize, held_out: usize, seed: u64) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    if held_out > 0 && held_out >= rows {
        return Err(DataError::HeldOut { held_out, rows });
    }
    let mut order: Vec<usize> = (0..rows).collect();
    // Epochs are counted from 1, so none has this order.
    shuffle(&mut order, seed, 0);
    let mut training = order.split_off(held_out);
    training.sort_unstable();
    order.sort_unstable();
    Ok((training, order))
}

/// Shuffles with the random numbers of a seed and an epoch. Not `rand`'s shuffle, whose order may differ from version to
/// version: a resumed run must have the same order.
fn shuffle(order: &mut [usize], seed: u64, epoch: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    for last in (1..order.len()).rev() {
        order.swap(last, below(last as u64 + 1, &mut random) as usize);
    }
}

/// A uniformly distributed number below `bound`, by Lemire's method: the high half of a product with a random number,
/// which is drawn again if the low half is in the range that would bias the result.
fn below(bound: u64, random: &mut impl RngCore) -> u64 {
    let biased = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(random.next_u64()) * u128::from(bound);
        if product as u64 >= biased {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn epoch(epochs: &Epochs, number: usize) -> Vec<usize> {
        let first = (number - 1) * epochs.steps() + 1;
        (first..first + epochs.steps()).flat_map(|step| epochs.batch(step)).collect()
    }

    #[test]
    fn an_epoch_takes_every_problem_once() {
        let epochs = Epochs::new(12, 4, Some(7)).unwrap();
        for number in 1..20 {
            let taken = epoch(&epochs, number);
            assert_eq!(taken.len(), 12);
            assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), (0..12).collect());
        }
    }

    #[test]
    fn problems_beyond_the_last_whole_batch_differ_between_epochs() {
        let epochs = Epochs::new(11, 4, Some(3)).unwrap();
        assert_eq!(epochs.steps(), 2);
        let taken: Vec<BTreeSet<_>> = (1..30).map(|number| epoch(&epochs, number).into_iter().collect()).collect();
        assert!(taken.iter().all(|taken| taken.len() == 8));
        assert_eq!(taken.into_iter().flatten().collect::<BTreeSet<_>>().len(), 11);
    }

    #[test]
    fn epochs_and_seeds_have_different_orders() {
        let epochs = Epochs::new(100, 10, Some(1)).unwrap();
        let other = Epochs::new(100, 10, Some(2)).unwrap();
        let orders = [epoch(&epochs, 1), epoch(&epochs, 2), epoch(&epochs, 1000), epoch(&other, 1)];
        assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(orders[0], epoch(&epochs.clone(), 1));
    }

    #[test]
    fn orders_do_not_change_between_versions() {
        assert_eq!(Epochs::new(8, 8, Some(42)).unwrap().batch(1), [6, 3, 7, 0, 4, 2, 1, 5]);
        assert_eq!(split_validation(8, 3, 42).unwrap().1, [0, 4, 7]);
    }

    #[test]
    fn without_a_seed_the_order_is_that_of_the_file() {
        let epochs = Epochs::new(5, 2, None).unwrap();
        let batches: Vec<_> = (1..=4).map(|step| epochs.batch(step)).collect();
        assert_eq!(batches, [[0, 1], [2, 3], [0, 1], [2, 3]]);
        assert_eq!([1, 2, 3, 4, 5].map(|step| epochs.epoch(step)), [1, 1, 2, 2, 3]);
    }

    #[test]
    fn every_order_is_equally_likely() {
        let epochs = Epochs::new(3, 3, Some(9)).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for step in 1..=6000 {
            *counts.entry(epochs.batch(step)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_largest_step_and_step_0_have_batches() {
        let epochs = Epochs::new(3, 1, Some(0)).unwrap();
        assert_eq!(epochs.batch(usize::MAX).len(), 1);
        assert_eq!(epochs.batch(0), epochs.batch(1));
    }

    #[test]
    fn batches_larger_than_the_data_are_errors() {
        let error = Epochs::new(3, 4, None).unwrap_err().to_string();
        assert_eq!(error, "a batch of 4 cannot be drawn from 3 problems: take a batch of 1 to 3");
        assert!(Epochs::new(3, 0, None).is_err() && Epochs::new(0, 1, None).is_err());
    }

    #[test]
    fn validation_sets_are_disjoint_and_reproducible() {
        let (training, held_out) = split_validation(50, 10, 5).unwrap();
        assert_eq!((training.len(), held_out.len()), (40, 10));
        let all: BTreeSet<_> = training.iter().chain(&held_out).copied().collect();
        assert_eq!(all, (0..50).collect());
        assert!(training.is_sorted() && held_out.is_sorted());
        assert_eq!(split_validation(50, 10, 5).unwrap().1, held_out);
        assert_ne!(split_validation(50, 10, 6).unwrap().1, held_out);
        assert_eq!(split_validation(2, 0, 5).unwrap(), (vec![0, 1], vec![]));
        assert!(split_validation(0, 0, 5).is_ok());
        let error = split_validation(3, 3, 5).unwrap_err().to_string();
        assert_eq!(error, "3 problems cannot be held out of 3: hold out fewer than 3");
    }
}
