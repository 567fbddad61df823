//! Norms, gates, heads and the softmax of attention.

use bupo_core::kernels::{self, HeadNorms, RopeTable, causal_tiles};
use burn::backend::{Flex, Wgpu};
use burn::tensor::{DType, Tensor, TensorData};

use super::{EPS, ROWS, WIDTH, angles, both, near, near_values, numbers, packed, with_device};

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
        let (dx, dw) = bupo_gpu::rms_norm_backward(x.clone(), w.clone(), EPS, y.clone());
        let (cdx, cdw) = kernels::rms_norm_backward(cx.clone(), cw.clone(), EPS, cy.clone());
        near("d norm / d x", dtype, dx, cdx.clone());
        near("d norm / d weight", dtype, dw, cdw.clone());
        let (d_sum, cd_sum) = both([ROWS, WIDTH], 4.0, dtype);
        let (d, dw) = bupo_gpu::add_rms_norm_backward(x, w, EPS, d_sum, y);
        near("d sum", dtype, d, cdx + cd_sum);
        near("d weight of the norm of the sum", dtype, dw, cdw);
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
            let norms = bupo_gpu::HeadNorms { q: wq, k: wk, eps: EPS };
            let cnorms = HeadNorms { q: cwq, k: cwk, eps: EPS };
            for with_norm in [false, true] {
                let (norms, cnorms) = (with_norm.then_some(&norms), with_norm.then_some(&cnorms));
                let ours = bupo_gpu::rotate_heads(q.clone(), k.clone(), norms, table.clone(), batch);
                let (eq, ek) = kernels::rotated_heads(cq.clone(), ck.clone(), cnorms, &ctable, batch);
                near("queries", dtype, ours.q, eq);
                near("keys", dtype, ours.k, ek);
                let (d_q, cd_q) = both([batch, heads, seq, head_dim], 8.0, dtype);
                let (d_k, cd_k) = both([batch, kv_heads, seq, head_dim], 9.0, dtype);
                let ours = bupo_gpu::rotate_heads_backward(d_q, d_k, q.clone(), k.clone(), norms, table.clone());
                let cpu = kernels::heads_backward(cd_q, cd_k, cq.clone(), ck.clone(), cnorms, &ctable);
                near("d queries", dtype, ours.q, cpu.q);
                near("d keys", dtype, ours.k, cpu.k);
                assert_eq!(ours.weights.is_some(), with_norm);
                for (ours, cpu) in ours.weights.into_iter().zip(cpu.weights) {
                    ours.into_iter().zip(cpu).for_each(|(ours, cpu)| near("d weight", dtype, ours, cpu));
                }
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
