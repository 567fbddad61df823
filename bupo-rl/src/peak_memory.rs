//! The peak memory of the process.

/// The largest resident memory of this process so far, in bytes: `VmHWM` of Linux; `None` on other systems.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_rises_with_what_is_allocated() {
        const SIZE: usize = 64 << 20;
        let before = peak_memory().unwrap_or_default();
        let block = std::hint::black_box(vec![1_u8; SIZE]);
        let after = peak_memory().unwrap_or_default();
        assert!(before > 1 << 20 && after > before + SIZE as u64 / 2, "{before} {after} {}", block.len());
    }
}
