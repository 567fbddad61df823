//! Limits on the memory that reading a file takes.

/// The largest text of one value, one message or one line of JSON, in bytes.
pub const MAX_VALUE: usize = 64 << 20;

/// The largest total size of the problems of one file, in bytes.
pub const MAX_TOTAL: u64 = 4 << 30;

/// The budget of a file without its own size, in bytes.
const ALLOWANCE: u64 = 64 << 20;

/// The additional budget for each byte of a file. Text compresses to about a tenth, equal rows to a few hundredths.
const EXPANSION: u64 = 1024;

/// The bytes that reading a file may still take.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    left: u64,
}

/// A file exceeded its budget.
#[derive(Debug, thiserror::Error)]
#[error(
    "reading it takes more than {limit} bytes, the limit for a file of its size; split it, or remove columns or rows"
)]
pub(super) struct Exceeded {
    pub(super) limit: u64,
}

impl Budget {
    /// The budget of a file of `bytes` bytes.
    pub(super) fn of_file(bytes: u64) -> Self {
        let limit = bytes.saturating_mul(EXPANSION).saturating_add(ALLOWANCE).min(MAX_TOTAL);
        Self { limit, left: limit }
    }

    /// Takes bytes from the budget.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(bytes).ok_or(Exceeded { limit: self.limit })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_grows_with_the_file_up_to_the_total() {
        assert_eq!(Budget::of_file(0).left, ALLOWANCE);
        assert_eq!(Budget::of_file(1 << 20).left, ALLOWANCE + (1 << 30));
        assert_eq!(Budget::of_file(u64::MAX).left, MAX_TOTAL);
    }

    #[test]
    fn budget_runs_out_at_its_limit() {
        let mut budget = Budget::of_file(0);
        budget.take(ALLOWANCE as usize).unwrap();
        budget.take(0).unwrap();
        assert_eq!(budget.take(1).unwrap_err().limit, ALLOWANCE);
    }
}
