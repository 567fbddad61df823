//! What the processor multiplies with.

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
fn has_amx_bf16() -> bool {
    const AMX: u32 = 1 << 22 | 1 << 24;
    std::arch::x86_64::__cpuid(0).eax >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & AMX == AMX
}
