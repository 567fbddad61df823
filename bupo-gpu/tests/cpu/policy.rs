//! Sampling, log-probs and entropies.

use bupo_core::{InternalPolicy, Sampled, SamplingParams, token_tensor};
use burn::backend::{Flex, Wgpu};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

use super::{ROWS, both, near_values, numbers, with_device};

#[test]
fn sampling() {
    with_device(|_| {
        for vocab in [5, 256, 700] {
            // Of both signs, with ties.
            let values: Vec<f32> = (0..ROWS * vocab).map(|i| ((i * 7919) % 331) as f32 / 40.0 - 4.0).collect();
            let data = TensorData::new(values, [ROWS, vocab]);
            let logits = Tensor::<Wgpu, 2>::from_data(data.clone(), &Default::default());
            let cpu = Default::default();
            let policy = InternalPolicy::<Flex>::new(Tensor::from_data(data, &cpu), Tensor::eye(vocab, &cpu));
            let uniforms: Vec<Vec<f64>> =
                (0..ROWS).map(|row| (0..3).map(|i| (row as f64 * 0.37 + i as f64 * 0.21).fract()).collect()).collect();
            let all: Vec<f32> = uniforms.iter().flatten().map(|uniform| *uniform as f32).collect();
            let all = Tensor::from_data(TensorData::new(all, [ROWS, 3]), &Default::default());
            let expected: Vec<f64> = policy
                .sample_several(&uniforms)
                .unwrap()
                .into_iter()
                .flatten()
                .flat_map(|sampled| [f64::from(sampled.token), f64::from(sampled.log_prob)])
                .collect();
            let pairs = |tensor: Tensor<Wgpu, 2>| -> Vec<f64> {
                numbers(tensor.into_data()).chunks(3).flat_map(|sampled| [sampled[0], sampled[1]]).collect()
            };
            near_values("sampled", DType::F32, &pairs(bupo_gpu::sample_rows(logits.clone(), all, None)), &expected);
            let best: Vec<f64> = policy
                .greedy()
                .unwrap()
                .into_iter()
                .flat_map(|sampled| [f64::from(sampled.token), f64::from(sampled.log_prob)])
                .collect();
            near_values("best", DType::F32, &pairs(bupo_gpu::best_tokens(logits)), &best);
        }
    });
}

/// Draws from logits `[ROWS, vocab]`, once per uniform of a row.
fn draw<B: Backend>(logits: TensorData, uniforms: &[Vec<f64>], params: &SamplingParams) -> Vec<Sampled> {
    let (device, vocab) = (Default::default(), logits.shape[1]);
    let policy = InternalPolicy::<B>::new(Tensor::from_data(logits, &device), Tensor::eye(vocab, &device));
    policy.sample_restricted(uniforms, params, &[&[][..]; ROWS]).unwrap().into_iter().flatten().collect()
}

#[test]
fn sampling_with_restrictions() {
    with_device(|_| {
        let none = SamplingParams::default();
        for params in [
            SamplingParams { top_k: 1, ..none },
            SamplingParams { top_k: 7, ..none },
            SamplingParams { top_k: 10_000, min_p: 0.3, ..none },
            SamplingParams { top_p: 0.3, ..none },
            SamplingParams { top_p: 0.95, ..none },
            SamplingParams { top_p: 1e-9, ..none },
            SamplingParams { min_p: 0.05, ..none },
            SamplingParams { top_k: 60, top_p: 0.8, min_p: 0.3, ..none },
        ] {
            for vocab in [5, 256, 700] {
                // Of both signs, with ties: two or three tokens of each of 331 values.
                let values: Vec<f32> = (0..ROWS * vocab).map(|i| ((i * 7919) % 331) as f32 / 40.0 - 4.0).collect();
                let data = TensorData::new(values, [ROWS, vocab]);
                let uniforms: Vec<Vec<f64>> = (0..ROWS)
                    .map(|row| (0..50).map(|i| (f64::from(i) + 0.01 * row as f64 + 0.3) / 51.0).collect())
                    .collect();
                let expected = draw::<Flex>(data.clone(), &uniforms, &params);
                let drawn = draw::<Wgpu>(data, &uniforms, &params);
                for (ours, theirs) in drawn.iter().zip(&expected) {
                    assert_eq!(ours.token, theirs.token, "{params:?} of {vocab}");
                    assert!((ours.log_prob - theirs.log_prob).abs() < 1e-5, "{ours:?} and {theirs:?}");
                }
            }
        }
    });
}

/// Log-probs and entropies over three slices, and their gradient, beside sums in f64.
#[test]
fn unembedding() {
    with_device(|dtype| {
        let (vocab, scale) = (613, 1.25);
        let (_, clogits) = both([ROWS, vocab], 1.0, dtype);
        let raw = numbers(clogits.to_data());
        let targets: Vec<u32> = (0..ROWS).map(|i| (i * 97 % vocab) as u32).collect();
        let (d, e): (Vec<f32>, Vec<f32>) = (0..ROWS).map(|i| ((i as f32 * 0.7).sin(), (i as f32 * 1.3).cos())).unzip();
        let device = Default::default();
        let column = |value: f32| Tensor::<Wgpu, 2>::from_data(TensorData::new(vec![value; ROWS], [ROWS, 1]), &device);
        let slice = |start: usize, width: usize| {
            let data = clogits.clone().narrow(1, start, width).into_data().convert_dtype(dtype);
            Tensor::<Wgpu, 2>::from_data(data, (&device, dtype))
        };
        let slices = [(0, 250), (250, 1), (251, 362)];
        let mut state =
            bupo_gpu::SoftmaxState { max: column(-1e30), sum: column(0.0), weighted: column(0.0), target: column(0.0) };
        for (start, width) in slices {
            let ids = token_tensor(&targets, &device);
            state = bupo_gpu::fold_logits(state, slice(start, width), Some(ids), start, scale);
        }
        let [max, sum, weighted, target] =
            [&state.max, &state.sum, &state.weighted, &state.target].map(|part| numbers(part.to_data()));
        let vector = |values: &[f32]| Tensor::<Wgpu, 1>::from_data(TensorData::new(values.to_vec(), [ROWS]), &device);
        for with_entropy in [false, true] {
            let parts: Vec<(usize, usize, Vec<f64>)> = slices
                .into_iter()
                .map(|(start, width)| {
                    let (ids, entropy) = (token_tensor(&targets, &device), with_entropy.then(|| vector(&e)));
                    let part =
                        bupo_gpu::logit_gradient(&state, slice(start, width), ids, vector(&d), entropy, start, scale);
                    (start, width, numbers(part.into_data()))
                })
                .collect();
            for row in 0..ROWS {
                let x: Vec<f64> = raw[row * vocab..(row + 1) * vocab].iter().map(|x| x * scale).collect();
                let log_sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
                let entropy = -x.iter().map(|x| (x - log_sum).exp() * (x - log_sum)).sum::<f64>();
                let log_prob = x[targets[row] as usize] - log_sum;
                near_values("log-prob", DType::F32, &[target[row] - max[row] - sum[row].ln()], &[log_prob]);
                near_values("entropy", DType::F32, &[sum[row].ln() - weighted[row] / sum[row]], &[entropy]);
                let share = if with_entropy { f64::from(e[row]) } else { 0.0 };
                let expected: Vec<f64> = x
                    .iter()
                    .enumerate()
                    .map(|(id, x)| {
                        let log_prob = x - log_sum;
                        let hit = if id == targets[row] as usize { f64::from(d[row]) } else { 0.0 };
                        (hit - log_prob.exp() * (f64::from(d[row]) + share * (log_prob + entropy))) * scale
                    })
                    .collect();
                let ours: Vec<f64> =
                    parts.iter().flat_map(|(_, width, part)| part[row * width..(row + 1) * width].to_vec()).collect();
                near_values("d logits", DType::F32, &ours, &expected);
            }
        }
    });
}
