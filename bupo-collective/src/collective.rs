//! The interface of what connects processes.

use std::any::Any;

use crate::CollectiveError;

/// A device tensor of one dimension, in f32: a backend's primitive.
pub type DeviceTensor = Box<dyn Any>;

/// Connects `size` processes. All of them make the same calls in the same order; a call returns when all have made it. Results
/// have the same bits in all processes.
pub trait Collective {
    /// This process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn size(&self) -> usize;

    /// Sums `values`, `size` parts of equal length, over the processes; each gets the part of its rank.
    ///
    /// # Errors
    /// If the library fails.
    fn reduce_scatter(&self, values: &[f32], part: &mut [f32]) -> Result<(), CollectiveError>;

    /// Collects a part of each process, all of equal length, in the order of ranks.
    ///
    /// # Errors
    /// If the library fails.
    fn all_gather(&self, part: &[u32], all: &mut [u32]) -> Result<(), CollectiveError>;

    /// Overwrites `words` with those of process 0.
    ///
    /// # Errors
    /// If the library fails.
    fn broadcast(&self, words: &mut [u32]) -> Result<(), CollectiveError>;

    /// Called before each operation. Process 0 may wait here until the others have arrived, and says for which it still waits.
    ///
    /// # Errors
    /// If the library fails.
    fn arrive(&self, _waits_for: &dyn Fn(&[usize])) -> Result<(), CollectiveError> {
        Ok(())
    }

    /// Ends all processes at once.
    fn abort(&self) -> !;

    /// The same operations on tensors that stay on the device, if there are any.
    fn on_device(&self) -> Option<&dyn DeviceCollective> {
        None
    }
}

/// Operations on tensors that stay on the device. `Err` returns a tensor of another backend.
pub trait DeviceCollective {
    /// As [`Collective::reduce_scatter`].
    ///
    /// # Errors
    /// Outside: if the library fails. Inside: the tensor, if it is not on such a device.
    fn reduce_scatter(&self, tensor: DeviceTensor) -> Result<Result<DeviceTensor, DeviceTensor>, CollectiveError>;

    /// As [`Collective::all_gather`].
    ///
    /// # Errors
    /// As [`Self::reduce_scatter`].
    fn all_gather(&self, part: DeviceTensor) -> Result<Result<DeviceTensor, DeviceTensor>, CollectiveError>;
}
