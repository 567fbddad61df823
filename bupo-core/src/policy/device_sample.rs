//! Sampling in device memory, so that tokens are read back and not logits.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::sampling_params::SamplingParams;
use crate::kernels::on_gpu;

/// Weights are summed in blocks of this many tokens, then within the block that a draw falls into.
const BLOCK: usize = 256;
/// Numbers per sampled token: its id, its log-prob, the sum of the weights.
pub(super) const SAMPLE_WIDTH: usize = 3;
/// A logit whose weight is 0.
const PADDING_LOGIT: f32 = -1e30;
/// The largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

/// Samples from each row of `logits` `[rows, vocab]` once per uniform of the row: `[rows, draws * 3]`, each draw being
/// the token, its log-prob, and the sum of `exp(logit - max)`, which is not finite if a logit is not. Rows with fewer
/// uniforms than others are filled up with draws to be ignored. With `params` among the tokens that its top-k, top-p and
/// min-p leave, where kernels run for the backend.
pub(super) fn sample_rows<B: Backend>(
    logits: Tensor<B, 2>,
    uniforms: &[Vec<f64>],
    params: Option<&SamplingParams>,
) -> Tensor<B, 2> {
    let ([rows, vocab], device) = (logits.dims(), logits.device());
    let draws = uniforms.iter().map(Vec::len).max().unwrap_or(0);
    let uniform =
        |uniforms: &Vec<f64>, draw: usize| uniforms.get(draw).map_or(0.5, |uniform| (*uniform as f32).min(BELOW_ONE));
    on_gpu!(B, {
        let all: Vec<f32> = uniforms.iter().flat_map(|row| (0..draws).map(move |draw| uniform(row, draw))).collect();
        let restrictions = params.map(|params| bupo_gpu::Restrictions {
            top_k: params.top_k,
            top_p: params.top_p as f32,
            min_p: params.min_p as f32,
        });
        bupo_gpu::sample_rows(logits, Tensor::from_data(TensorData::new(all, [rows, draws]), &device), restrictions)
    });
    assert!(params.is_none(), "tokens are restricted by the kernels or the host");
    let blocks = vocab.div_ceil(BLOCK);
    let max = logits.clone().max_dim(1);
    let padded = match blocks * BLOCK - vocab {
        0 => logits.clone(),
        padding => Tensor::cat(vec![logits.clone(), Tensor::full([rows, padding], PADDING_LOGIT, &device)], 1),
    };
    let weights = (padded - max.clone()).exp().reshape([rows, blocks, BLOCK]);
    let sums = weights.clone().sum_dim(2).reshape([rows, blocks]);
    let ends = sums.clone().cumsum(1);
    let total = ends.clone().slice([0..rows, blocks - 1..blocks]);
    let log_total = total.clone().log();

    let mut drawn = Vec::with_capacity(draws);
    for draw in 0..draws {
        let uniforms: Vec<f32> = uniforms.iter().map(|uniforms| uniform(uniforms, draw)).collect();
        let left = total.clone() * Tensor::from_data(TensorData::new(uniforms, [rows, 1]), &device);
        let block = ends.clone().lower_equal(left.clone()).int().sum_dim(1);
        let before = ends.clone().gather(1, block.clone()) - sums.clone().gather(1, block.clone());
        let place: Tensor<B, 3, Int> = block.clone().reshape([rows, 1, 1]).expand([rows, 1, BLOCK]);
        let within = weights.clone().gather(1, place).reshape([rows, BLOCK]).cumsum(1);
        // With rounding, the draw can fall behind the block's last weight; it belongs to that weight.
        let last = within.clone().slice([0..rows, BLOCK - 1..BLOCK]) * BELOW_ONE;
        let left = (left - before).min_pair(last);
        let inner = within.lower_equal(left).int().sum_dim(1);
        let token = block * BLOCK as i64 + inner;
        let log_prob = logits.clone().gather(1, token.clone()) - max.clone() - log_total.clone();
        drawn.push(Tensor::cat(vec![token.float(), log_prob, total.clone()], 1));
    }
    Tensor::cat(drawn, 1)
}

/// The most probable token of each row of `logits` `[rows, vocab]`, the first one on a tie: `[rows, 3]`, as
/// [`sample_rows`] gives it.
pub(super) fn best_tokens<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    let ([rows, vocab], device) = (logits.dims(), logits.device());
    on_gpu!(B, bupo_gpu::best_tokens(logits));
    let max = logits.clone().max_dim(1);
    let total = (logits.clone() - max.clone()).exp().sum_dim(1);
    let places = Tensor::<B, 1, Int>::arange(0..vocab as i64, &device).unsqueeze_dim::<2>(0).expand([rows, vocab]);
    let token = places.mask_fill(logits.lower(max), vocab as i64).min_dim(1);
    Tensor::cat(vec![token.float(), total.clone().log().neg(), total], 1)
}
