//! Failures that all processes of a run learn of, so that they end together with the same reason.

use bupo_collective::Processes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::RlError;

/// What a process tells the others.
#[derive(Serialize, Deserialize)]
enum Said<T> {
    Done(T),
    Failed { reason: String, of_an_engine: bool },
}

/// Operations that return an error in all processes if one fails.
pub(crate) trait Agree {
    /// The values of all processes, in the order of ranks.
    ///
    /// # Errors
    /// Of the first process that failed. In a single process, its own.
    fn agreed<T: Serialize + DeserializeOwned>(&self, value: Result<T, RlError>) -> Result<Vec<T>, RlError>;

    /// The value of process 0, where alone `make` is called.
    ///
    /// # Errors
    /// That of process 0.
    fn agreed_first<T: Serialize + DeserializeOwned>(
        &self,
        make: impl FnOnce() -> Result<T, RlError>,
    ) -> Result<T, RlError>;
}

impl Agree for Processes {
    fn agreed<T: Serialize + DeserializeOwned>(&self, value: Result<T, RlError>) -> Result<Vec<T>, RlError> {
        if self.is_alone() {
            return Ok(vec![value?]);
        }
        let all = self.gather(said(value))?;
        all.into_iter().enumerate().map(|(rank, said)| heard(said, rank, self.size())).collect()
    }

    fn agreed_first<T: Serialize + DeserializeOwned>(
        &self,
        make: impl FnOnce() -> Result<T, RlError>,
    ) -> Result<T, RlError> {
        if self.is_alone() {
            return make();
        }
        heard(self.from_first(|| said(make()))?, 0, self.size())
    }
}

fn said<T>(value: Result<T, RlError>) -> Said<T> {
    match value {
        Ok(value) => Said::Done(value),
        Err(error) => Said::Failed { reason: error.to_string(), of_an_engine: error.is_of_an_engine() },
    }
}

fn heard<T>(said: Said<T>, rank: usize, size: usize) -> Result<T, RlError> {
    match said {
        Said::Done(value) => Ok(value),
        Said::Failed { reason, of_an_engine } => Err(RlError::Process { rank, size, reason, of_an_engine }),
    }
}

#[cfg(test)]
mod tests {
    use bupo_collective::threads;

    use super::*;

    #[test]
    fn a_failure_of_one_process_is_the_error_of_all() {
        let errors: Vec<String> = std::thread::scope(|scope| {
            let running: Vec<_> = threads(3)
                .into_iter()
                .map(|one| {
                    scope.spawn(move || {
                        let processes = Processes::new(Box::new(one), |_| {});
                        let rank = processes.rank();
                        let own = if rank == 1 { Err(RlError::Config("wrong".into())) } else { Ok(rank) };
                        processes.agreed(own).unwrap_err().to_string()
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(errors, ["process 1 of 3: settings: wrong"; 3]);
    }

    #[test]
    fn a_single_process_returns_its_own_error() {
        let error = Processes::alone().agreed::<()>(Err(RlError::Config("wrong".into()))).unwrap_err();
        assert_eq!(error.to_string(), "settings: wrong");
    }
}
