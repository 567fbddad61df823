//! The interface of a kind of device.

use burn::tensor::backend::Backend;

use super::choice::DeviceChoice;
use crate::error::CliError;

/// The part of a command that runs on a device. It is compiled once per backend, so it has only what needs one.
pub trait Job {
    type Output;

    fn run<B: Backend>(self, device: &B::Device) -> Result<Self::Output, CliError>;
}

/// The devices of one backend. Indices count from 0.
pub trait DeviceKind {
    /// All devices, or one entry with the reason why there is none.
    fn detect(&self) -> Vec<DetectedDevice>;

    /// The device that `--device auto` takes of this kind.
    fn preferred(&self) -> Option<DeviceChoice>;

    /// # Errors
    /// If there is no such device, or it fails a small computation.
    fn check(&self, index: usize) -> Result<(), CliError>;

    /// The product name, if known.
    fn name(&self, index: usize) -> Option<String>;

    /// Whether it is a software adapter.
    fn is_software(&self, _: usize) -> bool {
        false
    }

    /// The memory, if known.
    fn memory(&self, index: usize) -> Option<Memory>;

    /// # Errors
    /// Those of `check` and of the job.
    fn run<J: Job>(&self, index: usize, job: J) -> Result<J::Output, CliError>
    where
        Self: Sized;
}

/// A device, or a kind of device of which there is none.
pub struct DetectedDevice {
    pub choice: DeviceChoice,
    /// Its description, or why it is not usable and what would help.
    pub info: Result<DeviceInfo, String>,
}

pub struct DeviceInfo {
    /// The product name.
    pub name: String,
    /// The memory, as text.
    pub memory: String,
    pub driver: String,
    /// The floating-point formats it supports.
    pub dtypes: Vec<&'static str>,
}

/// A device's memory in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub free: u64,
    pub total: u64,
}
