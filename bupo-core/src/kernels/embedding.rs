//! The gradient of a table of embeddings.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, backend::Backend};

use super::on_gpu;

/// Adds each of `rows` `[tokens, width]` to the row of its token in the f32 `table` `[vocab, width]`.
pub fn add_rows<B: Backend>(table: Tensor<B, 2>, tokens: Tensor<B, 1, Int>, rows: Tensor<B, 2>) -> Tensor<B, 2> {
    on_gpu!(B, bupo_gpu::add_rows(table, tokens, rows));
    table.select_assign(0, tokens, rows.cast(DType::F32), IndexingUpdateOp::Add)
}
