//! The processor's name.

use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The processor's name, as it gives it itself.
pub fn processor() -> String {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    system.cpus().first().map_or("CPU", |cpu| cpu.brand().trim()).to_string()
}
