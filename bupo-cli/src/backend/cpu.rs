//! The CPU, with either of two backends.

use burn::backend::{Flex, NdArray};
use burn::tensor::backend::Backend;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::choice::DeviceChoice;
use super::detect::supported_dtypes;
use super::kind::{DetectedDevice, DeviceInfo, DeviceKind, Job, Memory};
use super::processor::processor;
use crate::error::CliError;

/// Burn's flex backend.
pub struct FlexCpu;

/// Burn's ndarray backend.
pub struct NdArrayCpu;

impl DeviceKind for FlexCpu {
    fn detect(&self) -> Vec<DetectedDevice> {
        detect::<Flex>(DeviceChoice::Cpu, "Burn flex")
    }

    fn preferred(&self) -> Option<DeviceChoice> {
        Some(DeviceChoice::Cpu)
    }

    fn check(&self, _: usize) -> Result<(), CliError> {
        Ok(())
    }

    fn name(&self, _: usize) -> Option<String> {
        None
    }

    fn memory(&self, _: usize) -> Option<Memory> {
        available_memory()
    }

    fn run<J: Job>(&self, _: usize, job: J) -> Result<J::Output, CliError> {
        job.run::<Flex>(&Default::default())
    }
}

impl DeviceKind for NdArrayCpu {
    fn detect(&self) -> Vec<DetectedDevice> {
        detect::<NdArray>(DeviceChoice::Ndarray, "Burn ndarray")
    }

    fn preferred(&self) -> Option<DeviceChoice> {
        None
    }

    fn check(&self, _: usize) -> Result<(), CliError> {
        Ok(())
    }

    fn name(&self, _: usize) -> Option<String> {
        None
    }

    fn memory(&self, _: usize) -> Option<Memory> {
        available_memory()
    }

    fn run<J: Job>(&self, _: usize, job: J) -> Result<J::Output, CliError> {
        job.run::<NdArray>(&Default::default())
    }
}

fn detect<B: Backend>(choice: DeviceChoice, driver: &str) -> Vec<DetectedDevice> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = DeviceInfo {
        name: format!("{}, {cores} threads", processor()),
        memory: available_memory().map_or("unknown".into(), Memory::describe),
        driver: driver.into(),
        dtypes: supported_dtypes::<B>(&Default::default()),
    };
    vec![DetectedDevice { choice, info: Ok(info) }]
}

/// The machine's memory within the container's limit. Of the limit, the memory in use is not subtracted: it includes the page
/// cache, which can be reclaimed.
fn available_memory() -> Option<Memory> {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
    let memory = Memory { free: limit.min(system.available_memory()), total: limit.min(system.total_memory()) };
    Some(memory).filter(|memory| memory.free > 0)
}
