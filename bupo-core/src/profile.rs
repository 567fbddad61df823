//! Time spent in each part of the work.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use burn::tensor::backend::Backend;

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Products with weights, forward and backward.
    MatrixProducts,
    /// Attention scores, weights and their products with values, forward and backward.
    Attention,
    /// Norms and rotary embeddings.
    Norms,
    /// SwiGLU.
    Gates,
    /// The KV cache, and attention over it.
    Cache,
    /// Logits, log-probs and entropies, forward and backward.
    Unembedding,
    /// Logits of the newest tokens, and sampling from them.
    Sampling,
    /// AdamW.
    Optimizer,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 8] = [
        Self::MatrixProducts,
        Self::Attention,
        Self::Norms,
        Self::Gates,
        Self::Cache,
        Self::Unembedding,
        Self::Sampling,
        Self::Optimizer,
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MatrixProducts => "matrix products",
            Self::Attention => "attention",
            Self::Norms => "norms",
            Self::Gates => "gates",
            Self::Cache => "cache",
            Self::Unembedding => "unembedding",
            Self::Sampling => "sampling",
            Self::Optimizer => "optimizer",
        })
    }
}

static ON: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; Part::ALL.len()] = [const { AtomicU64::new(0) }; Part::ALL.len()];

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Starts measuring from zero. Every part then waits for the device before and after it, which makes the work slower.
pub fn start() {
    NANOSECONDS.iter().for_each(|sum| sum.store(0, Ordering::Relaxed));
    ON.store(true, Ordering::Relaxed);
}

/// Stops measuring and returns the seconds of each part.
pub fn stop() -> Vec<(Part, f64)> {
    ON.store(false, Ordering::Relaxed);
    let seconds = |part: Part| NANOSECONDS[part as usize].load(Ordering::Relaxed) as f64 * 1e-9;
    Part::ALL.into_iter().map(|part| (part, seconds(part))).collect()
}

/// Runs `f` and adds its time to `part`, unless it runs inside another part.
pub fn timed<B: Backend, R>(part: Part, device: &B::Device, f: impl FnOnce() -> R) -> R {
    if !ON.load(Ordering::Relaxed) || INSIDE.get() {
        return f();
    }
    // A backend that cannot synchronize is measured without.
    B::sync(device).ok();
    INSIDE.set(true);
    let started = Instant::now();
    let result = f();
    B::sync(device).ok();
    NANOSECONDS[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    INSIDE.set(false);
    result
}
