//! Blocks by AMX tiles. The instructions are written out, since their intrinsics are not in stable Rust.

use std::arch::asm;
use std::marker::PhantomData;

use super::product::{BLOCK, Panels, Sums};
use super::tiles::{SIDE, Tile};

/// Whether the processor has tiles with products of bf16, and the system lets this process use them.
pub(super) fn is_usable() -> bool {
    crate::units::has_amx_bf16() && saves_tiles() && permitted()
}

/// Whether the system saves tiles when it switches threads: bits 17 and 18 of XCR0.
fn saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u64 = 1 << 17 | 1 << 18;
    // SAFETY: the register can be read where OSXSAVE is set.
    std::arch::x86_64::__cpuid(1).ecx & OSXSAVE != 0 && unsafe { xcr0() } & TILES == TILES
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: register 0 exists where the instruction does.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}

/// Asks Linux for the use of tiles by all threads of this process, which it grants once and for all.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call that touches no memory of this process; a kernel that does not know it returns an error.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// This thread's tile registers, configured as eight of 16 rows of 64 bytes. They are released when this is dropped, since a system
/// saves them with every switch of threads while they are in use.
pub(super) struct Tiles {
    /// They belong to the thread.
    _not_send: PhantomData<*const ()>,
}

/// What configures tiles: palette 1, then bytes in a row and rows of each.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    const EIGHT: Self = {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            row_bytes[tile] = (4 * SIDE) as u16;
            rows[tile] = SIDE as u8;
            tile += 1;
        }
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };
}

impl Tiles {
    /// # Safety
    /// The processor has AMX, and the system lets this process use it.
    pub(super) unsafe fn configure() -> Self {
        // SAFETY: by the caller's promise; the configuration has 64 bytes and is a valid one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &Config::EIGHT, options(nostack, readonly, preserves_flags)) };
        Self { _not_send: PhantomData }
    }

    /// Computes a block's sums, of two by two tiles. A product of tiles sums the even and the odd elements apart.
    pub(super) fn block(&self, panels: Panels<'_>, sums: &mut Sums) {
        let Panels { left, right, .. } = panels;
        let depth = left[0].len();
        assert!([left[1], right[0], right[1]].iter().all(|panel| panel.len() == depth), "panels of equal length");
        if depth == 0 {
            sums.0 = [[0.0; BLOCK]; BLOCK];
            return;
        }
        // SAFETY: the tiles are configured, and each round of the loop reads the next tile of four panels of `depth` tiles. The
        // sums are 32 rows of 128 bytes, which four tiles fill. Only flags and the registers named are changed.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{left_0} + {row} * 1]",
                "tileloadd tmm6, [{right_0} + {row} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right_1} + {row} * 1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left_1} + {row} * 1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left_0}, {tile}", "add {left_1}, {tile}", "add {right_0}, {tile}", "add {right_1}, {tile}",
                "dec {depth}", "jnz 2b",
                "tilestored [{sums} + {sums_row} * 1], tmm0",
                "tilestored [{sums} + {sums_row} * 1 + {column}], tmm1",
                "tilestored [{sums} + {sums_row} * 1 + {lower}], tmm2",
                "tilestored [{sums} + {sums_row} * 1 + {lower} + {column}], tmm3",
                left_0 = inout(reg) left[0].as_ptr() => _, left_1 = inout(reg) left[1].as_ptr() => _,
                right_0 = inout(reg) right[0].as_ptr() => _, right_1 = inout(reg) right[1].as_ptr() => _,
                depth = inout(reg) depth => _,
                row = in(reg) 4 * SIDE,
                sums = in(reg) sums.0.as_mut_ptr(),
                sums_row = in(reg) 4 * BLOCK,
                tile = const size_of::<Tile>(), column = const 4 * SIDE, lower = const SIDE * 4 * BLOCK,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: this thread's tiles are configured and hold nothing that is still needed.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}
