//! Gradients by parameter.

use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{DType, Tensor, backend::Backend};

/// Gradients of the parameters that have one, each as one row of numbers, in f32 whatever they were computed in.
#[derive(Debug, Clone)]
pub struct Gradients<B: Backend> {
    /// In the order of ids, which is the checkpoint's, so that sums over all are the same in every run.
    by_id: BTreeMap<u64, Tensor<B, 1>>,
}

impl<B: Backend> Gradients<B> {
    /// No parameter has a gradient.
    pub fn new() -> Self {
        Self { by_id: BTreeMap::new() }
    }

    /// Adds to the gradient of one parameter.
    pub fn add<const D: usize>(&mut self, id: ParamId, gradient: Tensor<B, D>) {
        let gradient: Tensor<B, 1> = gradient.flatten(0, D - 1).cast(DType::F32);
        let sum = match self.by_id.remove(&id.val()) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.by_id.insert(id.val(), sum);
    }

    /// Takes a parameter's gradient out, if it has one.
    pub fn take(&mut self, id: ParamId) -> Option<Tensor<B, 1>> {
        self.by_id.remove(&id.val())
    }

    /// The root of the sum of all squares.
    pub fn norm(&self) -> f64 {
        let squares: Vec<Tensor<B, 1>> = self.by_id.values().map(|gradient| gradient.clone().square().sum()).collect();
        if squares.is_empty() {
            return 0.0;
        }
        Tensor::cat(squares, 0).into_data().iter::<f64>().sum::<f64>().sqrt()
    }
}

impl<B: Backend> Default for Gradients<B> {
    fn default() -> Self {
        Self::new()
    }
}
