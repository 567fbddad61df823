//! Each kernel on the default WGPU device beside the loops of the CPU backend. Without a device nothing is compared.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used)]

use bupo_core::kernels::{self, AdamWStep, HeadNorms, RopeTable, causal_tiles};
use bupo_core::kv_cache::{CacheRoom, KvCache};
use bupo_core::{InternalPolicy, token_tensor};
use bupo_gpu::AdamWNumbers;
use burn::backend::{Flex, Wgpu};
use burn::tensor::{DType, Tensor, TensorData};

/// Rows and columns are odd, and more than a cube has units.
const ROWS: usize = 37;
const WIDTH: usize = 301;
const EPS: f64 = 1e-6;

/// The same irregular numbers on both, rounded to `dtype`; f32 on the CPU.
fn both<const D: usize>(shape: [usize; D], seed: f64, dtype: DType) -> (Tensor<Wgpu, D>, Tensor<Flex, D>) {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (((i as f64 + seed) * 12.9898).sin() * 2.0) as f32).collect();
    let rounded = TensorData::new(values, shape).convert_dtype(dtype);
    let exact = rounded.clone().convert_dtype(DType::F32);
    let device = Default::default();
    (Tensor::from_data(rounded, (&device, dtype)), Tensor::from_data(exact, &Default::default()))
}

fn numbers(data: TensorData) -> Vec<f64> {
    data.convert_dtype(DType::F64).iter::<f64>().collect()
}

fn near<const D: usize>(what: &str, dtype: DType, ours: Tensor<Wgpu, D>, cpu: Tensor<Flex, D>) {
    assert_eq!(ours.dims(), cpu.dims(), "{what}");
    near_values(what, dtype, &numbers(ours.into_data()), &numbers(cpu.into_data()));
}

fn near_values(what: &str, dtype: DType, ours: &[f64], cpu: &[f64]) {
    assert_eq!(ours.len(), cpu.len(), "{what}");
    let size = cpu.iter().fold(1e-3_f64, |size, value| size.max(value.abs()));
    let allowed = if dtype == DType::F32 { 1e-5 } else { 4e-3 };
    for (index, (a, b)) in ours.iter().zip(cpu).enumerate() {
        assert!((a - b).abs() <= allowed * size, "{what} in {dtype:?} at {index}: {a} and {b} of {size}");
    }
}

/// Whether there is a device; checks each dtype that kernels are called with.
fn with_device(check: impl Fn(DType)) {
    let there = std::panic::catch_unwind(|| both([1], 0.0, DType::F32).0.into_data());
    if there.is_err() {
        println!("no WGPU device: nothing is compared");
        return;
    }
    bupo_gpu::with_kernels(true, || [DType::F32, DType::F16].into_iter().for_each(check));
}

#[test]
fn norms() {
    with_device(|dtype| {
        let ((x, cx), (y, cy), (w, cw)) =
            (both([ROWS, WIDTH], 0.1, dtype), both([ROWS, WIDTH], 7.0, dtype), both([WIDTH], 3.0, DType::F32));
        near(
            "norm",
            dtype,
            bupo_gpu::rms_norm(x.clone(), w.clone(), EPS),
            kernels::rms_norm(cx.clone(), cw.clone(), EPS),
        );
        let (sum, normed) = bupo_gpu::add_rms_norm(x.clone(), y.clone(), w.clone(), EPS);
        near("sum", dtype, sum, cx.clone() + cy.clone());
        near("norm of the sum", dtype, normed, kernels::rms_norm(cx.clone() + cy.clone(), cw.clone(), EPS));
        let (dx, dw) = bupo_gpu::rms_norm_backward(x, w, EPS, y);
        let (cdx, cdw) = kernels::rms_norm_backward(cx, cw, EPS, cy);
        near("d norm / d x", dtype, dx, cdx);
        near("d norm / d weight", dtype, dw, cdw);
        // More rows than parts.
        let ((x, cx), (y, cy), (w, cw)) =
            (both([2500, 12], 0.1, dtype), both([2500, 12], 7.0, dtype), both([12], 3.0, DType::F32));
        let (dx, dw) = bupo_gpu::rms_norm_backward(x, w, EPS, y);
        let (cdx, cdw) = kernels::rms_norm_backward(cx, cw, EPS, cy);
        near("d norm / d x of many rows", dtype, dx, cdx);
        near("d norm / d weight of many rows", dtype, dw, cdw);
    });
}

#[test]
fn swiglu() {
    with_device(|dtype| {
        let ((gate, cgate), (up, cup), (d, cd)) =
            (both([ROWS, WIDTH], 0.1, dtype), both([ROWS, WIDTH], 7.0, dtype), both([ROWS, WIDTH], 3.0, dtype));
        let expected = kernels::swiglu(cgate.clone(), cup.clone());
        near("apart", dtype, bupo_gpu::swiglu(gate.clone(), Some(up.clone())), expected.clone());
        let (joined, cjoined) = both([ROWS, 2 * WIDTH], 2.0, dtype);
        let halves = [0, WIDTH].map(|start| cjoined.clone().narrow(1, start, WIDTH));
        let [cgate2, cup2] = halves;
        near("joined", dtype, bupo_gpu::swiglu(joined, None), kernels::swiglu(cgate2, cup2));
        let [hidden, d_gate, d_up] = bupo_gpu::swiglu_backward(gate, up, d);
        let back = kernels::swiglu_backward(cgate, cup, cd);
        near("again", dtype, hidden, back.hidden);
        near("d gate", dtype, d_gate, back.d_gate);
        near("d up", dtype, d_up, back.d_up);
    });
}

fn angles(positions: &[usize], head_dim: usize) -> Vec<f32> {
    let angle = |position: usize, pair: usize| position as f32 * [1.0, 0.3, 0.1, 0.02, 0.001][pair % 5];
    positions.iter().flat_map(|position| (0..head_dim / 2).map(move |pair| angle(*position, pair))).collect()
}

/// The table of the kernels: cosines of a position, then its sines.
fn packed(positions: &[usize], head_dim: usize) -> Tensor<Wgpu, 2> {
    let angles = angles(positions, head_dim);
    let of = |row: &[f32]| -> Vec<f32> { row.iter().map(|x| x.cos()).chain(row.iter().map(|x| x.sin())).collect() };
    let values: Vec<f32> = angles.chunks(head_dim / 2).flat_map(of).collect();
    Tensor::from_data(TensorData::new(values, [positions.len(), head_dim]), &Default::default())
}

#[test]
fn heads() {
    with_device(|dtype| {
        for (batch, seq, heads, kv_heads, head_dim, shared) in
            [(3, 7, 6, 2, 10, true), (2, 5, 2, 2, 16, false), (1, 3, 4, 1, 130, true)]
        {
            let tokens = batch * seq;
            let (q, cq) = both([tokens, heads * head_dim], 1.0, dtype);
            let (k, ck) = both([tokens, kv_heads * head_dim], 2.0, dtype);
            let ((wq, cwq), (wk, cwk)) = (both([head_dim], 3.0, DType::F32), both([head_dim], 5.0, DType::F32));
            let positions: Vec<usize> =
                if shared { (0..seq).collect() } else { (0..tokens).map(|i| i * 7 % 11).collect() };
            let table = packed(&positions, head_dim);
            let cpu = Default::default();
            let ctable = RopeTable::new(&angles(&positions, head_dim), 1.0, head_dim, seq, DType::F32, &cpu);
            let norms = bupo_gpu::HeadNorms { q: wq.clone(), k: wk, eps: EPS };
            let cnorms = HeadNorms { q: cwq.clone(), k: cwk, eps: EPS };
            for with_norm in [false, true] {
                let (norms, cnorms) = (with_norm.then_some(&norms), with_norm.then_some(&cnorms));
                let ours = bupo_gpu::rotate_heads(q.clone(), k.clone(), norms, table.clone(), batch);
                let (eq, ek) = kernels::rotated_heads(cq.clone(), ck.clone(), cnorms, &ctable, batch);
                near("queries", dtype, ours.q, eq);
                near("keys", dtype, ours.k, ek);
                let (d, cd) = both([batch, heads, seq, head_dim], 8.0, dtype);
                let norm = with_norm.then(|| (wq.clone(), EPS));
                let (dx, dw) = bupo_gpu::rotate_heads_backward(d, q.clone(), norm, table.clone());
                let cnorm = with_norm.then(|| (cwq.clone(), EPS));
                let (cdx, cdw) = kernels::head_backward(cd, cq.clone(), cnorm, &ctable);
                near("d heads", dtype, dx, cdx);
                assert_eq!(dw.is_some(), with_norm);
                if let (Some(dw), Some(cdw)) = (dw, cdw) {
                    near("d weight", dtype, dw, cdw);
                }
            }
        }
    });
}

/// Rows of different lengths that end at one slot, more tokens than a cube has units.
#[test]
fn cache() {
    with_device(|dtype| {
        for (heads, kv_heads, head_dim, prompt) in [(6, 2, 10, 5), (2, 2, 64, 300), (8, 1, 160, 129)] {
            let lengths = [prompt, prompt - 4, 1];
            let (end, slots) = (prompt, prompt + 3);
            let (keys, ckeys) = both([3, kv_heads, prompt, head_dim], 1.0, dtype);
            let (values, cvalues) = both([3, kv_heads, prompt, head_dim], 2.0, dtype);
            // Sequence i's first tokens are at the last slots of row i.
            let placed = |cpu: &Tensor<Flex, 4>| {
                let mut all = vec![7.0_f32; 3 * kv_heads * slots * head_dim];
                let from: Vec<f32> = cpu.to_data().iter::<f32>().collect();
                for (row, len) in lengths.into_iter().enumerate() {
                    for head in 0..kv_heads {
                        let (row_head, size) = (row * kv_heads + head, len * head_dim);
                        let to = (row_head * slots + end - len) * head_dim;
                        all[to..to + size].copy_from_slice(&from[row_head * prompt * head_dim..][..size]);
                    }
                }
                let data = TensorData::new(all, [3, kv_heads, slots, head_dim]).convert_dtype(dtype);
                Tensor::<Wgpu, 4>::from_data(data, (&Default::default(), dtype))
            };
            drop((keys, values));
            let mut cached = [placed(&ckeys), placed(&cvalues)];
            let mut cpu = KvCache::<Flex>::new(1, CacheRoom { rows: 3, slots: 3 });
            cpu.admit(&[(ckeys, cvalues)], &[(0, lengths[0]), (1, lengths[1]), (2, lengths[2])]);
            let starts: Vec<u32> = lengths.iter().map(|len| (end - len) as u32).collect();
            let starts = token_tensor::<Wgpu>(&starts, &Default::default());
            let ((wq, cwq), (wk, cwk)) = (both([head_dim], 3.0, DType::F32), both([head_dim], 5.0, DType::F32));
            let norms = bupo_gpu::HeadNorms { q: wq, k: wk, eps: EPS };
            let cnorms = HeadNorms { q: cwq, k: cwk, eps: EPS };
            let table = packed(&(0..slots).collect::<Vec<_>>(), head_dim);
            for step in 0..3 {
                let width = (heads + 2 * kv_heads) * head_dim;
                let (qkv, cqkv) = both([3, width], 4.0 + step as f64, dtype);
                let part = |start: usize, heads: usize| cqkv.clone().narrow(1, start * head_dim, heads * head_dim);
                let (cq, ck, cv) = (part(0, heads), part(heads, kv_heads), part(heads + kv_heads, kv_heads));
                let ctable = cpu.rotation(|positions, seq| {
                    RopeTable::new(&angles(positions, head_dim), 1.0, head_dim, seq, DType::F32, &Default::default())
                });
                let expected = cpu.attend(1, cq.clone(), Some([ck.clone(), cv.clone()]), Some(&cnorms), &ctable, 0.3);
                cpu.advance();
                let low = |x: Tensor<Flex, 2>| {
                    Tensor::<Wgpu, 2>::from_data(x.into_data().convert_dtype(dtype), (&Default::default(), dtype))
                };
                let (q, kv) = if step == 1 { (low(cq), Some([low(ck), low(cv)])) } else { (qkv, None) };
                let at = end + step;
                let (q, new) =
                    bupo_gpu::rotate_into_cache(q, kv, Some(&norms), table.clone(), starts.clone(), at, cached);
                cached = new.clone();
                let [keys, values] = new;
                let rows = bupo_gpu::CacheRows { keys, values, starts: starts.clone(), end: at + 1 };
                let what = format!("{heads}/{kv_heads} heads of {head_dim}, {prompt} tokens, step {step}");
                near(&what, dtype, bupo_gpu::attend_cached(q, rows, 0.3), expected);
            }
        }
    });
}

/// The softmax of whole attention, beside the CPU's attention by values that pick out single keys.
#[test]
fn causal_softmax() {
    with_device(|dtype| {
        let (seq, keys, scale) = (70, 70, 0.4);
        let (scores, cscores) = both([2, 3, seq, keys], 1.0, dtype);
        let (d, cd) = both([2, 3, seq, keys], 5.0, dtype);
        // Queries 30 and later alone: keys are seen from the first on.
        let first = 30;
        let late = |x: Tensor<Flex, 4>| x.narrow(2, first, seq - first);
        let low = |x: Tensor<Flex, 4>| {
            Tensor::<Wgpu, 4>::from_data(x.into_data().convert_dtype(dtype), (&Default::default(), dtype))
        };
        let scores_of = |x: &Tensor<Flex, 4>| numbers(x.to_data());
        let (raw, raw_d) = (scores_of(&cscores), scores_of(&cd));
        let mut expected = vec![0.0; raw.len()];
        let mut expected_d = vec![0.0; raw.len()];
        for (row, (out, d_out)) in expected.chunks_mut(keys).zip(expected_d.chunks_mut(keys)).enumerate() {
            let seen = row % seq + 1;
            let (x, g) = (&raw[row * keys..][..seen], &raw_d[row * keys..][..seen]);
            let total: f64 = x.iter().map(|x| (x * scale).exp()).sum();
            x.iter().zip(out.iter_mut()).for_each(|(x, out)| *out = (x * scale).exp() / total);
            let along: f64 = out.iter().zip(g).map(|(w, g)| w * g).sum();
            out.iter().zip(g).zip(d_out).for_each(|((w, g), d)| *d = w * (g - along) * scale);
        }
        let weights = bupo_gpu::causal_softmax(scores.clone(), 0, scale);
        near_values("weights", dtype, &numbers(weights.to_data()), &expected);
        let d_scores = bupo_gpu::softmax_backward(weights, d, 0, scale);
        near_values("d scores", dtype, &numbers(d_scores.into_data()), &expected_d);
        let shape = [2, 3, seq, keys];
        let to_flex = |values: Vec<f64>| {
            Tensor::<Flex, 4>::from_data(TensorData::new(values, shape).convert_dtype(DType::F32), &Default::default())
        };
        let weights = bupo_gpu::causal_softmax(low(late(cscores)), first, scale);
        near("late weights", dtype, weights.clone(), late(to_flex(expected)));
        let d_scores = bupo_gpu::softmax_backward(weights, low(late(cd)), first, scale);
        near("late d scores", dtype, d_scores, late(to_flex(expected_d)));
        // Shared scores are not written to.
        let copy = scores.clone();
        bupo_gpu::causal_softmax(scores, 0, scale);
        near_values("scores", dtype, &numbers(copy.into_data()), &raw);
        assert!(causal_tiles::<Flex>(seq, DType::F32, &Default::default()).is_empty());
    });
}

#[test]
fn optimizer() {
    with_device(|dtype| {
        let shape = [ROWS, WIDTH];
        let ((p, cp), (g, cg), (m, cm), (v, cv)) = (
            both(shape, 0.5, DType::F32),
            both(shape, 8.0, DType::F32),
            both(shape, 2.0, DType::F32),
            both(shape, 7.0, DType::F32),
        );
        let squared = |x: Tensor<Flex, 2>| x.clone() * x;
        let cv = squared(cv);
        drop(v);
        let v = Tensor::<Wgpu, 2>::from_data(cv.to_data(), &Default::default());
        let (learning_rate, beta1, beta2, epsilon, weight_decay, scale) = (0.1, 0.9, 0.99, 1e-8, 0.1, 0.5);
        let step = AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, scale, step: 3 };
        let numbers_of = AdamWNumbers {
            scale: scale as f32,
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            size: (learning_rate / (1.0 - beta1.powi(3))) as f32,
            root_factor: (1.0 / (1.0 - beta2.powi(3)).sqrt()) as f32,
            epsilon: epsilon as f32,
            kept: (1.0 - learning_rate * weight_decay) as f32,
        };
        let kept = p.clone();
        let (p, m, v) = bupo_gpu::adamw(p, g, m, v, &numbers_of);
        let before = cp.clone();
        let (cp, cm, cv) = kernels::adamw(cp, cg, cm, cv, &step);
        near("weights", DType::F32, p, cp);
        near("first moments", DType::F32, m, cm);
        near("second moments", DType::F32, v, cv);
        near("shared weights", DType::F32, kept, before);

        let tensors =
            [(40_001, 0.3), (5, 0.6), (0, 0.0), (16_384, 0.9)].map(|(count, seed)| both([count], seed, DType::F32));
        let (ours, cpu): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        let sum = kernels::sum_of_all_squares(cpu);
        near_values("squares", DType::F32, &[bupo_gpu::sum_of_squares(ours)], &[sum]);

        let tokens: Vec<u32> = (0..ROWS).map(|i| (i * i % 11) as u32).collect();
        let ((table, ctable), (rows, crows)) = (both([13, WIDTH], 0.8, DType::F32), both(shape, 0.2, dtype));
        let ours = bupo_gpu::add_rows(table, token_tensor(&tokens, &Default::default()), rows);
        near("embedding", dtype, ours, kernels::add_rows(ctable, token_tensor(&tokens, &Default::default()), crows));
    });
}

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
            near_values("sampled", DType::F32, &pairs(bupo_gpu::sample_rows(logits.clone(), all)), &expected);
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
