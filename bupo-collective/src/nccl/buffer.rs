//! A tensor's memory as NCCL takes it.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop};

use super::{CudaTensor, failure};
use crate::CollectiveError;

/// The memory of a contiguous tensor in f32, which outlives it.
pub(super) struct DeviceBuffer<'a> {
    pointer: CUdeviceptr,
    length: usize,
    stream: Arc<CudaStream>,
    /// Keeps the memory.
    _tensor: &'a CudaTensor,
}

impl<'a> DeviceBuffer<'a> {
    /// # Errors
    /// If the memory cannot be found.
    pub(super) fn of(tensor: &'a CudaTensor, stream: &Arc<CudaStream>) -> Result<Self, CollectiveError> {
        let resource = tensor.client.get_resource(tensor.handle.clone()).map_err(|error| failure(error.to_string()))?;
        Ok(Self {
            pointer: resource.resource().ptr,
            length: tensor.meta.shape()[0],
            stream: Arc::clone(stream),
            _tensor: tensor,
        })
    }
}

impl DeviceSlice<f32> for DeviceBuffer<'_> {
    fn len(&self) -> usize {
        self.length
    }

    fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

// The caller has waited for Burn's stream before, and waits for NCCL's afterwards.
impl DevicePtr<f32> for DeviceBuffer<'_> {
    fn device_ptr<'a>(&'a self, _stream: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        (self.pointer, SyncOnDrop::Sync(None))
    }
}

impl DevicePtrMut<f32> for DeviceBuffer<'_> {
    fn device_ptr_mut<'a>(&'a mut self, _stream: &'a CudaStream) -> (CUdeviceptr, SyncOnDrop<'a>) {
        (self.pointer, SyncOnDrop::Sync(None))
    }
}
