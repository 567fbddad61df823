//! `bupo devices` and `bupo doctor`: what this machine offers to compute on, and whether it computes right.

use std::time::Instant;

use bupo_rl::{Computed, Machine};
use burn::tensor::backend::Backend;

use crate::backend::{DeviceChoice, Found, Job, best_device, found, run_on};
use crate::error::CliError;

/// Rows, inputs and outputs of the product that is timed, and the numbers of the copy: little enough for any device.
const PRODUCT: [usize; 3] = [512; 3];
const COPIED: usize = 1 << 22;

/// Lists every device, and what `auto` would choose.
///
/// # Errors
/// If nothing works here.
pub fn list() -> Result<(), CliError> {
    found().iter().for_each(show);
    say!("auto is {}", best_device()?);
    Ok(())
}

/// Computes the same small training on every device and compares the numbers with the CPU's.
///
/// # Errors
/// If a device is there and does not compute, or computes something else.
pub fn check() -> Result<(), CliError> {
    let (mut reference, mut failures) = (None, Vec::new());
    for found in &found() {
        show(found);
        if found.offer.is_err() {
            continue;
        }
        let job = Check { choice: found.choice, reference: &mut reference, failures: &mut failures };
        if let Err(error) = run_on(found.choice, job) {
            say!("  it fails: {error}");
            failures.push(found.choice);
        }
    }
    if failures.is_empty() {
        say!("every device that is there computes right; auto is {}", best_device()?);
        return Ok(());
    }
    let named = failures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(CliError::Message(format!("do not train on {named}: update the driver, or choose another --device")))
}

fn show(found: &Found) {
    match &found.offer {
        Ok(offer) => {
            say!("{:<8} {}", found.choice.to_string(), offer.name);
            say!("         memory {}; {}; {}", offer.memory, offer.driver, offer.dtypes.join(", "));
        }
        Err(reason) => say!("{:<8} not usable: {reason}", found.choice.to_string()),
    }
}

struct Check<'a> {
    choice: DeviceChoice,
    /// The first device's numbers.
    reference: &'a mut Option<(DeviceChoice, Computed)>,
    failures: &'a mut Vec<DeviceChoice>,
}

impl Job for Check<'_> {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let started = Instant::now();
        let computed = Computed::on::<B>(device)?;
        let first = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let again = Computed::on::<B>(device)?;
        say!(
            "         a small training took {first:.2} s, kernels made, and {:.2} s again",
            started.elapsed().as_secs_f64()
        );
        let Machine { gflops, copy_gb_per_second } = Machine::measure::<B>(PRODUCT, COPIED, device);
        say!("         {gflops:.0} GFLOP/s in a product, {copy_gb_per_second:.1} GB/s in a copy");
        let (beside, reference) = self.reference.get_or_insert((self.choice, computed.clone()));
        let mut right = true;
        for difference in reference.compare(&computed).into_iter().chain(reference.compare(&again)) {
            if !difference.is_rounding() {
                right = false;
                say!(
                    "         {} differ from {beside}'s by {:.1e}, where rounding comes to {:.0e}",
                    difference.what,
                    difference.largest,
                    difference.allowed
                );
            }
        }
        if right {
            let largest = reference.compare(&computed).iter().map(|difference| difference.largest).fold(0.0, f64::max);
            say!("         its numbers are {beside}'s to {largest:.1e}");
        } else {
            self.failures.push(self.choice);
        }
        Ok(())
    }
}
