//! Geometry of states of the residual stream: cosines, norms and participation ratios.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use crate::tokens::token_tensor;

/// The cosine of each state of `a` with that of `b` at the same position, both `[tokens, hidden]`; 0 if either state is
/// 0.
pub fn cosines<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Vec<f32> {
    let unit = |states: Tensor<B, 2>| {
        let states = states.cast(DType::F32);
        let length = lengths(states.clone()).clamp_min(f32::MIN_POSITIVE);
        states / length
    };
    (unit(a) * unit(b)).sum_dim(1).clamp(-1.0, 1.0).into_data().iter::<f32>().collect()
}

/// The Euclidean norm of each state `[tokens, hidden]`.
pub fn norms<B: Backend>(states: Tensor<B, 2>) -> Vec<f32> {
    lengths(states.cast(DType::F32)).into_data().iter::<f32>().collect()
}

/// Euclidean norms, `[tokens, 1]`, divided by the largest entry first so that squares cannot overflow.
fn lengths<B: Backend>(states: Tensor<B, 2>) -> Tensor<B, 2> {
    let largest = states.clone().abs().max_dim(1).clamp_min(f32::MIN_POSITIVE);
    (states / largest.clone()).powf_scalar(2.0).sum_dim(1).sqrt() * largest
}

/// The participation ratio (tr C)^2 / tr C^2 of the covariance C of each group of states, an effective number of
/// dimensions: from 1 to min(hidden, group size - 1), or 0 if all states of the group are equal. `states` is
/// `[tokens, hidden]`, with groups of `lengths` states one after another.
pub fn participation_ratios<B: Backend>(states: Tensor<B, 2>, lengths: &[usize]) -> Vec<f64> {
    let (groups, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    if longest == 0 {
        return vec![0.0; groups];
    }
    let (hidden, device) = (states.dims()[1], states.device());
    // Groups are padded to one length with state 0, which the mask removes.
    let starts = lengths.iter().scan(0, |start, length| Some(std::mem::replace(start, *start + length)));
    let (mut index, mut mask) = (Vec::new(), Vec::new());
    for (start, length) in starts.zip(lengths) {
        index.extend((0..longest).map(|i| if i < *length { (start + i) as u32 } else { 0 }));
        mask.extend((0..longest).map(|i| if i < *length { 1.0_f32 } else { 0.0 }));
    }
    let mask = Tensor::<B, 3>::from_data(TensorData::new(mask, [groups, longest, 1]), &device);
    let sizes: Vec<f32> = lengths.iter().map(|length| (*length).max(1) as f32).collect();
    let sizes = Tensor::<B, 3>::from_data(TensorData::new(sizes, [groups, 1, 1]), &device);
    let grouped = states.cast(DType::F32).select(0, token_tensor(&index, &device));
    let grouped = grouped.reshape([groups, longest, hidden]) * mask.clone();
    let centred = (grouped.clone() - grouped.sum_dim(1) / sizes) * mask;
    let scale = centred.clone().abs().max_dim(2).max_dim(1).clamp_min(f32::MIN_POSITIVE);
    let centred = centred / scale;
    // Both products have the same trace and the same sum of squares; the smaller one is computed.
    let gram = if longest < hidden {
        centred.clone().matmul(centred.clone().transpose())
    } else {
        centred.clone().transpose().matmul(centred.clone())
    };
    let total = |values: Tensor<B, 3>| values.powf_scalar(2.0).sum_dim(2).sum_dim(1).reshape([groups, 1]);
    let values: Vec<f64> = Tensor::cat(vec![total(centred), total(gram)], 1).into_data().iter::<f64>().collect();
    values.chunks_exact(2).map(|pair| if pair[1] > 0.0 { pair[0] * pair[0] / pair[1] } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn cosines_and_norms_match_their_definitions() {
        let device = Default::default();
        let a = Tensor::<Flex, 2>::from_floats([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1e30, 0.0]], &device);
        let b = Tensor::from_floats([[6.0, 8.0], [-2.0, 0.0], [1.0, 1.0], [1e30, 1e30]], &device);
        let expected = [1.0, -1.0, 0.0, 0.5_f32.sqrt()];
        for (ours, expected) in cosines(a.clone(), b).iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-6, "{ours} for {expected}");
        }
        assert_eq!(norms(a), [5.0, 1.0, 0.0, 1e30]);
    }

    #[test]
    fn participation_ratios_match_known_covariances() {
        let device = Default::default();
        let ratio = |states: &[&[f64]]| {
            let shape = [states.len(), states[0].len()];
            let alone = Tensor::<Flex, 2>::from_data(TensorData::new(states.concat(), shape), &device);
            // Groups of other lengths in the same call change nothing.
            let together = Tensor::cat(vec![alone.clone().narrow(0, 0, 1) * 7.0, alone.clone(), alone.clone()], 0);
            let ratios = participation_ratios(together, &[1, states.len(), 0, states.len()]);
            assert_eq!((ratios[0], ratios[1], ratios[2]), (0.0, ratios[3], 0.0));
            assert_eq!(ratios[1], participation_ratios(alone, &[states.len()])[0]);
            ratios[1]
        };
        let near = |ours: f64, expected: f64| assert!((ours - expected).abs() < 1e-4, "{ours} for {expected}");
        near(ratio(&[&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]]), 0.0);
        near(ratio(&[&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]]), 1.0);
        // A square: two dimensions of equal variance, with either of the two products.
        near(ratio(&[&[1.0, 0.0], &[-1.0, 0.0], &[0.0, 1.0], &[0.0, -1.0]]), 2.0);
        near(
            ratio(&[
                &[5.0, 0.0, 9.0, 9.0, 9.0],
                &[-5.0, 0.0, 9.0, 9.0, 9.0],
                &[0.0, 5.0, 9.0, 9.0, 9.0],
                &[0.0, -5.0, 9.0, 9.0, 9.0],
            ]),
            2.0,
        );
        // Variances in the ratio 4 to 1: (4 + 1)^2 / (16 + 1).
        near(ratio(&[&[2.0, 0.0], &[-2.0, 0.0], &[0.0, 1.0], &[0.0, -1.0]]), 25.0 / 17.0);
    }
}
