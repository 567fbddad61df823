//! The CPU, with either of two backends.

use std::marker::PhantomData;

use burn::backend::{Flex, NdArray};
use burn::tensor::backend::Backend;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::choice::DeviceChoice;
use super::detect::supported_dtypes;
use super::kind::{DetectedDevice, DeviceInfo, DeviceKind, Job, Memory};
use super::processor::processor;
use crate::error::CliError;

/// The CPU with one backend.
pub struct Cpu<B> {
    pub choice: DeviceChoice,
    pub driver: &'static str,
    pub backend: PhantomData<fn() -> B>,
}

/// Burn's flex backend.
pub static FLEX: Cpu<Flex> = Cpu { choice: DeviceChoice::Cpu, driver: "Burn flex", backend: PhantomData };
/// Burn's ndarray backend.
pub static NDARRAY: Cpu<NdArray> = Cpu { choice: DeviceChoice::Ndarray, driver: "Burn ndarray", backend: PhantomData };

impl<B: Backend> DeviceKind for Cpu<B> {
    fn detect(&self) -> Vec<DetectedDevice> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let info = DeviceInfo {
            name: format!("{}, {cores} threads", processor()),
            memory: available_memory().map_or("unknown".into(), Memory::describe),
            driver: self.driver.into(),
            dtypes: supported_dtypes::<B>(&Default::default()),
        };
        vec![DetectedDevice { choice: self.choice, info: Ok(info) }]
    }

    fn preferred(&self) -> Option<DeviceChoice> {
        (self.choice == DeviceChoice::Cpu).then_some(self.choice)
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
        job.run::<B>(&Default::default())
    }
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
