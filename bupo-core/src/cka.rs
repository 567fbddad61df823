//! Linear centred kernel alignment of two sets of states at the same positions (Kornblith et al., arXiv 1905.00414):
//!
//! ```text
//! CKA(X, Y) = ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)      with centred columns
//! ```
//!
//! It is 1 for states that are equal up to a rotation and a scale. Both passes read the states batch by batch and hold matrices of
//! `[hidden, hidden]` only: the first sums the products, the second how much each position adds to them.

use burn::tensor::{DType, Tensor, backend::Backend};

use crate::kernels::sum_of_squares;

/// The sum of `(x - mean x) (y - mean y)^T` over positions, while they are added.
#[derive(Debug, Clone, Default)]
pub struct CovarianceSum<B: Backend> {
    sums: Option<Sums<B>>,
}

#[derive(Debug, Clone)]
struct Sums<B: Backend> {
    /// What is subtracted from all states, `[1, hidden]`: the means of the first batch. Sums of states far from 0 would round.
    shifts: [Tensor<B, 2>; 2],
    /// Of the shifted states, `[1, hidden]`.
    totals: [Tensor<B, 2>; 2],
    /// Of the products of the shifted states, `[hidden of x, hidden of y]`.
    products: Tensor<B, 2>,
    count: usize,
}

/// The covariance of two sets of states, and the means that it is about.
#[derive(Debug, Clone)]
pub struct Covariance<B: Backend> {
    /// `[1, hidden]`.
    means: [Tensor<B, 2>; 2],
    /// Per position, `[hidden of x, hidden of y]`.
    matrix: Tensor<B, 2>,
}

impl<B: Backend> CovarianceSum<B> {
    /// Adds states of the same positions, `[positions, hidden]`.
    ///
    /// # Panics
    /// If there are not as many of `y` as of `x`.
    pub fn add(&mut self, x: Tensor<B, 2>, y: Tensor<B, 2>) {
        let ([count, _], [others, _]) = (x.dims(), y.dims());
        assert_eq!(count, others, "states of the same positions");
        if count == 0 {
            return;
        }
        let states = [x, y].map(|states| states.cast(DType::F32));
        let shifts = match &self.sums {
            Some(sums) => sums.shifts.clone(),
            None => states.clone().map(|states| states.mean_dim(0)),
        };
        let [x, y] = shifted(states, &shifts);
        let totals = [x.clone().sum_dim(0), y.clone().sum_dim(0)];
        let products = x.transpose().matmul(y);
        self.sums = Some(match self.sums.take() {
            None => Sums { shifts, totals, products, count },
            Some(sums) => {
                let ([a, b], [c, d]) = (sums.totals, totals);
                Sums { shifts, totals: [a + c, b + d], products: sums.products + products, count: sums.count + count }
            }
        });
    }

    /// The covariance; `None` if nothing was added.
    pub fn finish(self) -> Option<Covariance<B>> {
        let Sums { shifts, totals, products, count } = self.sums?;
        let [x, y] = totals.map(|total| total / count as f64);
        let matrix = products / count as f64 - x.clone().transpose().matmul(y.clone());
        let [a, b] = shifts;
        Some(Covariance { means: [a + x, b + y], matrix })
    }
}

impl<B: Backend> Covariance<B> {
    /// The square of the Frobenius norm.
    pub fn squared_norm(&self) -> f64 {
        sum_of_squares(self.matrix.clone().flatten::<1>(0, 1)).into_data().iter::<f64>().sum()
    }

    /// How much each position adds to [`Self::squared_norm`] if it counts once more, times half the number of positions:
    /// `(x - mean x)^T C (y - mean y)` of states `[positions, hidden]`. Their mean over all positions is the squared norm.
    pub fn forms(&self, x: Tensor<B, 2>, y: Tensor<B, 2>) -> Vec<f32> {
        let [x, y] = shifted([x, y].map(|states| states.cast(DType::F32)), &self.means);
        (x.matmul(self.matrix.clone()) * y).sum_dim(1).into_data().iter::<f32>().collect()
    }
}

/// Linear CKA from the squared norms of the covariances of x and y, of x and x, and of y and y; NaN if the states of either are all
/// equal.
pub fn linear_cka([both, x, y]: [f64; 3]) -> f64 {
    let size = (x * y).sqrt();
    if size > 0.0 { both / size } else { f64::NAN }
}

fn shifted<B: Backend>([x, y]: [Tensor<B, 2>; 2], [a, b]: &[Tensor<B, 2>; 2]) -> [Tensor<B, 2>; 2] {
    [x - a.clone(), y - b.clone()]
}

#[cfg(test)]
mod tests {
    use burn::backend::{Flex, NdArray};
    use burn::tensor::TensorData;

    use super::*;

    const POSITIONS: usize = 9;

    fn numbers(count: usize, seed: f64, mean: f64) -> Vec<f64> {
        (0..count).map(|i| ((i as f64 + seed) * 12.9898).sin() * (1.0 + (i % 3) as f64) + mean).collect()
    }

    fn states<B: Backend>(values: &[f64], hidden: usize) -> Tensor<B, 2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / hidden, hidden]), &Default::default())
    }

    fn sum<B: Backend>(x: &[f64], y: &[f64], [a, b]: [usize; 2], batch: usize) -> Covariance<B> {
        let mut sum = CovarianceSum::default();
        for (x, y) in x.chunks(batch * a).zip(y.chunks(batch * b)) {
            sum.add(states::<B>(x, a), states(y, b));
        }
        sum.finish().unwrap()
    }

    fn cka<B: Backend>(x: &[f64], y: &[f64], [a, b]: [usize; 2], batch: usize) -> f64 {
        let norm = |x: &[f64], y: &[f64], widths| sum::<B>(x, y, widths, batch).squared_norm();
        linear_cka([norm(x, y, [a, b]), norm(x, x, [a, a]), norm(y, y, [b, b])])
    }

    /// `||Y^T X||_F^2` of positions with weights, about their weighted means, in f64.
    fn reference(x: &[f64], y: &[f64], [a, b]: [usize; 2], weights: &[f64]) -> f64 {
        let total: f64 = weights.iter().sum();
        let mean = |values: &[f64], width: usize, column: usize| {
            weights.iter().enumerate().map(|(row, weight)| weight * values[row * width + column]).sum::<f64>() / total
        };
        let entry = |i: usize, j: usize| {
            let (mx, my) = (mean(x, a, i), mean(y, b, j));
            let product = |(row, weight): (usize, &f64)| weight * (x[row * a + i] - mx) * (y[row * b + j] - my);
            weights.iter().enumerate().map(product).sum::<f64>()
        };
        (0..a).flat_map(|i| (0..b).map(move |j| (i, j))).map(|(i, j)| entry(i, j).powi(2)).sum()
    }

    #[test]
    fn cka_matches_its_definition_for_every_batch_size() {
        check::<Flex>();
        check::<NdArray>();
    }

    fn check<B: Backend>() {
        let (x, y) = (numbers(POSITIONS * 4, 0.3, 50.0), numbers(POSITIONS * 3, 7.7, -20.0));
        let weights = [1.0; POSITIONS];
        let norm = |x: &[f64], y: &[f64], widths| reference(x, y, widths, &weights);
        let expected = norm(&x, &y, [4, 3]) / (norm(&x, &x, [4, 4]) * norm(&y, &y, [3, 3])).sqrt();
        for batch in [1, 2, 4, 100] {
            let ours = cka::<B>(&x, &y, [4, 3], batch);
            assert!((ours - expected).abs() < 1e-5 && ours < 0.99, "{batch}: {ours} for {expected}");
        }
    }

    #[test]
    fn cka_is_1_for_itself_and_invariant_to_rotation_scale_and_shift() {
        let (x, y) = (numbers(POSITIONS * 2, 0.3, 1.0), numbers(POSITIONS * 3, 7.7, 0.0));
        let (sin, cos) = 0.7_f64.sin_cos();
        let turned: Vec<f64> = x
            .chunks(2)
            .flat_map(|row| [(cos * row[0] - sin * row[1]) * 3.0 + 10.0, (sin * row[0] + cos * row[1]) * 3.0])
            .collect();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} for {b}");
        near(cka::<Flex>(&x, &x, [2, 2], 4), 1.0);
        near(cka::<Flex>(&x, &turned, [2, 2], 4), 1.0);
        near(cka::<Flex>(&turned, &y, [2, 3], 4), cka::<Flex>(&x, &y, [2, 3], 4));
        near(cka::<Flex>(&y, &x, [3, 2], 4), cka::<Flex>(&x, &y, [2, 3], 4));
        // Another scale of one direction is no rotation.
        let stretched: Vec<f64> = x.chunks(2).flat_map(|row| [row[0] * 5.0, row[1]]).collect();
        assert!(cka::<Flex>(&x, &stretched, [2, 2], 4) < 0.99);
        assert!(cka::<Flex>(&[1.0; POSITIONS * 2], &y, [2, 3], 4).is_nan());
        assert!(CovarianceSum::<Flex>::default().finish().is_none());
    }

    #[test]
    fn forms_are_the_derivatives_of_the_squared_norm() {
        let (x, y) = (numbers(POSITIONS * 4, 0.3, 5.0), numbers(POSITIONS * 3, 7.7, -2.0));
        let covariance = sum::<Flex>(&x, &y, [4, 3], 4);
        let forms = covariance.forms(states(&x, 4), states(&y, 3));
        let count = POSITIONS as f64;
        let mean = forms.iter().map(|form| f64::from(*form)).sum::<f64>() / count;
        assert!((mean - covariance.squared_norm()).abs() < 1e-4 * mean);
        for position in 0..POSITIONS {
            let at = |step: f64| {
                let mut weights = [1.0; POSITIONS];
                weights[position] += step;
                reference(&x, &y, [4, 3], &weights)
            };
            // Of the products, which are the covariance times the number of positions.
            let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
            let ours = 2.0 * count * f64::from(forms[position]);
            assert!((ours - expected).abs() < 1e-3 * (1.0 + expected.abs()), "{position}: {ours} for {expected}");
        }
    }
}
