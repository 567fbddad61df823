//! A single process.

use crate::{Collective, CollectiveError};

/// A single process: every sum is its own value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn reduce_scatter(&self, values: &[f32], part: &mut [f32]) -> Result<(), CollectiveError> {
        part.copy_from_slice(values);
        Ok(())
    }

    fn all_gather(&self, part: &[u32], all: &mut [u32]) -> Result<(), CollectiveError> {
        all.copy_from_slice(part);
        Ok(())
    }

    fn broadcast(&self, _words: &mut [u32]) -> Result<(), CollectiveError> {
        Ok(())
    }

    fn abort(&self) -> ! {
        std::process::exit(1)
    }
}
