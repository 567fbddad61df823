//! Gradients by parameter.

use std::collections::BTreeMap;

use bupo_core::kernels::sum_of_all_squares;
use burn::module::ParamId;
use burn::tensor::{DType, Tensor, backend::Backend};

use super::trained::Trained;

/// Gradients of the parameters that have one, each flattened, in f32 whatever the compute dtype.
#[derive(Debug, Clone)]
pub struct Gradients<B: Backend> {
    /// In the order of ids, which is the checkpoint's, so that sums over all parameters have one order.
    by_id: BTreeMap<u64, Tensor<B, 1>>,
    /// The parameters that can have one.
    trained: Trained,
}

impl<B: Backend> Gradients<B> {
    /// No gradients.
    pub fn new() -> Self {
        Self::of(Trained::default())
    }

    pub(super) fn of(trained: Trained) -> Self {
        Self { by_id: BTreeMap::new(), trained }
    }

    /// Whether a parameter is trained, so that its gradient is worth computing.
    pub fn wants(&self, id: ParamId) -> bool {
        self.trained.has(id)
    }

    /// Adds to the gradient of one parameter, if it is trained.
    pub fn add<const D: usize>(&mut self, id: ParamId, gradient: Tensor<B, D>) {
        if !self.wants(id) {
            return;
        }
        let gradient: Tensor<B, 1> = gradient.flatten(0, D - 1).cast(DType::F32);
        let sum = match self.by_id.remove(&id.val()) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.by_id.insert(id.val(), sum);
    }

    /// Removes and returns a parameter's gradient, if it has one.
    pub fn take(&mut self, id: ParamId) -> Option<Tensor<B, 1>> {
        self.by_id.remove(&id.val())
    }

    /// The parameters that have a gradient, with its length.
    pub fn lengths(&self) -> BTreeMap<u64, usize> {
        self.by_id.iter().map(|(id, gradient)| (*id, gradient.dims()[0])).collect()
    }

    /// The global norm: the root of [`Self::sum_of_squares`].
    pub fn norm(&self) -> f64 {
        self.sum_of_squares().sqrt()
    }

    /// The cosine with other gradients, over the parameters that have a gradient in both; `None` if one of the two is 0 there.
    pub fn cosine(&self, other: &Self) -> Option<f64> {
        let both = || self.by_id.iter().filter_map(|(id, own)| Some((own.clone(), other.by_id.get(id)?.clone())));
        let own = sum_of_all_squares(both().map(|(own, _)| own).collect());
        let others = sum_of_all_squares(both().map(|(_, other)| other).collect());
        let norms = own.sqrt() * others.sqrt();
        // The inner product by the polarization identity, from sums that are accurate in f64.
        let sum = sum_of_all_squares(both().map(|(own, other)| own + other).collect());
        let difference = sum_of_all_squares(both().map(|(own, other)| own - other).collect());
        let product = (sum - difference) / 4.0;
        (norms > 0.0).then(|| product / norms)
    }

    /// The sum of all squares. Its bits do not depend on the number of threads.
    pub fn sum_of_squares(&self) -> f64 {
        sum_of_all_squares(self.by_id.values().cloned().collect())
    }
}

impl<B: Backend> Default for Gradients<B> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn the_cosine_is_over_the_parameters_of_both() {
        let values =
            |count: usize, phase: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.7 + phase).sin()).collect() };
        let (a, b, alone) = (values(5_000, 0.0), values(5_000, 0.9), values(300, 0.3));
        let tensor = |values: &[f32]| Tensor::<Flex, 1>::from_floats(values, &Default::default());
        let (mut first, mut second) = (Gradients::<Flex>::new(), Gradients::<Flex>::new());
        first.add(ParamId::from(1), tensor(&a));
        second.add(ParamId::from(1), tensor(&b));
        // A parameter of the second alone does not count.
        second.add(ParamId::from(2), tensor(&alone));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let expected = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        for cosine in [first.cosine(&second), second.cosine(&first)] {
            let cosine = cosine.unwrap();
            assert!((cosine - expected).abs() < 1e-6, "{cosine} for {expected}");
        }
        assert!((second.cosine(&second).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(first.cosine(&Gradients::new()), None);
    }

    #[test]
    fn the_norm_has_the_same_bits_for_any_number_of_threads() {
        // Above the size at which the CPU backend's own sum runs on several threads.
        let values: Vec<f32> = (0..(4 << 20) + 12_345).map(|i| ((i as f32) * 0.37).sin()).collect();
        let expected = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let shape = [values.len()];
        let mut gradients = Gradients::<Flex>::new();
        gradients
            .add(ParamId::from(1), Tensor::<Flex, 1>::from_data(TensorData::new(values, shape), &Default::default()));
        let norm = gradients.norm();
        assert!((norm - expected).abs() < 1e-6 * expected, "{norm} for {expected}");
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for _ in 0..5 {
                assert_eq!(pool.install(|| gradients.norm()).to_bits(), norm.to_bits(), "{threads} threads");
            }
        }
    }
}
