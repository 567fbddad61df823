//! NVIDIA GPUs.

use burn::backend::Cuda;
use burn::backend::cuda::CudaDevice;
use burn::tensor::backend::Backend;
use cudarc::driver::CudaContext;

use super::choice::DeviceChoice;
use super::detect::supported_dtypes;
use super::driver::{catch_driver_panic, run_on_gpu, try_device};
use super::kind::{DetectedDevice, DeviceInfo, DeviceKind, Job, Memory};
use crate::error::CliError;

pub struct CudaGpu;

impl DeviceKind for CudaGpu {
    fn detect(&self) -> Vec<DetectedDevice> {
        let missing = |reason: String| vec![DetectedDevice { choice: DeviceChoice::Cuda(0), info: Err(reason) }];
        match count() {
            Ok(0) => missing("there is no NVIDIA GPU".into()),
            Ok(count) => (0..count)
                .map(|index| DetectedDevice { choice: DeviceChoice::Cuda(index), info: describe(index) })
                .collect(),
            Err(reason) => missing(format!("{reason}; if there is an NVIDIA GPU, install its driver")),
        }
    }

    fn preferred(&self) -> Option<DeviceChoice> {
        count().is_ok_and(|count| count > 0).then_some(DeviceChoice::Cuda(0))
    }

    fn check(&self, index: usize) -> Result<(), CliError> {
        let count = count().map_err(|reason| {
            CliError::Message(format!(
                "CUDA is not available ({reason}); install the NVIDIA driver, or choose --device cpu"
            ))
        })?;
        if index < count {
            return Ok(());
        }
        Err(CliError::Message(format!(
            "there is no cuda:{index}; this machine has {count} NVIDIA GPUs, counted from 0; see bupo devices"
        )))
    }

    fn name(&self, index: usize) -> Option<String> {
        catch_driver_panic(|| CudaContext::new(index).ok()?.name().ok()).ok()?
    }

    fn memory(&self, index: usize) -> Option<Memory> {
        let (free, total) = catch_driver_panic(|| CudaContext::new(index).ok()?.mem_get_info().ok()).ok()??;
        Some(Memory { free: free as u64, total: total as u64 })
    }

    fn run<J: Job>(&self, index: usize, job: J) -> Result<J::Output, CliError> {
        self.check(index)?;
        run_on_gpu(|| job.run::<Cuda>(&CudaDevice::new(index)))
    }
}

/// The number of GPUs, or why none is usable.
fn count() -> Result<usize, String> {
    catch_driver_panic(|| {
        try_device::<Cuda>(&Default::default());
        <Cuda>::device_count(0)
    })
}

fn describe(index: usize) -> Result<DeviceInfo, String> {
    let context = CudaContext::new(index).map_err(|error| error.to_string())?;
    let (free, total) = context.mem_get_info().map_err(|error| error.to_string())?;
    let (major, minor) = context.compute_capability().map_err(|error| error.to_string())?;
    let dtypes = catch_driver_panic(|| supported_dtypes::<Cuda>(&CudaDevice::new(index)))?;
    Ok(DeviceInfo {
        name: context.name().map_err(|error| error.to_string())?,
        memory: Memory { free: free as u64, total: total as u64 }.describe(),
        driver: format!("CUDA, compute capability {major}.{minor}"),
        dtypes,
    })
}
