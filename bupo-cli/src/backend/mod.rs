//! Devices and the Burn backends that run on them. Only the files of this folder name concrete backends.

mod choice;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cpu", feature = "wgpu", feature = "cuda"))]
mod detect;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod driver;
mod kind;
#[cfg(not(all(feature = "cpu", feature = "wgpu", feature = "cuda")))]
mod not_compiled;
mod processor;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use choice::DeviceChoice;
pub use kind::{DetectedDevice, Job, Memory};
pub use processor::processor;

use crate::error::CliError;
use kind::DeviceKind;
#[cfg(not(all(feature = "cpu", feature = "wgpu", feature = "cuda")))]
use not_compiled::NotCompiled;

#[cfg(feature = "cpu")]
use cpu::FLEX;
#[cfg(not(feature = "cpu"))]
static FLEX: NotCompiled = NotCompiled { choice: DeviceChoice::Cpu, feature: "cpu" };

#[cfg(feature = "cpu")]
use cpu::NDARRAY;
#[cfg(not(feature = "cpu"))]
static NDARRAY: NotCompiled = NotCompiled { choice: DeviceChoice::Ndarray, feature: "cpu" };

#[cfg(feature = "wgpu")]
static WGPU: wgpu::WgpuGpu = wgpu::WgpuGpu;
#[cfg(not(feature = "wgpu"))]
static WGPU: NotCompiled = NotCompiled { choice: DeviceChoice::Wgpu(None), feature: "wgpu" };

#[cfg(feature = "cuda")]
static CUDA: cuda::CudaGpu = cuda::CudaGpu;
#[cfg(not(feature = "cuda"))]
static CUDA: NotCompiled = NotCompiled { choice: DeviceChoice::Cuda(0), feature: "cuda" };

/// Sets the environment variables that device drivers read. Must be called before the process starts a thread.
pub fn prepare_environment() {
    #[cfg(feature = "wgpu")]
    wgpu::disable_device_select_layer();
}

/// All devices of this machine; for kinds without a device, the reason.
pub fn detect() -> Vec<DetectedDevice> {
    [FLEX.detect(), NDARRAY.detect(), WGPU.detect(), CUDA.detect()].into_iter().flatten().collect()
}

/// The device that a choice stands for, checked to be present: never [`DeviceChoice::Auto`].
///
/// # Errors
/// If there is no such device, it fails a small computation, or its kind is not compiled in.
pub fn resolve(choice: DeviceChoice) -> Result<DeviceChoice, CliError> {
    match kind_of(choice) {
        Some((kind, index)) => kind.check(index).map(|()| choice),
        None => best_device(),
    }
}

/// The device that `auto` stands for.
///
/// # Errors
/// If there is none.
pub fn best_device() -> Result<DeviceChoice, CliError> {
    CUDA.preferred().or_else(|| WGPU.preferred()).or_else(|| FLEX.preferred()).ok_or_else(|| {
        CliError::Message(
            "there is no GPU, and this program was built without the CPU backend; build it with --features cpu".into(),
        )
    })
}

/// The name on the command line and the product name of a device that [`resolve`] returned.
pub fn device_name(device: DeviceChoice) -> String {
    match kind_of(device).and_then(|(kind, index)| kind.name(index)) {
        Some(name) => format!("{device} ({name})"),
        None => device.to_string(),
    }
}

/// Whether a device is a software adapter, which computes on the processor.
pub fn is_software(device: DeviceChoice) -> bool {
    kind_of(device).is_some_and(|(kind, index)| kind.is_software(index))
}

/// The memory of a device that [`resolve`] returned, if known.
pub fn memory(device: DeviceChoice) -> Option<Memory> {
    kind_of(device).and_then(|(kind, index)| kind.memory(index))
}

/// # Errors
/// Those of [`resolve`] and of the job.
pub fn run_on<J: Job>(choice: DeviceChoice, job: J) -> Result<J::Output, CliError> {
    match choice {
        DeviceChoice::Auto => run_on(best_device()?, job),
        DeviceChoice::Cpu => FLEX.run(0, job),
        DeviceChoice::Ndarray => NDARRAY.run(0, job),
        DeviceChoice::Wgpu(index) => WGPU.run(index.unwrap_or(0), job),
        DeviceChoice::Cuda(index) => CUDA.run(index, job),
    }
}

/// A device's kind and its index in it; nothing for `auto`.
fn kind_of(choice: DeviceChoice) -> Option<(&'static dyn DeviceKind, usize)> {
    match choice {
        DeviceChoice::Auto => None,
        DeviceChoice::Cpu => Some((&FLEX, 0)),
        DeviceChoice::Ndarray => Some((&NDARRAY, 0)),
        DeviceChoice::Wgpu(index) => Some((&WGPU, index.unwrap_or(0))),
        DeviceChoice::Cuda(index) => Some((&CUDA, index)),
    }
}
