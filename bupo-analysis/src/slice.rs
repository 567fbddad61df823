//! Subsets of tokens.

use std::fmt;

use serde::{Serialize, Serializer};

/// A subset of the response tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slice {
    /// All tokens.
    All,
    /// The tokens at these positions of their response, from 1.
    Positions {
        /// The first position.
        from: usize,
        /// The last position.
        to: usize,
    },
    /// The tokens of responses with a score above 0.5.
    Correct,
    /// The tokens of responses with a score of at most 0.5.
    Incorrect,
}

/// The bucket of a position from 0. Bucket b has the positions `2^b ..= 2^{b+1} - 1`, counted from 1.
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
