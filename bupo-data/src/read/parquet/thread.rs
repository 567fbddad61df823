//! Runs a reader where a panic becomes an error.
//!
//! The `parquet` crate panics at some damaged files, and goes one call deeper for each nested field of a schema. So it
//! runs on a thread of its own, with a large stack; a panic ends that thread only.

use std::{any::Any, panic, sync::Once, thread};

use super::error::ReadError;
use crate::error::DataError;

/// The name of the threads, which the panic hook checks.
const NAME: &str = "bupo-parquet";

/// The stack for everything but a nested schema, in bytes.
const STACK: usize = 8 << 20;

/// The stack for each byte of the footer. A nested field takes at least 7 bytes of the footer, and at most 5 KiB of the
/// stack, without optimization. A stack takes memory only as far as it is used.
const STACK_PER_BYTE: usize = 1024;

/// The largest stack: enough for 200,000 fields one in another, far more than damage makes of a schema.
const MAX_STACK: usize = 1 << 30;

/// Runs `read`, which reads a footer of `footer` bytes, on a thread of its own, and waits for it.
pub(super) fn run<T: Send>(
    file: &str,
    footer: u32,
    read: impl FnOnce() -> Result<T, DataError> + Send,
) -> Result<T, DataError> {
    silence_panics();
    let stack = STACK_PER_BYTE.saturating_mul(footer as usize).saturating_add(STACK).min(MAX_STACK);
    let result = thread::scope(|scope| {
        let thread = thread::Builder::new().name(NAME.to_owned()).stack_size(stack).spawn_scoped(scope, read);
        thread.map(thread::ScopedJoinHandle::join)
    });
    match result {
        Ok(Ok(read)) => read,
        Ok(Err(panic)) => {
            Err(ReadError::Damaged(format!("its contents are inconsistent ({})", message(&*panic))).of(file))
        }
        Err(source) => Err(ReadError::Io(source).of(file)),
    }
}

/// Keeps the panics of these threads off standard error, once for the process: they become errors. The messages of all
/// other threads are written as before.
fn silence_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(NAME) {
                previous(info);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("the decoder panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_errors() {
        let error = run::<()>("f", 0, || panic!("index {} is out of range", 7)).unwrap_err().to_string();
        let expected = "f is a damaged Parquet file: its contents are inconsistent (index 7 is out of range); \
                        fetch or write it again";
        assert_eq!(error, expected);
        assert_eq!(run("f", 0, || Ok(7)).unwrap(), 7);
    }
}
