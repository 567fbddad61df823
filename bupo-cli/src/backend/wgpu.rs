//! GPUs with Vulkan, Metal or DX12, through WGPU.

use burn::backend::Wgpu;
use burn::backend::wgpu::WgpuDevice;
use burn::backend::wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use bytesize::ByteSize;
use wgpu::{AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor, Limits};

use super::choice::DeviceChoice;
use super::detect::supported_dtypes;
use super::driver::{catch_driver_panic, run_on_gpu, try_device};
use super::kind::{DetectedDevice, DeviceInfo, DeviceKind, Job, Memory};
use crate::error::CliError;

pub struct WgpuGpu;

impl DeviceKind for WgpuGpu {
    fn detect(&self) -> Vec<DetectedDevice> {
        let all = adapters();
        if all.is_empty() {
            return vec![DetectedDevice { choice: DeviceChoice::Wgpu(None), info: Err(NO_ADAPTER.into()) }];
        }
        let info = |(index, adapter): (usize, Adapter)| {
            let dtypes = catch_driver_panic(|| supported_dtypes::<Wgpu>(&adapter.device));
            let Adapter { info, limits, .. } = adapter;
            let info = dtypes.map(|dtypes| DeviceInfo {
                name: match info.device_type {
                    DeviceType::Cpu => format!("{} (software adapter)", info.name),
                    _ => info.name,
                },
                memory: format!("buffers of up to {}", ByteSize(limits.max_storage_buffer_binding_size)),
                driver: format!("{} {} ({})", info.driver, info.driver_info, info.backend),
                dtypes,
            });
            DetectedDevice { choice: DeviceChoice::Wgpu(Some(index)), info }
        };
        all.into_iter().enumerate().map(info).collect()
    }

    /// A software adapter is slower than the CPU backend.
    fn preferred(&self) -> Option<DeviceChoice> {
        let gpu = adapters().iter().position(|adapter| adapter.info.device_type != DeviceType::Cpu)?;
        Some(DeviceChoice::Wgpu(Some(gpu)))
    }

    fn check(&self, index: usize) -> Result<(), CliError> {
        open(index).map(drop)
    }

    fn name(&self, index: usize) -> Option<String> {
        adapters().into_iter().nth(index).map(|adapter| adapter.info.name)
    }

    fn is_software(&self, index: usize) -> bool {
        adapters().get(index).is_some_and(|adapter| adapter.info.device_type == DeviceType::Cpu)
    }

    /// WGPU does not report it.
    fn memory(&self, _: usize) -> Option<Memory> {
        None
    }

    fn run<J: Job>(&self, index: usize, job: J) -> Result<J::Output, CliError> {
        let device = open(index)?;
        run_on_gpu(|| job.run::<Wgpu>(&device))
    }
}

/// Disables Mesa's Vulkan layer that reorders devices. It looks for a Wayland display, and without one prints an error to standard
/// error in every process. The order of devices here does not depend on it. Users who configure the layer keep it.
///
/// Must be called before the process starts a thread.
pub fn disable_device_select_layer() {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if is_set("NODEVICE_SELECT") || is_set("MESA_VK_DEVICE_SELECT") {
        return;
    }
    // SAFETY: no other thread runs that could access the environment.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("NODEVICE_SELECT", "1");
    }
}

const NO_ADAPTER: &str = "no driver offers a device; install the GPU's Vulkan driver";

struct Adapter {
    device: WgpuDevice,
    info: AdapterInfo,
    limits: Limits,
}

fn open(index: usize) -> Result<WgpuDevice, CliError> {
    let all = adapters();
    let count = all.len();
    if count == 0 {
        return Err(CliError::Message(format!("no WGPU device is available ({NO_ADAPTER}), or choose --device cpu")));
    }
    let Adapter { device, info, .. } = all.into_iter().nth(index).ok_or_else(|| {
        CliError::Message(format!(
            "there is no wgpu:{index}; this machine has {count} WGPU devices, counted from 0; see bupo devices"
        ))
    })?;
    catch_driver_panic(|| try_device::<Wgpu>(&device)).map_err(|reason| {
        CliError::Message(format!(
            "{} fails to compute ({reason}); update its driver, or choose --device cpu",
            info.name
        ))
    })?;
    Ok(device)
}

/// All devices by index, GPUs first.
fn adapters() -> Vec<Adapter> {
    let enumerate = || {
        let backends = Backends::from(AutoGraphicsApi::backend());
        let instance =
            Instance::new(InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() });
        burn::tensor::read_sync(instance.enumerate_adapters(backends))
    };
    let order = |kind: DeviceType| match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Cpu => 3,
        DeviceType::Other => 4,
    };
    let mut adapters: Vec<_> = catch_driver_panic(enumerate)
        .unwrap_or_default()
        .into_iter()
        .map(|adapter| (adapter.get_info(), adapter.limits()))
        .filter(|(info, _)| order(info.device_type) < 4)
        .collect();
    // The sort is stable: Burn numbers the adapters of one type in the order of their enumeration.
    adapters.sort_by_key(|(info, _)| order(info.device_type));
    let mut counts = [0; 4];
    let numbered = adapters.into_iter().map(|(info, limits)| {
        let count = &mut counts[order(info.device_type)];
        let index = *count;
        *count += 1;
        let device = match info.device_type {
            DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(index),
            DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(index),
            DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(index),
            _ => WgpuDevice::Cpu,
        };
        Adapter { device, info, limits }
    });
    numbered.collect()
}
