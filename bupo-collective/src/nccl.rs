//! NCCL, between NVIDIA GPUs. The library is loaded when processes join.

mod buffer;
mod rendezvous;

use std::sync::Arc;

use burn::backend::Cuda;
use burn::tensor::backend::{Backend, BackendTypes};
use cudarc::driver::{CudaContext, CudaStream};
use cudarc::nccl::{Comm, Id, ReduceOp};

use crate::collective::{DeviceCollective, DeviceTensor};
use crate::{Collective, CollectiveError, Launch};
use buffer::DeviceBuffer;

/// Burn's tensors on NVIDIA GPUs.
type CudaTensor = <Cuda as BackendTypes>::FloatTensorPrimitive;

/// Processes with one NVIDIA GPU each, joined by NCCL.
pub struct Nccl {
    comm: Comm,
    stream: Arc<CudaStream>,
    rank: usize,
    size: usize,
}

impl Nccl {
    /// Joins the processes; this one has the GPU with this index. They find each other at `MASTER_ADDR`, or on this machine if all of
    /// them are here.
    ///
    /// # Errors
    /// If the library or the GPU is missing, or process 0 cannot be reached.
    pub fn join(launch: &Launch, gpu: usize) -> Result<Self, CollectiveError> {
        let failed = |reason: String| CollectiveError::Join { rank: launch.rank, size: launch.size, reason };
        // Loading a library that is missing panics in the bindings.
        let is_there = std::panic::catch_unwind(|| cudarc::nccl::result::get_nccl_version().is_ok()).unwrap_or(false);
        if !is_there {
            return Err(failed(
                "NCCL cannot be loaded; install libnccl.so.2 and put its folder on LD_LIBRARY_PATH".into(),
            ));
        }
        let context = CudaContext::new(gpu).map_err(|error| failed(format!("cuda:{gpu} cannot be used: {error}")))?;
        let stream = context.new_stream().map_err(|error| failed(error.to_string()))?;
        let id =
            rendezvous::shared_id(launch, || Id::new().map(|id| *id.internal()).map_err(|error| format!("{error:?}")))
                .map_err(failed)?;
        let comm = Comm::from_rank(Arc::clone(&stream), launch.rank, launch.size, Id::uninit(id))
            .map_err(|error| failed(format!("NCCL reports {error:?}; set NCCL_DEBUG=INFO for the reason")))?;
        Ok(Self { comm, stream, rank: launch.rank, size: launch.size })
    }

    /// Waits until the operation is done, so that Burn's own stream sees its result.
    fn finished<T>(&self, result: Result<T, cudarc::nccl::result::NcclError>) -> Result<(), CollectiveError> {
        result.map_err(|error| failure(format!("{error:?}")))?;
        self.stream.synchronize().map_err(|error| failure(error.to_string()))
    }

    /// The tensor as one of this backend, contiguous and in f32, with all work that it waits for done; else the tensor itself.
    fn contiguous(tensor: DeviceTensor) -> Result<Result<CudaTensor, DeviceTensor>, CollectiveError> {
        let tensor = match tensor.downcast::<CudaTensor>() {
            Ok(tensor) => *tensor,
            Err(other) => return Ok(Err(other)),
        };
        if tensor.dtype != burn::tensor::DType::F32 || tensor.meta.strides()[..] != [1] {
            return Ok(Err(Box::new(tensor)));
        }
        Cuda::<f32, i32>::sync(&tensor.device).map_err(|error| failure(error.to_string()))?;
        Ok(Ok(tensor))
    }

    /// An uninitialized tensor on the same device.
    fn room(like: &CudaTensor, length: usize) -> Result<CudaTensor, CollectiveError> {
        let room = <Cuda as burn::tensor::ops::FloatTensorOps<Cuda>>::float_empty(
            burn::tensor::Shape::new([length]),
            &like.device,
            burn::tensor::FloatDType::F32,
        );
        Cuda::<f32, i32>::sync(&like.device).map_err(|error| failure(error.to_string()))?;
        Ok(room)
    }

    /// What the GPU returns for numbers of the host.
    fn on_gpu<
        T: cudarc::driver::DeviceRepr + Clone + Default + cudarc::driver::ValidAsZeroBits + cudarc::nccl::NcclType,
    >(
        &self,
        values: &[T],
        results: &mut [T],
        operation: impl FnOnce(
            &cudarc::driver::CudaSlice<T>,
            &mut cudarc::driver::CudaSlice<T>,
        ) -> Result<cudarc::nccl::result::NcclStatus, cudarc::nccl::result::NcclError>,
    ) -> Result<(), CollectiveError> {
        let driver = |error: cudarc::driver::DriverError| failure(error.to_string());
        let values = self.stream.clone_htod(values).map_err(driver)?;
        let mut received = self.stream.alloc_zeros::<T>(results.len()).map_err(driver)?;
        let done = operation(&values, &mut received);
        self.finished(done)?;
        self.stream.memcpy_dtoh(&received, results).map_err(driver)?;
        self.stream.synchronize().map_err(driver)
    }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn reduce_scatter(&self, values: &[f32], part: &mut [f32]) -> Result<(), CollectiveError> {
        self.on_gpu(values, part, |values, part| self.comm.reduce_scatter(values, part, &ReduceOp::Sum))
    }

    fn all_gather(&self, part: &[u32], all: &mut [u32]) -> Result<(), CollectiveError> {
        self.on_gpu(part, all, |part, all| self.comm.all_gather(part, all))
    }

    fn broadcast(&self, words: &mut [u32]) -> Result<(), CollectiveError> {
        let sent = words.to_vec();
        self.on_gpu(&sent, words, |sent, received| self.comm.broadcast(Some(sent), received, 0))
    }

    /// A signal ends this process, and the launcher the others: NCCL's own abort waits for operations in flight.
    fn abort(&self) -> ! {
        std::process::abort()
    }

    fn on_device(&self) -> Option<&dyn DeviceCollective> {
        Some(self)
    }
}

impl DeviceCollective for Nccl {
    fn reduce_scatter(&self, tensor: DeviceTensor) -> Result<Result<DeviceTensor, DeviceTensor>, CollectiveError> {
        let tensor = match Self::contiguous(tensor)? {
            Ok(tensor) => tensor,
            Err(other) => return Ok(Err(other)),
        };
        let length = tensor.meta.shape()[0];
        let part = Self::room(&tensor, length / self.size)?;
        let (values, mut sums) = (DeviceBuffer::of(&tensor, &self.stream)?, DeviceBuffer::of(&part, &self.stream)?);
        self.finished(self.comm.reduce_scatter(&values, &mut sums, &ReduceOp::Sum))?;
        Ok(Ok(Box::new(part)))
    }

    fn all_gather(&self, part: DeviceTensor) -> Result<Result<DeviceTensor, DeviceTensor>, CollectiveError> {
        let part = match Self::contiguous(part)? {
            Ok(part) => part,
            Err(other) => return Ok(Err(other)),
        };
        let all = Self::room(&part, part.meta.shape()[0] * self.size)?;
        let (sent, mut received) = (DeviceBuffer::of(&part, &self.stream)?, DeviceBuffer::of(&all, &self.stream)?);
        self.finished(self.comm.all_gather(&sent, &mut received))?;
        Ok(Ok(Box::new(all)))
    }
}

fn failure(reason: String) -> CollectiveError {
    CollectiveError::Library { library: "NCCL", reason }
}
