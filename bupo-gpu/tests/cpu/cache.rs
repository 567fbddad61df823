//! A row's newest token in the cache, and attention over it.

use bupo_core::kernels::{HeadNorms, RopeTable};
use bupo_core::kv_cache::{CacheRoom, KvCache};
use bupo_core::token_tensor;
use burn::backend::{Flex, Wgpu};
use burn::tensor::{DType, Tensor, TensorData};

use super::{EPS, angles, both, near, packed, with_device};

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
