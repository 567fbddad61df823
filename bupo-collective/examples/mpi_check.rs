//! Checks every operation under `mpirun`, or lets the last process fail: `mpirun -n 3 mpi_check [panic|hang|exit]`.

use std::time::Duration;

use bupo_collective::{CollectiveError, Launch, Mpi, Processes};

fn main() -> Result<(), CollectiveError> {
    let launch = Launch::from_env()?;
    let processes = Processes::new(Box::new(Mpi::join(&launch)?), |text| eprintln!("{text}"));
    let _abort = processes.abort_on_panic(|text| eprintln!("error: {text}"));
    let (rank, size) = (processes.rank(), processes.size());

    let gathered = processes.gather((rank, "x".repeat(rank)))?;
    assert_eq!(gathered, (0..size).map(|rank| (rank, "x".repeat(rank))).collect::<Vec<_>>());
    let said: String = processes.from_first(|| "of process 0".into())?;
    assert_eq!(said, "of process 0");
    let numbers = processes.numbers_from_first(3, || Ok::<_, CollectiveError>(vec![1.5, -0.0, 3.0]))?;
    assert_eq!(numbers, [1.5, -0.0, 3.0]);
    let all = processes.all_gather_numbers(&[rank as f32, 0.5])?;
    assert_eq!(all, (0..size).flat_map(|rank| [rank as f32, 0.5]).collect::<Vec<_>>());

    processes.set_limit(Duration::from_secs(3));
    processes.place("the check");
    let is_last = size > 1 && rank == size - 1;
    match std::env::args().nth(1).as_deref().filter(|_| is_last) {
        Some("panic") => panic!("as asked"),
        Some("hang") => std::thread::sleep(Duration::from_secs(3600)),
        Some("exit") => std::process::exit(7),
        _ => {}
    }
    processes.gather(())?;
    if processes.is_first() {
        println!("{size} processes agree");
    }
    Ok(())
}
