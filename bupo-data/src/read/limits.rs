//! How much memory a file may ask for.

/// The largest text of one value, one message or one line of JSON.
pub const MAX_VALUE: usize = 64 << 20;

/// The largest sum of the problems read from one file.
pub const MAX_TOTAL: u64 = 4 << 30;

/// Every file may ask for this much, however small it is.
const ALLOWANCE: u64 = 64 << 20;

/// Above the allowance, how many bytes a file may ask for by each byte it has. Text compresses to a tenth; a row repeated
/// throughout a file to a few hundredths; a thousand times is a file made to fill the memory.
const EXPANSION: u64 = 1024;

/// What is left of the bytes a file may ask for.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    left: u64,
}

/// A file asked for more than its budget.
#[derive(Debug, thiserror::Error)]
#[error("it asks for more than {limit} bytes, the most a file of its size may; split it, or leave columns or rows out")]
pub(super) struct Exceeded {
    pub(super) limit: u64,
}

impl Budget {
    /// The budget of a file of so many bytes.
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
