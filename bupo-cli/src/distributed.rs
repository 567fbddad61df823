//! The processes of `bupo train` under a launcher: mpirun, torchrun or srun.

use std::path::{Path, PathBuf};

use bupo_collective::{Launch, Processes};
use clap::ValueEnum;

use crate::backend::{DeviceChoice, resolve};
use crate::error::CliError;

/// What connects the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DistBackend {
    /// nccl between NVIDIA GPUs, else mpi
    Auto,
    /// MPI: any devices, through the host
    Mpi,
    /// NCCL: NVIDIA GPUs
    Nccl,
}

/// What the launcher says of this process; a single process if its variables contradict each other, which `join` reports.
pub fn launch() -> Launch {
    Launch::from_env().unwrap_or(Launch::ALONE)
}

/// The device of this process. Each process of a machine takes an NVIDIA GPU of its own, unless the launcher shows it only one.
///
/// # Errors
/// As [`resolve`].
pub fn device(choice: DeviceChoice, launch: &Launch) -> Result<DeviceChoice, CliError> {
    let sees_one = std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|devices| !devices.contains(','));
    match resolve(choice)? {
        DeviceChoice::Cuda(0) if launch.size > 1 && !sees_one => resolve(DeviceChoice::Cuda(launch.local_rank)),
        device => Ok(device),
    }
}

/// Joins the processes that the launcher started. A single process is joined to itself if a backend is named.
///
/// # Errors
/// If they cannot be joined, or this program was built without what connects them.
pub fn join(backend: DistBackend, device: DeviceChoice) -> Result<Processes, CliError> {
    let launch = Launch::from_env()?;
    if launch.size == 1 && backend == DistBackend::Auto {
        return Ok(Processes::alone());
    }
    let gpu = if let DeviceChoice::Cuda(gpu) = device { Some(gpu) } else { None };
    match (backend, gpu) {
        (DistBackend::Auto | DistBackend::Nccl, Some(gpu)) => by_nccl(&launch, gpu),
        (DistBackend::Nccl, None) => Err(CliError::Message(format!(
            "--dist-backend nccl connects NVIDIA GPUs, but the device is {device}; give --device cuda, or --dist-backend mpi"
        ))),
        (DistBackend::Auto | DistBackend::Mpi, _) => by_mpi(&launch),
    }
}

#[cfg(feature = "mpi")]
fn by_mpi(launch: &Launch) -> Result<Processes, CliError> {
    Ok(Processes::new(Box::new(bupo_collective::Mpi::join(launch)?), report))
}

#[cfg(not(feature = "mpi"))]
fn by_mpi(launch: &Launch) -> Result<Processes, CliError> {
    Err(not_built(launch, "MPI", "mpi (it needs an MPI and libclang)"))
}

#[cfg(feature = "cuda")]
fn by_nccl(launch: &Launch, gpu: usize) -> Result<Processes, CliError> {
    Ok(Processes::new(Box::new(bupo_collective::Nccl::join(launch, gpu)?), report))
}

#[cfg(not(feature = "cuda"))]
fn by_nccl(launch: &Launch, _gpu: usize) -> Result<Processes, CliError> {
    Err(not_built(launch, "NCCL", "cuda"))
}

#[cfg(not(all(feature = "mpi", feature = "cuda")))]
fn not_built(launch: &Launch, what: &str, feature: &str) -> CliError {
    if launch.size == 1 {
        return CliError::Message(format!(
            "this program was built without {what}; build it with --features {feature}, or leave --dist-backend out"
        ));
    }
    CliError::Message(format!(
        "{} started {} processes, but this program was built without {what}, which would connect them; build it with --features \
         {feature}, or start it once",
        launch.launcher, launch.size
    ))
}

#[cfg(any(feature = "mpi", feature = "cuda"))]
fn report(text: &str) {
    eprintln!("{text}");
}

/// The log of a process in the folder of its run.
pub fn log_file(run: &Path, rank: usize) -> PathBuf {
    run.join("logs").join(format!("rank-{rank}.log"))
}
