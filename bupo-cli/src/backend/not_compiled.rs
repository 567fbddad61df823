//! The kind of device whose feature this build does not have.

use super::choice::DeviceChoice;
use super::kind::{DetectedDevice, DeviceKind, Job, Memory};
use crate::error::CliError;

pub struct NotCompiled {
    pub choice: DeviceChoice,
    /// The cargo feature that adds it.
    pub feature: &'static str,
}

impl NotCompiled {
    fn error(&self) -> CliError {
        let Self { choice, feature } = self;
        CliError::Message(format!("this program was built without {choice}; build it with --features {feature}"))
    }
}

impl DeviceKind for NotCompiled {
    fn detect(&self) -> Vec<DetectedDevice> {
        let info = Err(format!("not compiled in; build with --features {}", self.feature));
        vec![DetectedDevice { choice: self.choice, info }]
    }

    fn preferred(&self) -> Option<DeviceChoice> {
        None
    }

    fn check(&self, _: usize) -> Result<(), CliError> {
        Err(self.error())
    }

    fn name(&self, _: usize) -> Option<String> {
        None
    }

    fn memory(&self, _: usize) -> Option<Memory> {
        None
    }

    fn run<J: Job>(&self, _: usize, _: J) -> Result<J::Output, CliError> {
        Err(self.error())
    }
}
