//! What this machine offers to compute on.

use burn::tensor::DType;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::DeviceChoice;
#[cfg(feature = "wgpu")]
use crate::error::CliError;

/// A device, or a kind of which there is none.
pub struct DetectedDevice {
    /// Its name on the command line.
    pub choice: DeviceChoice,
    /// What it is, or why it cannot be used and what would help.
    pub info: Result<DeviceInfo, String>,
}

/// What a device is.
pub struct DeviceInfo {
    /// Its maker's name for it.
    pub name: String,
    /// Of its memory, what is known.
    pub memory: String,
    /// What runs it.
    pub driver: String,
    /// The number formats it computes in.
    pub dtypes: Vec<&'static str>,
}

/// Everything there is, and what there is not.
pub fn detect() -> Vec<DetectedDevice> {
    let not_compiled = |choice, feature: &str| {
        vec![DetectedDevice { choice, info: Err(format!("not compiled in; build with --features {feature}")) }]
    };
    let cpu = if cfg!(feature = "cpu") { cpu_devices() } else { not_compiled(DeviceChoice::Cpu, "cpu") };
    let wgpu = if cfg!(feature = "wgpu") { wgpu_devices() } else { not_compiled(DeviceChoice::Wgpu(None), "wgpu") };
    let cuda = if cfg!(feature = "cuda") { cuda_devices() } else { not_compiled(DeviceChoice::Cuda(0), "cuda") };
    cpu.into_iter().chain(wgpu).chain(cuda).collect()
}

#[cfg(feature = "cpu")]
fn cpu_devices() -> Vec<DetectedDevice> {
    let known =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(known);
    let brand = system.cpus().first().map_or("processor", |cpu| cpu.brand().trim()).to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = format!("{}, {} free", bytes(system.total_memory()), bytes(system.available_memory()));
    let info = |driver: &str, dtypes| {
        Ok(DeviceInfo {
            name: format!("{brand}, {cores} threads"),
            memory: memory.clone(),
            driver: driver.into(),
            dtypes,
        })
    };
    vec![
        DetectedDevice {
            choice: DeviceChoice::Cpu,
            info: info("Burn's flex", dtypes::<burn::backend::Flex>(&Default::default())),
        },
        DetectedDevice {
            choice: DeviceChoice::Ndarray,
            info: info("Burn's ndarray, a second opinion", dtypes::<burn::backend::NdArray>(&Default::default())),
        },
    ]
}

#[cfg(not(feature = "cpu"))]
fn cpu_devices() -> Vec<DetectedDevice> {
    Vec::new()
}

fn system() -> System {
    let memory = MemoryRefreshKind::nothing().with_ram();
    System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(memory))
}

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// What nobody holds.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// The machine's memory, within what a container is allowed: how much of that is taken is not known, for files that can be read again
/// count.
pub fn cpu_memory() -> Option<Memory> {
    let system = system();
    let allowed = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    let memory = Memory { free: allowed.min(system.available_memory()), total: allowed.min(system.total_memory()) };
    Some(memory).filter(|memory| memory.free > 0)
}

/// The devices of WGPU by index, GPUs first, with their own descriptions.
#[cfg(feature = "wgpu")]
fn adapters() -> Vec<(burn::backend::wgpu::WgpuDevice, wgpu::AdapterInfo, wgpu::Limits)> {
    use burn::backend::wgpu::WgpuDevice;
    use burn::backend::wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
    use wgpu::DeviceType;

    let enumerate = || {
        let backends = wgpu::Backends::from(AutoGraphicsApi::backend());
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        burn::tensor::read_sync(instance.enumerate_adapters(backends))
    };
    let mut adapters: Vec<_> = catch_driver_panic(enumerate)
        .unwrap_or_default()
        .into_iter()
        .map(|adapter| (adapter.get_info(), adapter.limits()))
        .collect();
    let order = |kind: DeviceType| match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Cpu => 3,
        DeviceType::Other => 4,
    };
    adapters.retain(|(info, _)| order(info.device_type) < 4);
    // In the order they were found within their kind, by which Burn counts them.
    adapters.sort_by_key(|(info, _)| order(info.device_type));
    let mut seen = [0; 4];
    let counted = adapters.into_iter().map(|(info, limits)| {
        let place = &mut seen[order(info.device_type)];
        let index = *place;
        *place += 1;
        let device = match info.device_type {
            DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(index),
            DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(index),
            DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(index),
            _ => WgpuDevice::Cpu,
        };
        (device, info, limits)
    });
    counted.collect()
}

/// The device of an index, the first where none is named, once it has computed something.
///
/// # Errors
/// If there is none, or it does not compute.
#[cfg(feature = "wgpu")]
pub fn wgpu_device(index: Option<usize>) -> Result<burn::backend::wgpu::WgpuDevice, CliError> {
    let all = adapters();
    let count = all.len();
    if count == 0 {
        return Err(CliError::Message(format!("no WGPU device works here ({NO_ADAPTER}), or choose --device cpu")));
    }
    let (device, info, _) = all.into_iter().nth(index.unwrap_or(0)).ok_or_else(|| {
        let index = index.unwrap_or(0);
        CliError::Message(format!(
            "there is no wgpu:{index}; this machine has {count} devices for WGPU, counted from 0; see bupo devices"
        ))
    })?;
    catch_driver_panic(|| works::<burn::backend::Wgpu>(&device)).map_err(|reason| {
        CliError::Message(format!(
            "{} does not compute ({reason}); update its driver, or choose --device cpu",
            info.name
        ))
    })?;
    Ok(device)
}

#[cfg(feature = "wgpu")]
const NO_ADAPTER: &str = "no driver offers a device; install the GPU's Vulkan driver";

#[cfg(feature = "wgpu")]
fn wgpu_devices() -> Vec<DetectedDevice> {
    let all = adapters();
    if all.is_empty() {
        return vec![DetectedDevice { choice: DeviceChoice::Wgpu(None), info: Err(NO_ADAPTER.into()) }];
    }
    let info = |(index, (device, info, limits)): (usize, (_, wgpu::AdapterInfo, wgpu::Limits))| {
        let dtypes = catch_driver_panic(|| dtypes::<burn::backend::Wgpu>(&device));
        let info = dtypes.map(|dtypes| DeviceInfo {
            name: match info.device_type {
                wgpu::DeviceType::Cpu => format!("{}, a processor that plays a GPU", info.name),
                _ => info.name.clone(),
            },
            memory: format!("{} in one piece", bytes(limits.max_storage_buffer_binding_size)),
            driver: format!("{} {} ({})", info.driver, info.driver_info, info.backend),
            dtypes,
        });
        DetectedDevice { choice: DeviceChoice::Wgpu(Some(index)), info }
    };
    all.into_iter().enumerate().map(info).collect()
}

/// The first device of WGPU that is a GPU.
#[cfg(feature = "wgpu")]
pub fn first_gpu() -> Option<usize> {
    adapters().iter().position(|(_, info, _)| info.device_type != wgpu::DeviceType::Cpu)
}

#[cfg(feature = "wgpu")]
pub fn wgpu_name(index: Option<usize>) -> Option<String> {
    adapters().into_iter().nth(index.unwrap_or(0)).map(|(_, info, _)| info.name)
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_devices() -> Vec<DetectedDevice> {
    Vec::new()
}

#[cfg(not(feature = "wgpu"))]
pub fn first_gpu() -> Option<usize> {
    None
}

#[cfg(not(feature = "wgpu"))]
pub fn wgpu_name(_: Option<usize>) -> Option<String> {
    None
}

/// How many NVIDIA GPUs there are, or why none can be used.
#[cfg(feature = "cuda")]
pub fn cuda_count() -> Result<usize, String> {
    catch_driver_panic(|| {
        works::<burn::backend::Cuda>(&Default::default());
        <burn::backend::Cuda as Backend>::device_count(0)
    })
}

#[cfg(feature = "cuda")]
fn cuda_devices() -> Vec<DetectedDevice> {
    use burn::backend::cuda::CudaDevice;

    let info = |index: usize| -> Result<DeviceInfo, String> {
        let context = cudarc::driver::CudaContext::new(index).map_err(|error| error.to_string())?;
        let memory = context.mem_get_info().map_err(|error| error.to_string())?;
        let (major, minor) = context.compute_capability().map_err(|error| error.to_string())?;
        let dtypes = catch_driver_panic(|| dtypes::<burn::backend::Cuda>(&CudaDevice::new(index)))?;
        Ok(DeviceInfo {
            name: context.name().map_err(|error| error.to_string())?,
            memory: format!("{}, {} free", bytes(memory.1 as u64), bytes(memory.0 as u64)),
            driver: format!("CUDA, compute capability {major}.{minor}"),
            dtypes,
        })
    };
    match cuda_count() {
        Ok(count) if count > 0 => {
            (0..count).map(|index| DetectedDevice { choice: DeviceChoice::Cuda(index), info: info(index) }).collect()
        }
        Ok(_) => vec![DetectedDevice { choice: DeviceChoice::Cuda(0), info: Err("there is no NVIDIA GPU".into()) }],
        Err(reason) => {
            let info = Err(format!("{reason}; where there is an NVIDIA GPU, install its driver"));
            vec![DetectedDevice { choice: DeviceChoice::Cuda(0), info }]
        }
    }
}

#[cfg(feature = "cuda")]
pub fn cuda_memory(index: usize) -> Option<Memory> {
    let (free, total) =
        catch_driver_panic(|| cudarc::driver::CudaContext::new(index).ok()?.mem_get_info().ok()).ok()??;
    Some(Memory { free: free as u64, total: total as u64 })
}

#[cfg(feature = "cuda")]
pub fn cuda_name(index: usize) -> Option<String> {
    catch_driver_panic(|| cudarc::driver::CudaContext::new(index).ok()?.name().ok()).ok()?
}

#[cfg(not(feature = "cuda"))]
pub fn cuda_count() -> Result<usize, String> {
    Err("not compiled in".into())
}

#[cfg(not(feature = "cuda"))]
fn cuda_devices() -> Vec<DetectedDevice> {
    Vec::new()
}

#[cfg(not(feature = "cuda"))]
pub fn cuda_memory(_: usize) -> Option<Memory> {
    None
}

#[cfg(not(feature = "cuda"))]
pub fn cuda_name(_: usize) -> Option<String> {
    None
}

fn dtypes<B: Backend>(device: &B::Device) -> Vec<&'static str> {
    let all = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)];
    all.into_iter().filter(|(_, dtype)| B::supports_dtype(device, *dtype)).map(|(name, _)| name).collect()
}

fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Runs something on the device; panics where the driver is missing.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn works<B: Backend>(device: &B::Device) {
    let sum: f32 = Tensor::<B, 1>::ones([4], device).sum().into_data().iter::<f32>().sum();
    assert_eq!(sum, 4.0, "the device computes wrongly");
}

/// Drivers that are missing panic deep inside their bindings, some on threads of their own: the first panic's message
/// is the reason.
///
/// # Errors
/// If there was a panic.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub fn catch_driver_panic<T>(probe: impl FnOnce() -> T) -> Result<T, String> {
    use std::panic;
    use std::sync::{Arc, Mutex, PoisonError};

    let reason = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&reason);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("no driver").lines().next().unwrap_or_default();
        // What follows is every name a library was looked for by.
        let text = text.split(" - searched for").next().unwrap_or_default();
        let text: String = text.chars().take(200).collect();
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(probe));
    panic::set_hook(hook);
    let reason = reason.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.map_err(|_| reason.unwrap_or_else(|| "no driver".into()))
}
