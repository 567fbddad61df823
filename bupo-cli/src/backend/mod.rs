//! The one place that names concrete backends: which device the program computes on, chosen when it starts.

mod detect;

use std::fmt;
use std::str::FromStr;

use burn::tensor::backend::Backend;

pub use detect::{DetectedDevice, Memory, detect};

use crate::error::CliError;

/// A device as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that works here: CUDA, then a GPU by WGPU, then the CPU.
    Auto,
    /// Burn's flex backend.
    Cpu,
    /// Burn's ndarray backend, a second opinion.
    Ndarray,
    /// A device of WGPU: the best one, or the one of that index.
    Wgpu(Option<usize>),
    /// An NVIDIA GPU.
    Cuda(usize),
}

/// Work that runs on any backend.
pub trait Job {
    /// Does it on `device`.
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError>;
}

/// Runs a job on the chosen device.
///
/// # Errors
/// If the device is not compiled in or does not work here, or the job fails.
pub fn run_on(choice: DeviceChoice, job: impl Job) -> Result<(), CliError> {
    match choice {
        DeviceChoice::Auto => run_on(best_device()?, job),
        DeviceChoice::Cpu => cpu(job),
        DeviceChoice::Ndarray => ndarray(job),
        DeviceChoice::Wgpu(index) => wgpu(index, job),
        DeviceChoice::Cuda(index) => cuda(index, job),
    }
}

/// The device that a choice stands for here, looked for once.
///
/// # Errors
/// If nothing works here.
pub fn resolved(choice: DeviceChoice) -> Result<DeviceChoice, CliError> {
    if choice == DeviceChoice::Auto { best_device() } else { Ok(choice) }
}

/// The device a choice stands for here, by its name on the command line and its own.
///
/// # Errors
/// If nothing works here.
pub fn device_name(choice: DeviceChoice) -> Result<String, CliError> {
    let chosen = resolved(choice)?;
    let of_its_own = match chosen {
        DeviceChoice::Wgpu(index) => detect::wgpu_name(index),
        DeviceChoice::Cuda(index) => detect::cuda_name(index),
        _ => None,
    };
    Ok(of_its_own.map_or(chosen.to_string(), |name| format!("{chosen} ({name})")))
}

/// What `auto` means here: a processor that plays a GPU is slower than the processor itself.
///
/// # Errors
/// If nothing works here.
pub fn best_device() -> Result<DeviceChoice, CliError> {
    if detect::cuda_count().is_ok_and(|count| count > 0) {
        return Ok(DeviceChoice::Cuda(0));
    }
    if let Some(index) = detect::first_gpu() {
        return Ok(DeviceChoice::Wgpu(Some(index)));
    }
    if cfg!(feature = "cpu") {
        return Ok(DeviceChoice::Cpu);
    }
    Err(CliError::Message(
        "no GPU works here and this program was built without the cpu feature; build it with --features cpu".into(),
    ))
}

/// A device's memory, where it says.
pub fn memory(choice: DeviceChoice) -> Option<Memory> {
    match choice {
        DeviceChoice::Auto => memory(resolved(choice).ok()?),
        DeviceChoice::Cpu | DeviceChoice::Ndarray => detect::cpu_memory(),
        DeviceChoice::Cuda(index) => detect::cuda_memory(index),
        DeviceChoice::Wgpu(_) => None,
    }
}

#[cfg(feature = "cpu")]
fn cpu(job: impl Job) -> Result<(), CliError> {
    job.run::<burn::backend::Flex>(&Default::default())
}

#[cfg(feature = "cpu")]
fn ndarray(job: impl Job) -> Result<(), CliError> {
    job.run::<burn::backend::NdArray>(&Default::default())
}

#[cfg(not(feature = "cpu"))]
fn cpu(_: impl Job) -> Result<(), CliError> {
    Err(not_compiled("cpu"))
}

#[cfg(not(feature = "cpu"))]
fn ndarray(_: impl Job) -> Result<(), CliError> {
    Err(not_compiled("cpu"))
}

#[cfg(feature = "wgpu")]
fn wgpu(index: Option<usize>, job: impl Job) -> Result<(), CliError> {
    let device = detect::wgpu_device(index)?;
    on_gpu(|| job.run::<burn::backend::Wgpu>(&device))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Option<usize>, _: impl Job) -> Result<(), CliError> {
    Err(not_compiled("wgpu"))
}

#[cfg(feature = "cuda")]
fn cuda(index: usize, job: impl Job) -> Result<(), CliError> {
    let count = detect::cuda_count().map_err(|reason| {
        CliError::Message(format!(
            "CUDA does not work here ({reason}); install the NVIDIA driver, or choose --device cpu"
        ))
    })?;
    if index >= count {
        return Err(CliError::Message(format!(
            "there is no cuda:{index}; this machine has {count} NVIDIA GPUs, counted from 0; see bupo devices"
        )));
    }
    on_gpu(|| job.run::<burn::backend::Cuda>(&burn::backend::cuda::CudaDevice::new(index)))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, _: impl Job) -> Result<(), CliError> {
    Err(not_compiled("cuda"))
}

/// Drivers give up by panicking, first of all where memory runs out. What a run has written by then is whole.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn on_gpu(work: impl FnOnce() -> Result<(), CliError>) -> Result<(), CliError> {
    detect::catch_driver_panic(work).unwrap_or_else(|reason| {
        Err(CliError::Message(format!(
            "the GPU gave up ({reason}); where its memory is what ran out, lower rollout.batch or update.max_tokens_per_batch, or set \
             update.recompute=true, and a run goes on with bupo train --resume; bupo doctor checks the device"
        )))
    })
}

#[cfg(any(not(feature = "cpu"), not(feature = "wgpu"), not(feature = "cuda")))]
fn not_compiled(feature: &str) -> CliError {
    CliError::Message(format!(
        "this program was built without the {feature} feature; build it with --features {feature}"
    ))
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("unknown device `{text}`: write auto, cpu, ndarray, wgpu, wgpu:N, cuda or cuda:N");
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("ndarray", None) => Ok(Self::Ndarray),
            ("wgpu", index) => Ok(Self::Wgpu(index)),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Ndarray => f.write_str("ndarray"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}
