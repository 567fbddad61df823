//! `bupo devices` and `bupo doctor`: what this machine offers to compute on, and whether it computes right.

use std::time::Instant;

use bupo_models::{ComputeDtype, DtypeChoice};
use bupo_rl::{DeviceNumbers, Difference, Machine};
use burn::tensor::backend::Backend;

use crate::backend::{DetectedDevice, DeviceChoice, Job, best_device, detect, run_on};
use crate::error::CliError;

/// Rows, inputs and outputs of the product that is timed, and the numbers of the copy: little enough for any device.
const PRODUCT: [usize; 3] = [512; 3];
const COPIED: usize = 1 << 22;

/// Lists every device, and what `auto` would choose.
///
/// # Errors
/// If nothing works here.
pub fn list() -> Result<(), CliError> {
    detect().iter().for_each(show);
    outln!("auto is {}", best_device()?);
    Ok(())
}

/// Computes the same small training on every device and compares the numbers with the CPU's.
///
/// # Errors
/// If a device is there and does not compute, or computes something else.
pub fn check() -> Result<(), CliError> {
    let (mut reference, mut failures) = (None, Vec::new());
    for device in &detect() {
        show(device);
        if device.info.is_err() {
            continue;
        }
        let job = Check { choice: device.choice, reference: &mut reference, failures: &mut failures };
        if let Err(error) = run_on(device.choice, job) {
            outln!("  it fails: {error}");
            failures.push(device.choice.to_string());
        }
    }
    if failures.is_empty() {
        outln!("every device that is there computes right; auto is {}", best_device()?);
        return Ok(());
    }
    let named = failures.join(", ");
    Err(CliError::Message(format!("do not train on {named}: update the driver, or choose another --device or --dtype")))
}

fn show(device: &DetectedDevice) {
    match &device.info {
        Ok(info) => {
            outln!("{:<8} {}", device.choice.to_string(), info.name);
            outln!("         memory {}; {}; {}", info.memory, info.driver, info.dtypes.join(", "));
        }
        Err(reason) => outln!("{:<8} not usable: {reason}", device.choice.to_string()),
    }
}

struct Check<'a> {
    choice: DeviceChoice,
    /// The first device's numbers, in f32.
    reference: &'a mut Option<(DeviceChoice, DeviceNumbers)>,
    failures: &'a mut Vec<String>,
}

impl Job for Check<'_> {
    fn run<B: Backend>(mut self, device: &B::Device) -> Result<(), CliError> {
        for dtype in [DtypeChoice::F32, DtypeChoice::Bf16] {
            if let Ok(dtype) = dtype.for_new::<B>(device) {
                self.check::<B>(dtype, device)?;
            }
        }
        Ok(())
    }
}

impl Check<'_> {
    fn check<B: Backend>(&mut self, dtype: ComputeDtype, device: &B::Device) -> Result<(), CliError> {
        let started = Instant::now();
        let computed = DeviceNumbers::on::<B>(dtype, device)?;
        let first = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let again = DeviceNumbers::on::<B>(dtype, device)?;
        outln!(
            "         {dtype}: a small training took {first:.2} s, kernels made, and {:.2} s again",
            started.elapsed().as_secs_f64()
        );
        let Machine { gflops, copy_gb_per_second } = Machine::measure::<B>(PRODUCT, COPIED, dtype, device);
        outln!("         {dtype}: {gflops:.0} GFLOP/s in a product; {copy_gb_per_second:.1} GB/s in a copy of f32");
        let (beside, reference) = self.reference.get_or_insert((self.choice, computed.clone()));
        let differences = [reference.compare(&computed), reference.compare(&again)].concat();
        for difference in differences.iter().filter(|difference| !difference.is_rounding()) {
            outln!(
                "         {dtype}: {} differ from {beside}'s by {:.1e}, where rounding comes to {:.0e}",
                difference.what,
                difference.largest,
                difference.allowed
            );
        }
        if differences.iter().all(Difference::is_rounding) {
            let largest = differences.iter().map(|difference| difference.largest).fold(0.0, f64::max);
            outln!("         {dtype}: its numbers are {beside}'s to {largest:.1e}");
        } else {
            self.failures.push(format!("{} in {dtype}", self.choice));
        }
        Ok(())
    }
}
