//! The one file that names concrete backends: which device the program computes on, chosen when it starts.

use std::fmt;
use std::str::FromStr;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

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
    /// A GPU by WGPU: the best one, or the one of that index.
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

/// The device a choice stands for here.
///
/// # Errors
/// If it is not compiled in or does not work here.
pub fn device_name(choice: DeviceChoice) -> Result<String, CliError> {
    let chosen = match choice {
        DeviceChoice::Auto => best_device()?,
        other => other,
    };
    Ok(chosen.to_string())
}

/// What `auto` means here.
fn best_device() -> Result<DeviceChoice, CliError> {
    if cuda_count().is_ok_and(|count| count > 0) {
        return Ok(DeviceChoice::Cuda(0));
    }
    if wgpu_gpus() > 0 {
        return Ok(DeviceChoice::Wgpu(None));
    }
    if cfg!(feature = "cpu") {
        return Ok(DeviceChoice::Cpu);
    }
    Err(CliError::Message(
        "no GPU works here and this program was built without the cpu feature; build it with --features cpu".into(),
    ))
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
    use burn::backend::Wgpu;
    use burn::backend::wgpu::WgpuDevice;

    let failed = |reason: String| {
        CliError::Message(format!(
            "no WGPU device works here ({reason}); install a Vulkan driver, or choose --device cpu"
        ))
    };
    quietly(|| works::<Wgpu>(&WgpuDevice::default())).map_err(failed)?;
    let device = match index {
        None => WgpuDevice::default(),
        Some(index) => {
            let all = wgpu_devices();
            let count = all.len();
            all.into_iter().nth(index).ok_or_else(|| {
                CliError::Message(format!(
                    "there is no wgpu:{index}; this machine has {count} GPUs for WGPU, counted from 0"
                ))
            })?
        }
    };
    job.run::<Wgpu>(&device)
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Option<usize>, _: impl Job) -> Result<(), CliError> {
    Err(not_compiled("wgpu"))
}

/// Discrete, integrated and virtual GPUs, in that order.
#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Vec<burn::backend::wgpu::WgpuDevice> {
    use burn::backend::wgpu::WgpuDevice;

    let count = |kind| quietly(|| <burn::backend::Wgpu as Backend>::device_count(kind)).unwrap_or(0);
    let discrete = (0..count(0)).map(WgpuDevice::DiscreteGpu);
    let integrated = (0..count(1)).map(WgpuDevice::IntegratedGpu);
    let virtual_ = (0..count(2)).map(WgpuDevice::VirtualGpu);
    discrete.chain(integrated).chain(virtual_).collect()
}

#[cfg(feature = "wgpu")]
fn wgpu_gpus() -> usize {
    wgpu_devices().len()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_gpus() -> usize {
    0
}

#[cfg(feature = "cuda")]
fn cuda(index: usize, job: impl Job) -> Result<(), CliError> {
    let count = cuda_count().map_err(|reason| {
        CliError::Message(format!(
            "CUDA does not work here ({reason}); install the NVIDIA driver, or choose --device cpu"
        ))
    })?;
    if index >= count {
        return Err(CliError::Message(format!(
            "there is no cuda:{index}; this machine has {count} NVIDIA GPUs, counted from 0"
        )));
    }
    job.run::<burn::backend::Cuda>(&burn::backend::cuda::CudaDevice::new(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, _: impl Job) -> Result<(), CliError> {
    Err(not_compiled("cuda"))
}

/// How many NVIDIA GPUs there are, or why none can be used.
#[cfg(feature = "cuda")]
fn cuda_count() -> Result<usize, String> {
    quietly(|| {
        works::<burn::backend::Cuda>(&Default::default());
        <burn::backend::Cuda as Backend>::device_count(0)
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda_count() -> Result<usize, String> {
    Err("not compiled in".into())
}

#[cfg(any(not(feature = "cpu"), not(feature = "wgpu"), not(feature = "cuda")))]
fn not_compiled(feature: &str) -> CliError {
    CliError::Message(format!(
        "this program was built without the {feature} feature; build it with --features {feature}"
    ))
}

/// Runs something on the device; panics where the driver is missing.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn works<B: Backend>(device: &B::Device) {
    let sum: f32 = Tensor::<B, 1>::ones([4], device).sum().into_data().iter::<f32>().sum();
    assert_eq!(sum, 4.0, "the device computes wrongly");
}

/// Drivers that are missing panic deep inside their bindings, some on threads of their own: the first panic's message
/// is the reason.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn quietly<T>(probe: impl FnOnce() -> T) -> Result<T, String> {
    use std::panic;
    use std::sync::{Arc, Mutex, PoisonError};

    let reason = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&reason);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("no driver").lines().next().unwrap_or_default();
        let text: String = text.chars().take(200).collect();
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(probe));
    panic::set_hook(hook);
    let reason = reason.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.map_err(|_| reason.unwrap_or_else(|| "no driver".into()))
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
