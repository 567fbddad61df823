//! GPU drivers report a missing library, exhausted memory and other failures by panics in their bindings, some of them on
//! other threads. Here they become errors.

use std::panic;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::error::CliError;

/// Runs work on a GPU. After a failure, the files that a run has finished writing are complete.
///
/// # Errors
/// Those of `work`; if the driver panics.
pub fn run_on_gpu<T>(work: impl FnOnce() -> Result<T, CliError>) -> Result<T, CliError> {
    catch_driver_panic(work).unwrap_or_else(|reason| {
        Err(CliError::Message(format!(
            "the GPU failed ({reason}); if it is out of memory, lower rollout.batch or update.max_tokens_per_batch, or set \
             update.recompute=true; resume a training run with bupo train --resume; check the device with bupo doctor"
        )))
    })
}

/// # Errors
/// The message of the first panic, on any thread.
pub fn catch_driver_panic<T>(probe: impl FnOnce() -> T) -> Result<T, String> {
    let first = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&first);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("no driver").lines().next().unwrap_or_default();
        // The rest lists every file name that was tried for a library.
        let text = text.split(" - searched for").next().unwrap_or_default();
        let text: String = text.chars().take(200).collect();
        seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(probe));
    panic::set_hook(hook);
    let reason = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.map_err(|_| reason.unwrap_or_else(|| "no driver".into()))
}

/// Runs a small computation.
///
/// # Panics
/// If the driver is missing or the result is wrong.
pub fn try_device<B: Backend>(device: &B::Device) {
    let sum: f32 = Tensor::<B, 1>::ones([4], device).sum().into_data().iter::<f32>().sum();
    assert_eq!(sum, 4.0, "the device computes a wrong sum");
}
