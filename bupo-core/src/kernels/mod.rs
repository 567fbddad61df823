//! The operations of a decoder and its policies, forward and backward, except attention over a KV cache.
//!
//! On the CPU backend (f32 in host memory) a kernel is a loop over rows on all cores, one pass over memory. On every
//! other backend it is a composition of tensor operations, and on CUDA and WGPU a launch or two of `bupo-gpu`, if
//! `BUPO_KERNELS=on` is in the environment. All agree to rounding.

mod adamw;
mod attention;
mod check;
mod embedding;
mod heads;
pub(crate) mod host;
mod linear;
mod norm;
mod packed;
mod product;
mod rope;
mod sum_of_squares;
mod swiglu;

/// Returns the result of a GPU's kernel where those run on a backend.
macro_rules! on_gpu {
    ($B:ty, $call:expr) => {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if bupo_gpu::runs::<$B>() {
            return $call;
        }
    };
}
pub(crate) use on_gpu;

/// Whether the kernels of GPUs run on a backend.
pub fn runs_on_gpu<B: burn::tensor::backend::Backend>() -> bool {
    on_gpu!(B, true);
    false
}

/// Whether the kernels of GPUs are turned on, for backends that they run on.
pub fn gpu_kernels_are_on() -> bool {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return bupo_gpu::turned_on();
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    false
}

pub use adamw::{
    AdamWStep, BLOCK as MOMENT_BLOCK, DynamicMap, EightBit, Moment, MomentDtype, Noise, adamw, adamw_stored,
};
pub use attention::{
    AttentionGradient, AttentionOutput, CausalTile, attention, attention_backward, attention_tile, causal_tiles,
};
pub use bupo_gemm::{Bf16Unit, vector_units};
pub use check::{KernelDifference, check_kernels};
pub use embedding::add_rows;
pub use heads::{HeadGradients, HeadNorms, heads_backward, rotated_heads};
pub use host::activation_dtype;
pub(crate) use linear::add;
pub use linear::{linear, linears, linears_of_many_rows};
pub use norm::{add_rms_norm, add_rms_norm_backward, rms_norm, rms_norm_backward};
pub use packed::{PackedWeight, bf16_unit, bf16_weight_gradient, product_dtype};
pub(crate) use product::add_product;
pub use product::{matmul, widens_products};
pub use rope::RopeTable;
pub use sum_of_squares::{sum_of_all_squares, sum_of_squares};
pub use swiglu::{SwigluGradient, swiglu, swiglu_backward, swiglu_joined};

#[cfg(test)]
mod tests {
    use burn::backend::{Flex, NdArray};
    use burn::tensor::{DType, Tensor};

    use super::check::{STEP, irregular};
    use super::rope::{apply_rope, apply_rope_backward};
    use super::*;
    use crate::kv_cache::{CacheRoom, KvCache};

    /// The same irregular numbers on a backend with loops and on one with composed tensor operations.
    fn both<const D: usize>(shape: [usize; D], seed: f64) -> (Tensor<Flex, D>, Tensor<NdArray, D>) {
        let data = irregular(shape, seed);
        (Tensor::from_data(data.clone(), &Default::default()), Tensor::from_data(data, &Default::default()))
    }

    fn near<const D: usize>(what: &str, loops: Tensor<Flex, D>, composed: Tensor<NdArray, D>) {
        assert_eq!(loops.dims(), composed.dims(), "{what}");
        let (loops, composed) = (loops.into_data(), composed.into_data());
        for (a, b) in loops.iter::<f64>().zip(composed.iter::<f64>()) {
            assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{what}: {a} and {b}");
        }
    }

    #[test]
    fn loops_and_tensor_operations_agree() {
        let (cpu, other) = (Default::default(), Default::default());
        let ((x, nx), (w, nw), (dy, ndy)) = (both([70, 24], 0.1), both([24], 5.0), both([70, 24], 9.0));
        near("norm", rms_norm(x.clone(), w.clone(), 1e-6), rms_norm(nx.clone(), nw.clone(), 1e-6));
        let (dx, dw) = rms_norm_backward(x.clone(), w, 1e-6, dy.clone());
        let (ndx, ndw) = rms_norm_backward(nx.clone(), nw, 1e-6, ndy.clone());
        near("d norm / d x", dx, ndx);
        near("d norm / d weight", dw, ndw);

        near("swiglu", swiglu(x.clone(), dy.clone()), swiglu(nx.clone(), ndy.clone()));
        let (up, nup) = both([70, 24], 3.0);
        let ours = swiglu_backward(x.clone(), up, dy.clone());
        let theirs = swiglu_backward(nx.clone(), nup, ndy.clone());
        near("swiglu again", ours.hidden, theirs.hidden);
        near("d swiglu / d gate", ours.d_gate, theirs.d_gate);
        near("d swiglu / d up", ours.d_up, theirs.d_up);

        for (shared, factor) in [(true, 1.0), (false, 1.0), (true, 1.25)] {
            let positions: Vec<usize> = if shared { (0..5).collect() } else { (0..15).map(|i| i * 7 % 11).collect() };
            let angles = |position: &usize| [1.0, 0.3, 0.02, 0.001].map(|frequency| *position as f32 * frequency);
            let angles: Vec<f32> = positions.iter().flat_map(angles).collect();
            let table = RopeTable::<Flex>::new(&angles, factor, 8, 5, DType::F32, &cpu);
            let ntable = RopeTable::<NdArray>::new(&angles, factor, 8, 5, DType::F32, &other);
            let (heads, nheads) = both([15, 2 * 8], 6.0);
            let (ours, theirs) = (apply_rope(heads.clone(), &table, 3, 8), apply_rope(nheads.clone(), &ntable, 3, 8));
            near("rotation", ours.clone(), theirs.clone());
            let (back, nback) = (apply_rope_backward(ours, &table), apply_rope_backward(theirs, &ntable));
            near("rotation and back", back.clone(), nback);
            near("the backward pass inverts a rotation", back, nheads * (factor * factor));
        }

        let ((p, np), (g, ng)) = (both([4, 5], 0.5), both([4, 5], 8.0));
        let ((m, nm), (v, nv)) = (both([4, 5], 2.0), both([4, 5], 7.0));
        let (p, m, v) = adamw(p, g, m, v.abs(), &STEP);
        let (np, nm, nv) = adamw(np, ng, nm, nv.abs(), &STEP);
        near("weights", p, np);
        near("first moments", m, nm);
        near("second moments", v, nv);
    }

    /// Sequences shorter and longer than the tiles of queries and keys of either.
    #[test]
    fn attention_in_tiles_and_by_tensor_operations_agree() {
        for (batch, heads, kv_heads, seq, head_dim) in
            [(2, 6, 2, 1, 8), (2, 6, 2, 7, 8), (1, 2, 2, 57, 16), (1, 4, 1, 200, 6), (1, 2, 1, 1100, 4)]
        {
            let ((q, nq), (k, nk)) =
                (both([batch, heads, seq, head_dim], 1.0), both([batch, kv_heads, seq, head_dim], 3.0));
            let ((v, nv), (d, nd)) =
                (both([batch * seq, kv_heads * head_dim], 4.0), both([batch * seq, heads * head_dim], 5.0));
            let what = format!("{batch} x {heads}/{kv_heads} x {seq} x {head_dim}");
            let tiles = causal_tiles::<Flex>(seq, DType::F32, &Default::default());
            let ntiles = causal_tiles::<NdArray>(seq, DType::F32, &Default::default());
            let ours = attention(q.clone(), k.clone(), v.clone(), &tiles, 0.3);
            let theirs = attention(nq.clone(), nk.clone(), nv.clone(), &ntiles, 0.3);
            near(&what, ours.mixed.clone(), theirs.mixed.clone());
            let ours = attention_backward(q, k, v, ours, d, &tiles, 0.3);
            let theirs = attention_backward(nq, nk, nv, theirs, nd, &ntiles, 0.3);
            near(&format!("{what}, d q"), ours.d_q, theirs.d_q);
            near(&format!("{what}, d k"), ours.d_k, theirs.d_k);
            near(&format!("{what}, d v"), ours.d_v, theirs.d_v);
        }
    }

    #[test]
    fn a_sum_of_squares_covers_all_values() {
        for count in [0, 1, 16_384, 40_000] {
            let (values, nvalues) = both([count], 0.3);
            let expected: f64 = values.to_data().iter::<f64>().map(|x| x * x).sum();
            for ours in [sum_of_squares(values).into_scalar(), sum_of_squares(nvalues).into_scalar()] {
                assert!((f64::from(ours) - expected).abs() <= 1e-5 * expected, "{count}: {ours} for {expected}");
            }
        }
    }

    /// Kernels that sum over rows or large matrices, on pools of 1, 2 and 3 threads.
    #[test]
    fn sums_do_not_depend_on_the_number_of_threads() {
        let (large, _) = both([5 << 20], 0.7);
        let ((x, _), (w, _), (dy, _)) = (both([3000, 96], 0.1), both([96], 5.0), both([3000, 96], 9.0));
        let ((a, _), (b, _)) = (both([310, 700], 0.2), both([530, 700], 0.4));
        let computed = || {
            let (dx, dw) = rms_norm_backward(x.clone(), w.clone(), 1e-6, dy.clone());
            let product = linear(a.clone(), b.clone());
            let sum = sum_of_squares(large.clone());
            (sum.into_data(), dx.into_data(), dw.into_data(), product.into_data())
        };
        let expected = computed();
        for threads in [1, 2, 3, 3, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(computed) == expected, "{threads} threads");
        }
    }

    #[test]
    fn both_caches_agree_while_rows_are_admitted_and_evicted() {
        let room = CacheRoom { rows: 3, slots: 70 };
        let (mut ours, mut theirs) = (KvCache::<Flex>::new(2, room), KvCache::<NdArray>::new(2, room));
        let admit = |ours: &mut KvCache<Flex>, theirs: &mut KvCache<NdArray>, seed: f64, sources: &[(usize, usize)]| {
            let layers =
                [0.0, 0.2].map(|layer| (both([2, 2, 5, 6], seed + layer), both([2, 2, 5, 6], seed + 0.5 + layer)));
            ours.admit(&layers.clone().map(|((k, _), (v, _))| (k, v)), sources);
            theirs.admit(&layers.map(|((_, k), (_, v))| (k, v)), sources);
        };
        let step = |ours: &mut KvCache<Flex>, theirs: &mut KvCache<NdArray>, seed: f64| {
            let rows = ours.positions().len();
            assert_eq!(ours.positions(), theirs.positions());
            for layer in 1..3 {
                let seed = seed + layer as f64 / 10.0;
                let ((q, nq), (k, nk), (v, nv)) =
                    (both([rows, 4, 1, 6], seed), both([rows, 2, 1, 6], seed + 3.0), both([rows, 2, 1, 6], seed + 5.0));
                let (ours, theirs) =
                    (ours.attend_rotated(layer, q, k, v, 0.4), theirs.attend_rotated(layer, nq, nk, nv, 0.4));
                near("attention", ours, theirs);
            }
            ours.advance();
            theirs.advance();
        };
        admit(&mut ours, &mut theirs, 1.0, &[(0, 3), (0, 3), (1, 2)]);
        step(&mut ours, &mut theirs, 2.0);
        step(&mut ours, &mut theirs, 4.0);
        ours.keep(&[0, 2]);
        theirs.keep(&[0, 2]);
        step(&mut ours, &mut theirs, 6.0);
        // A row shorter than the present ones, then rows longer than any.
        admit(&mut ours, &mut theirs, 8.0, &[(1, 1)]);
        step(&mut ours, &mut theirs, 9.0);
        ours.keep(&[2]);
        theirs.keep(&[2]);
        admit(&mut ours, &mut theirs, 9.5, &[(1, 5), (0, 4)]);
        // Beyond the first 64 slots, with the longest row evicted on the way.
        for token in 0..59 {
            if token == 50 {
                ours.keep(&[0, 2]);
                theirs.keep(&[0, 2]);
            }
            step(&mut ours, &mut theirs, 10.0 + token as f64);
        }
        ours.keep(&[]);
        theirs.keep(&[]);
        admit(&mut ours, &mut theirs, 80.0, &[(1, 3)]);
        step(&mut ours, &mut theirs, 81.0);
    }

    #[test]
    fn weights_in_bf16_are_multiplied_by_their_values() {
        for rows in [3, 200] {
            let ((x, _), (w, _)) = (both([rows, 20], 0.2), both([33, 20], 0.7));
            let rounded = w.clone().cast(DType::BF16);
            let (ours, exact) = (linear(x.clone(), rounded.clone()), linear(x.clone(), rounded.cast(DType::F32)));
            let largest = |a: Tensor<Flex, 2>, b: Tensor<Flex, 2>| (a - b).abs().max().into_scalar();
            assert!(largest(ours.clone(), exact) < 2e-5, "{rows} rows");
            assert!(largest(ours, linear(x, w)) > 1e-3, "rounding is seen, {rows} rows");
        }
    }

    #[test]
    fn a_row_of_a_product_does_not_depend_on_the_other_rows() {
        let inner = 1100;
        let ((x, nx), (w, nw), (v, nv)) = (both([257, inner], 0.2), both([33, inner], 0.7), both([7, inner], 0.9));
        let ([all, b], [na, nb]) = (linears(x.clone(), [w.clone(), v]), linears(nx, [nw, nv]));
        near("product", all.clone(), na);
        near("product of the same rows", b, nb);
        for rows in [1, 31, 128, 129] {
            let some = linear(x.clone().narrow(0, 0, rows), w.clone()).into_data();
            assert!(some == all.clone().narrow(0, 0, rows).into_data(), "{rows} rows");
        }
    }
}
