//! Which unit multiplies bf16 numbers.

use std::sync::LazyLock;

use super::product::{Panels, Sums};
use super::{PackedWeights, packed_products};

/// A unit of this processor that multiplies bf16 numbers faster than its vectors multiply f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bf16Unit(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A unit that is ready to compute blocks on this thread.
pub(super) enum Started {
    #[cfg(target_arch = "x86_64")]
    Amx(super::amx::Tiles),
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

static CHOSEN: LazyLock<Option<Bf16Unit>> =
    LazyLock::new(|| kind(&crate::units::named()).map(Bf16Unit).filter(|unit| unit.is_right()));

impl Bf16Unit {
    /// The unit that products in bf16 are worth computing on; `None` if they are faster in f32 here.
    ///
    /// The choice depends on the processor alone and not on a measurement, so that a machine always makes the same one and a seed
    /// the same run. A unit that does not compute a small product as it should is not chosen.
    pub fn chosen() -> Option<Self> {
        *CHOSEN
    }

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => "amx_bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512_bf16",
        }
    }

    /// # Safety
    /// The processor has the unit, and the system lets this process use it.
    #[cfg(test)]
    pub(super) unsafe fn assumed(kind: Kind) -> Self {
        Self(kind)
    }

    /// Prepares the unit for this thread, until the result is dropped.
    pub(super) fn start(self) -> Started {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Bf16Unit` of this kind is only made where AMX can be used.
            Kind::Amx => Started::Amx(unsafe { super::amx::Tiles::configure() }),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Started::Avx512,
        }
    }

    /// Whether small products have the results that they should, of whole numbers, whose sums are exact.
    pub(super) fn is_right(self) -> bool {
        // Its own pool, on a thread that waits for nothing else: one of the common pool may be waiting for this choice.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let check = || pool.is_ok_and(|pool| pool.install(|| self.computes_whole_numbers()));
        std::thread::scope(|scope| scope.spawn(check).join().unwrap_or(false))
    }

    fn computes_whole_numbers(self) -> bool {
        let [rows, inner, out] = [19, 77, 35];
        let numbers =
            |count: usize, factor: usize| -> Vec<f32> { (0..count).map(|i| (i * factor % 31) as f32 - 15.0).collect() };
        let (x, w, dy) = (numbers(rows * inner, 7), numbers(out * inner, 11), numbers(rows * out, 13));
        let product =
            |[rows, inner, columns]: [usize; 3], a: &dyn Fn(usize, usize) -> f32, b: &dyn Fn(usize, usize) -> f32| {
                let at = |i: usize| (0..inner).map(|k| a(i / columns, k) * b(k, i % columns)).sum();
                (0..rows * columns).map(at).collect::<Vec<f32>>()
            };
        let (x_at, w_at) = (|i: usize, k: usize| x[i * inner + k], |j: usize, k: usize| w[j * inner + k]);
        let dy_at = |i: usize, j: usize| dy[i * out + j];
        let packed = PackedWeights::new(self, &w, inner);
        packed_products(&x, &[&packed]) == [product([rows, inner, out], &x_at, &|k, j| w_at(j, k))]
            && packed.input_gradient(&dy) == product([rows, out, inner], &dy_at, &w_at)
            && self.weight_gradient(&dy, out, &x, inner) == product([out, rows, inner], &|j, i| dy_at(i, j), &x_at)
    }
}

impl Started {
    /// Computes a block's sums.
    pub(super) fn block(&self, panels: Panels<'_>, sums: &mut Sums) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(tiles) => tiles.block(panels, sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Bf16Unit` of this kind is only made where the processor has these instructions.
            Self::Avx512 => unsafe { super::avx512::block(panels, sums) },
        }
    }
}

/// The unit to use, by the processor: AMX where there is one, which is 3 to 8 times as fast as f32 vectors. AVX512-BF16 on AMD's
/// processors (Zen 4 and later), which issue as many of its instructions as f32 ones, with twice the products in each; Intel's
/// take twice as long for them, and were measured at half the f32 rate.
#[cfg(target_arch = "x86_64")]
fn kind(named: &str) -> Option<Kind> {
    let amx = || super::amx::is_usable().then_some(Kind::Amx);
    let avx512 = || super::avx512::is_usable().then_some(Kind::Avx512);
    match named {
        "scalar" | "avx2" => None,
        "amx" => amx(),
        "avx512bf16" => avx512(),
        _ => amx().or_else(|| is_amd().then(avx512).flatten()),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn kind(_: &str) -> Option<Kind> {
    None
}

#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}
