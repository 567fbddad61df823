//! What the processor multiplies with.

use std::sync::LazyLock;

use pulp::Arch;

/// The units to use, to compare them or to test what another processor would run: `avx2` or `scalar` are the widest vectors, `amx`
/// or `avx512bf16` the unit of products in bf16, whatever is faster.
const UNITS: &str = "BUPO_VECTOR_UNITS";

static ARCH: LazyLock<Arch> = LazyLock::new(|| narrower(&named()));

/// The units that the environment names; empty if none.
pub(crate) fn named() -> String {
    std::env::var(UNITS).unwrap_or_default()
}

/// The vectors that products use: the widest of this processor, unless `BUPO_VECTOR_UNITS` names narrower ones.
pub(crate) fn arch() -> Arch {
    *ARCH
}

fn narrower(units: &str) -> Arch {
    match units {
        "scalar" => Arch::Scalar,
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        "avx2" => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::new(),
    }
}

/// The vector and matrix units of this processor that matter to products, by their usual names.
pub fn vector_units() -> Vec<&'static str> {
    let mut units = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512_bf16", is_x86_feature_detected!("avx512bf16")),
            ("amx_bf16", has_amx_bf16()),
        ];
        units.extend(known.into_iter().filter(|(_, present)| *present).map(|(name, _)| name));
    }
    #[cfg(target_arch = "aarch64")]
    units.push("neon");
    units
}

/// Whether the processor has tiles with products of bf16 (bits 22 and 24 of leaf 7's EDX).
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_amx_bf16() -> bool {
    const AMX: u32 = 1 << 22 | 1 << 24;
    std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & AMX == AMX
}
