//! Which tokens a mean is over.

use std::fmt;

use serde::{Serialize, Serializer};

/// Some of the responses' tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slice {
    /// All of them.
    All,
    /// Those at these positions in their response, counted from 1.
    Positions {
        /// The first.
        from: usize,
        /// The last.
        to: usize,
    },
    /// Those of responses worth more than half.
    Correct,
    /// Those of responses worth half or less.
    Incorrect,
}

/// The bucket of a position counted from 0. Bucket b holds positions `2^b ..= 2^{b+1} - 1` counted from 1, so that the first
/// token has its own.
pub(crate) fn bucket_of(position: usize) -> usize {
    (position + 1).ilog2() as usize
}

impl Slice {
    /// The positions of a bucket.
    pub(crate) fn bucket(bucket: usize) -> Self {
        let from = 1 << bucket;
        Self::Positions { from, to: 2 * from - 1 }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Positions { from, to } if from == to => write!(f, "position {from}"),
            Self::Positions { from, to } => write!(f, "positions {from}-{to}"),
            Self::Correct => f.write_str("correct"),
            Self::Incorrect => f.write_str("incorrect"),
        }
    }
}

impl Serialize for Slice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_in_the_bucket_that_names_it() {
        for position in 0..100 {
            let Slice::Positions { from, to } = Slice::bucket(bucket_of(position)) else { panic!("positions") };
            assert!((from..=to).contains(&(position + 1)), "{position}: {from} to {to}");
        }
        assert_eq!(Slice::bucket(bucket_of(0)).to_string(), "position 1");
        assert_eq!(Slice::bucket(bucket_of(6)).to_string(), "positions 4-7");
    }
}
