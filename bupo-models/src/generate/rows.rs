//! Rows of token ids.

use bupo_core::token_tensor;
use burn::tensor::{Int, Tensor, backend::Backend};

use crate::ModelError;

/// Checks rows of token ids against a vocabulary.
///
/// # Errors
/// If a row is empty or an id is outside the vocabulary; the error names the first.
pub fn check_tokens(rows: &[Vec<u32>], vocab: usize) -> Result<(), ModelError> {
    for (row, ids) in rows.iter().enumerate() {
        if ids.is_empty() {
            return Err(ModelError::Tokens(format!("row {} has no tokens; a model needs at least one", row + 1)));
        }
        if let Some(position) = ids.iter().position(|id| *id as usize >= vocab) {
            return Err(ModelError::TokenOutOfRange { id: ids[position], row: row + 1, position: position + 1, vocab });
        }
    }
    Ok(())
}

/// Rows padded on the right with token 0 to the longest row, as a tensor `[rows, longest]`.
pub fn padded_tokens<B: Backend>(rows: &[Vec<u32>], device: &B::Device) -> Tensor<B, 2, Int> {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let ids: Vec<u32> =
        rows.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat_n(0, longest - ids.len()))).collect();
    token_tensor(&ids, device).reshape([rows.len(), longest])
}
