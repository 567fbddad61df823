//! What a launcher tells a process in its environment.

use std::fmt;

use crate::CollectiveError;

/// Who started the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// Nobody: a single process.
    None,
    /// `torchrun`, or anything that sets `RANK` and `WORLD_SIZE`.
    Torchrun,
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// `mpirun` of MPICH, Intel MPI and others that speak PMI.
    Pmi,
    /// `srun` of Slurm.
    Slurm,
}

/// This process among those that a launcher started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Who started them.
    pub launcher: Launcher,
    /// This process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    /// This process among those of its machine, from 0.
    pub local_rank: usize,
    /// The processes of this machine; 1 if the launcher does not say.
    pub local_size: usize,
}

/// The variables of a launcher: rank, size, local rank, local size.
const VARIABLES: [(Launcher, [&str; 4]); 4] = [
    (
        Launcher::OpenMpi,
        ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"],
    ),
    (Launcher::Pmi, ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"]),
    (Launcher::Torchrun, ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"]),
    // Of the step that `srun` starts: a batch script's own variables count all tasks of its allocation, though it runs once.
    (Launcher::Slurm, ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"]),
];

impl Launch {
    /// A process without a launcher.
    pub const ALONE: Self = Self { launcher: Launcher::None, rank: 0, size: 1, local_rank: 0, local_size: 1 };

    /// What the environment says.
    ///
    /// # Errors
    /// If a launcher's variables contradict each other or are not numbers.
    pub fn from_env() -> Result<Self, CollectiveError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same from a function that returns variables.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CollectiveError> {
        let number = |name: &'static str| -> Result<Option<usize>, CollectiveError> {
            let Some(value) = variable(name) else { return Ok(None) };
            // Slurm writes `4(x2)` for 4 tasks on each of 2 machines.
            let digits = value.split(['(', ',']).next().unwrap_or_default();
            let parsed = digits.parse().ok();
            parsed.map(Some).ok_or(CollectiveError::Environment { name, value, expected: "a number" })
        };
        for (launcher, [rank, size, local_rank, local_size]) in VARIABLES {
            let (Some(process), Some(processes)) = (number(rank)?, number(size)?) else { continue };
            if processes < 2 {
                return Ok(Self::ALONE);
            }
            if process >= processes {
                let value = process.to_string();
                return Err(CollectiveError::Environment {
                    name: rank,
                    value,
                    expected: "below the number of processes",
                });
            }
            // `srun` with PMI tells the place on a machine by variables of its own only.
            let either = |first: Option<usize>, second| first.map_or_else(|| number(second), |value| Ok(Some(value)));
            let local_rank = either(number(local_rank)?, "SLURM_LOCALID")?.unwrap_or(0);
            let local_size = either(number(local_size)?, "SLURM_STEP_TASKS_PER_NODE")?.unwrap_or(1);
            let local_size = local_size.max(local_rank + 1);
            return Ok(Self { launcher, rank: process, size: processes, local_rank, local_size });
        }
        Ok(Self::ALONE)
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no launcher",
            Self::Torchrun => "torchrun",
            Self::OpenMpi | Self::Pmi => "mpirun",
            Self::Slurm => "srun",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Launch, String> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string());
        Launch::from_variables(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn each_launcher_is_understood() {
        let of =
            |launcher, rank, size, local_rank, local_size| Ok(Launch { launcher, rank, size, local_rank, local_size });
        assert_eq!(launch(&[]), Ok(Launch::ALONE));
        let torchrun = [("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")];
        assert_eq!(launch(&torchrun), of(Launcher::Torchrun, 5, 8, 1, 4));
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "2"),
            ("OMPI_COMM_WORLD_SIZE", "3"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "2"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "3"),
        ];
        assert_eq!(launch(&open_mpi), of(Launcher::OpenMpi, 2, 3, 2, 3));
        let mpich = [("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "1"), ("MPI_LOCALNRANKS", "2")];
        assert_eq!(launch(&mpich), of(Launcher::Pmi, 1, 2, 1, 2));
        let slurm = [
            ("SLURM_PROCID", "7"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_LOCALID", "3"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
        ];
        assert_eq!(launch(&slurm), of(Launcher::Slurm, 7, 8, 3, 4));
        let slurm_pmi =
            [("PMI_RANK", "3"), ("PMI_SIZE", "4"), ("SLURM_LOCALID", "1"), ("SLURM_STEP_TASKS_PER_NODE", "2(x2)")];
        assert_eq!(launch(&slurm_pmi), of(Launcher::Pmi, 3, 4, 1, 2));
        // A batch script without `srun` runs once, whatever its allocation is.
        assert_eq!(launch(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]), Ok(Launch::ALONE));
        // A launcher that starts one process starts a single process.
        assert_eq!(launch(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(Launch::ALONE));
    }

    #[test]
    fn contradictions_are_errors() {
        let text = launch(&[("RANK", "4"), ("WORLD_SIZE", "4")]).unwrap_err();
        assert!(text.contains("RANK is `4`"), "{text}");
        let text = launch(&[("RANK", "one"), ("WORLD_SIZE", "4")]).unwrap_err();
        assert!(text.contains("RANK is `one`, which is not a number"), "{text}");
    }
}
