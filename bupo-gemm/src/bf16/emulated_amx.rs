//! The AMX instructions that blocks use, emulated on processors without them, so that the same machine code is tested everywhere.
//!
//! An instruction that the processor does not know raises SIGILL. Its handler carries the instruction out, as Intel's manual (Software
//! Developer's Manual, volume 2) defines it, and continues behind it. Anything else that raises the signal ends the process.

use std::cell::UnsafeCell;
use std::sync::Once;

/// A thread's tile registers.
struct State {
    configured: bool,
    row_bytes: [usize; 8],
    rows: [usize; 8],
    tiles: [[u8; 1024]; 8],
}

thread_local! {
    static STATE: UnsafeCell<State> =
        const { UnsafeCell::new(State { configured: false, row_bytes: [0; 8], rows: [0; 8], tiles: [[0; 1024]; 8] }) };
}

/// Makes the instructions usable, by the processor itself if it has them.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if super::amx::is_usable() {
            return;
        }
        // SAFETY: the action is zeroed but for the handler, which has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
        }
    });
}

/// Whether this thread's emulated tiles are configured; the processor's own are never.
pub(super) fn is_configured() -> bool {
    // SAFETY: the handler, which alone writes it, does not run meanwhile.
    STATE.with(|state| unsafe { (*state.get()).configured })
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the context is that of this thread, interrupted at an instruction; no other reference to its tiles exists, since the
    // code below raises no such signal.
    let understood = unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        STATE.with(|state| carry_out(&mut *state.get(), registers))
    };
    if !understood {
        // SAFETY: ends the process.
        unsafe { libc::abort() };
    }
}

/// Returns whether the next instruction is one of the emulated, after carrying it out.
///
/// # Safety
/// The registers are those of this thread at an instruction, whose operands are valid.
unsafe fn carry_out(state: &mut State, registers: &mut [i64; 23]) -> bool {
    let rip = libc::REG_RIP as usize;
    let code = registers[rip] as *const u8;
    // SAFETY: the instruction has as many bytes as are read: three of the VEX prefix, an opcode, and ModRM.
    let [vex, first, second, opcode, modrm] = unsafe { [0, 1, 2, 3, 4].map(|at| *code.add(at)) };
    // A three-byte prefix, the opcode map 0F38, W0 and 128 bits.
    if vex != 0xc4 || first & 0x1f != 2 || second & 0x84 != 0 {
        return false;
    }
    let in_memory = modrm >> 6 != 3;
    let register = usize::from(modrm >> 3 & 7);
    let third = usize::from(!second >> 3 & 0xf);
    let (address, stride, length) =
        // SAFETY: as promised by the caller.
        if in_memory { unsafe { memory_operand(code, first, modrm, registers) } } else { (0, 0, 5) };
    // SAFETY: as promised by the caller.
    unsafe {
        match (second & 3, opcode, in_memory) {
            (0, 0x49, true) => state.configure(address as *const u8),
            (0, 0x49, false) if modrm == 0xc0 => state.configured = false,
            (3, 0x49, false) => state.usable().tiles[register] = [0; 1024],
            (3, 0x4b, true) => state.usable().load(register, address, stride),
            (2, 0x4b, true) => state.usable().store(register, address, stride),
            (2, 0x5c, false) => state.usable().multiply(register, usize::from(modrm & 7), third),
            _ => return false,
        }
    }
    registers[rip] += length;
    true
}

/// A memory operand's address without the index, the index register's value times its scale, and the instruction's length.
///
/// # Safety
/// As [`carry_out`].
unsafe fn memory_operand(code: *const u8, prefix: u8, modrm: u8, registers: &[i64; 23]) -> (i64, i64, i64) {
    // By the numbers of instructions.
    let names = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    let value = |number: u8| registers[names[usize::from(number)] as usize];
    let (high_index, high_base) = ((!prefix >> 6 & 1) << 3, (!prefix >> 5 & 1) << 3);
    let (mode, low) = (modrm >> 6, modrm & 7);
    // SAFETY: the instruction has an SIB byte if `low` is 4, and a displacement of the size that `mode` says.
    unsafe {
        let (base, stride, mut length) = if low == 4 {
            let sib = *code.add(5);
            let index = sib >> 3 & 7 | high_index;
            let stride = if index == 4 { 0 } else { value(index) << (sib >> 6) };
            assert!(mode != 0 || sib & 7 != 5, "a base");
            (value(sib & 7 | high_base), stride, 6)
        } else if mode == 0 && low == 5 {
            // Relative to the next instruction.
            (registers[libc::REG_RIP as usize] + 9, 0, 5)
        } else {
            (value(low | high_base), 0, 5)
        };
        let displacement = if mode == 1 {
            i64::from(*code.add(length).cast::<i8>())
        } else if mode == 2 || (mode == 0 && low == 5) {
            i64::from(code.add(length).cast::<i32>().read_unaligned())
        } else {
            0
        };
        length += match mode {
            1 => 1,
            2 => 4,
            _ if low == 5 => 4,
            _ => 0,
        };
        (base + displacement, stride, length as i64)
    }
}

impl State {
    /// # Safety
    /// `from` points to 64 bytes.
    unsafe fn configure(&mut self, from: *const u8) {
        // SAFETY: by the caller's promise.
        let bytes = unsafe { *from.cast::<[u8; 64]>() };
        assert!(bytes[0] == 1 && bytes[1..16] == [0; 15] && bytes[32..48] == [0; 16] && bytes[56..] == [0; 8]);
        for tile in 0..8 {
            self.row_bytes[tile] = usize::from(bytes[16 + 2 * tile]) + 256 * usize::from(bytes[17 + 2 * tile]);
            self.rows[tile] = usize::from(bytes[48 + tile]);
            assert!(self.row_bytes[tile] <= 64 && self.rows[tile] <= 16);
        }
        self.tiles = [[0; 1024]; 8];
        self.configured = true;
    }

    /// Instructions on tiles that are not configured are invalid.
    fn usable(&mut self) -> &mut Self {
        assert!(self.configured, "tiles are configured");
        self
    }

    /// # Safety
    /// The tile's rows can be read from the address on, a stride apart.
    unsafe fn load(&mut self, tile: usize, address: i64, stride: i64) {
        self.tiles[tile] = [0; 1024];
        for row in 0..self.rows[tile] {
            let to = &mut self.tiles[tile][64 * row..][..self.row_bytes[tile]];
            let from = (address + row as i64 * stride) as *const u8;
            // SAFETY: by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        }
    }

    /// # Safety
    /// The tile's rows can be written from the address on, a stride apart.
    unsafe fn store(&mut self, tile: usize, address: i64, stride: i64) {
        for row in 0..self.rows[tile] {
            let from = &self.tiles[tile][64 * row..][..self.row_bytes[tile]];
            let to = (address + row as i64 * stride) as *mut u8;
            // SAFETY: by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        }
    }

    /// TDPBF16PS: even and odd elements are summed apart, one fused product after the other, then together, then to what is there.
    /// Subnormal operands and results are 0.
    fn multiply(&mut self, to: usize, left: usize, right: usize) {
        let (columns, pairs) = (self.row_bytes[to] / 4, self.row_bytes[left] / 4);
        assert!(self.row_bytes[right] / 4 == columns && self.rows[left] == self.rows[to] && self.rows[right] == pairs);
        let bf16 = |tile: &[u8; 1024], row: usize, at: usize| {
            let low = 64 * row + 2 * at;
            flushed(f32::from_bits(u32::from(u16::from_le_bytes([tile[low], tile[low + 1]])) << 16))
        };
        for row in 0..self.rows[to] {
            for column in 0..columns {
                let mut sums = [0.0; 2];
                for pair in 0..pairs {
                    for (n, sum) in sums.iter_mut().enumerate() {
                        let a = bf16(&self.tiles[left], row, 2 * pair + n);
                        let b = bf16(&self.tiles[right], pair, 2 * column + n);
                        *sum = flushed(a.mul_add(b, *sum));
                    }
                }
                let place = &mut self.tiles[to][64 * row + 4 * column..][..4];
                let before = flushed(f32::from_le_bytes([place[0], place[1], place[2], place[3]]));
                let sum = flushed(before + flushed(sums[0] + sums[1]));
                place.copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

/// 0 of the same sign if `x` is subnormal.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}
