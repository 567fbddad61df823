//! `bupo devices` and `bupo doctor`

use std::time::Instant;

use bupo_core::kernels::{KernelDifference, check_kernels};
use bupo_models::{ComputeDtype, DtypeChoice};
use bupo_rl::{DeviceNumbers, Difference, Machine, MachineSizes};
use burn::tensor::backend::Backend;

use crate::backend::{DetectedDevice, DeviceChoice, Job, best_device, detect, is_software, run_on};
use crate::error::CliError;
use crate::products::Products;

/// Lists all devices and the one that `auto` selects.
///
/// # Errors
/// If there is no device.
pub fn list() -> Result<(), CliError> {
    detect().iter().for_each(print);
    outln!("auto is {}", best_device()?);
    Ok(())
}

/// Runs the same small training on every device and compares the results with those of the first, the CPU.
///
/// # Errors
/// If a device fails or computes different results.
pub fn check() -> Result<(), CliError> {
    let (mut reference, mut failures): (Option<(DeviceChoice, DeviceNumbers)>, _) = (None, Vec::new());
    for device in &detect() {
        print(device);
        if device.info.is_err() {
            continue;
        }
        let sizes = if is_software(device.choice) { MachineSizes::SOFTWARE } else { MachineSizes::CHECK };
        // Each dtype is reported once it is done: on a GPU compiling takes minutes.
        let report = &mut |run: &Run| {
            print_run(run);
            if !compare_kernels(run) {
                failures.push(format!("{} in {} (or unset BUPO_KERNELS)", device.choice, run.dtype));
            } else if !compare(run, reference.get_or_insert_with(|| (device.choice, run.first.clone()))) {
                failures.push(format!("{} in {}", device.choice, run.dtype));
            }
        };
        if let Err(error) = run_on(device.choice, Compute { sizes, report }) {
            outln!("  failed: {error}");
            failures.push(device.choice.to_string());
        }
    }
    if failures.is_empty() {
        outln!("all available devices compute the same results; auto is {}", best_device()?);
        return Ok(());
    }
    let failed = failures.join(", ");
    Err(CliError::Message(format!(
        "do not train on {failed}: update the driver, or choose another --device or --dtype"
    )))
}

fn print(device: &DetectedDevice) {
    match &device.info {
        Ok(info) => {
            outln!("{:<8} {}", device.choice.to_string(), info.name);
            outln!("         memory {}; {}; {}", info.memory, info.driver, info.dtypes.join(", "));
        }
        Err(reason) => outln!("{:<8} not usable: {reason}", device.choice.to_string()),
    }
}

/// The small training on one device.
struct Compute<'a> {
    /// The sizes of what is timed for the device's rates.
    sizes: MachineSizes,
    /// Called with the run of each supported dtype, f32 first.
    report: &'a mut dyn FnMut(&Run),
}

/// Its results and times in one compute dtype.
struct Run {
    dtype: ComputeDtype,
    first: DeviceNumbers,
    second: DeviceNumbers,
    /// The first run compiles the kernels.
    first_seconds: f64,
    second_seconds: f64,
    machine: Machine,
    products: Products,
    /// Each kernel of its own beside its composition.
    kernels: Vec<KernelDifference>,
}

impl Job for Compute<'_> {
    type Output = ();

    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        for dtype in [DtypeChoice::F32, DtypeChoice::Bf16] {
            let Ok(dtype) = dtype.for_new::<B>(device) else { continue };
            let timed = || -> Result<_, CliError> {
                let started = Instant::now();
                Ok((DeviceNumbers::on::<B>(dtype, device)?, started.elapsed().as_secs_f64()))
            };
            let (first, first_seconds) = timed()?;
            let (second, second_seconds) = timed()?;
            let machine = Machine::measure::<B>(self.sizes, dtype, device);
            let products = Products::of::<B>(dtype, device);
            let kernels = check_kernels::<B>(dtype.dtype(), device);
            (self.report)(&Run { dtype, first, second, first_seconds, second_seconds, machine, products, kernels });
        }
        Ok(())
    }
}

fn print_run(run: &Run) {
    let Run { dtype, first_seconds, second_seconds, machine, products, .. } = run;
    outln!(
        "         {dtype}: small training: {first_seconds:.2} s with kernel compilation, {second_seconds:.2} s without"
    );
    let Machine { gflops, memory_gb_per_second } = machine;
    outln!("         {dtype}: matrix product in {products} {gflops:.0} GFLOP/s, memory {memory_gb_per_second:.1} GB/s");
}

/// Prints how the kernels' results differ from those of their compositions. Returns whether all are within rounding.
fn compare_kernels(run: &Run) -> bool {
    let Run { dtype, kernels, .. } = run;
    let (right, wrong): (Vec<_>, Vec<_>) = kernels.iter().partition(|found| found.is_rounding());
    for found in &wrong {
        outln!(
            "         {dtype}: the kernel of {} is wrong: difference from its composition {:.1e}, rounding allows {:.0e}",
            found.kernel,
            found.largest,
            found.allowed
        );
    }
    if !right.is_empty() && wrong.is_empty() {
        let largest = right.iter().map(|found| found.largest).fold(0.0, f64::max);
        outln!("         {dtype}: {} kernels, largest difference from their compositions {largest:.1e}", right.len());
    }
    wrong.is_empty()
}

/// Prints how a run's results differ from the reference. Returns whether the differences are within rounding.
fn compare(run: &Run, (reference_device, reference): &(DeviceChoice, DeviceNumbers)) -> bool {
    let dtype = run.dtype;
    let differences = [reference.compare(&run.first), reference.compare(&run.second)].concat();
    for difference in differences.iter().filter(|difference| !difference.is_rounding()) {
        outln!(
            "         {dtype}: {}: difference from {reference_device} {:.1e}, rounding allows {:.0e}",
            difference.what,
            difference.largest,
            difference.allowed
        );
    }
    let agrees = differences.iter().all(Difference::is_rounding);
    if agrees {
        let largest = differences.iter().map(|difference| difference.largest).fold(0.0, f64::max);
        outln!("         {dtype}: largest difference from {reference_device} {largest:.1e}, within rounding");
    }
    agrees
}
