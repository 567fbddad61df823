//! How the processes learn the id of their NCCL communicator: process 0 makes it and gives it to all that connect.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::Launch;

/// NCCL's id.
pub(super) type NcclId = [std::ffi::c_char; 128];

/// `torchrun` listens at `MASTER_PORT` itself, so the port after it is taken.
const PORT_AFTER: u16 = 1;
/// The port without `MASTER_PORT`.
const PORT: u16 = 29_410;
/// How long processes look for each other.
const LIMIT: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(100);

/// The id that process 0 makes.
///
/// # Errors
/// In one sentence: if no address is known, or processes do not connect in time.
pub(super) fn shared_id(launch: &Launch, make: impl FnOnce() -> Result<NcclId, String>) -> Result<NcclId, String> {
    let address = address(launch, |name| std::env::var(name).ok())?;
    if launch.rank == 0 { give(&address, launch.size - 1, &make()?) } else { receive(&address) }
}

fn address(launch: &Launch, variable: impl Fn(&str) -> Option<String>) -> Result<(String, u16), String> {
    let host = variable("MASTER_ADDR").or_else(|| variable("SLURM_LAUNCH_NODE_IPADDR"));
    let host = host.or_else(|| (launch.local_size == launch.size).then(|| "127.0.0.1".to_string()));
    let host = host.ok_or("set MASTER_ADDR to the address of process 0's machine, in all processes")?;
    let Some(text) = variable("MASTER_PORT") else { return Ok((host, PORT)) };
    let port: Option<u16> = text.parse().ok().and_then(|port: u16| port.checked_add(PORT_AFTER));
    Ok((host, port.ok_or_else(|| format!("MASTER_PORT is `{text}`, which is not a port"))?))
}

/// Gives the id to as many processes as there are others.
fn give((host, port): &(String, u16), others: usize, id: &NcclId) -> Result<NcclId, String> {
    let failed =
        |error: std::io::Error| format!("process 0 cannot listen at port {port} ({error}); set another MASTER_PORT");
    let listener = TcpListener::bind(("0.0.0.0", *port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let started = Instant::now();
    let mut connected = 0;
    while connected < others {
        match listener.accept() {
            Ok((mut stream, _)) => {
                // A connection that breaks is one that will come again.
                connected += usize::from(stream.write_all(&bytes(id)).is_ok());
            }
            Err(_) if started.elapsed() < LIMIT => std::thread::sleep(PAUSE),
            Err(_) => {
                let seconds = LIMIT.as_secs();
                return Err(format!(
                    "{connected} of {others} other processes connected to {host}:{port} within {seconds} s"
                ));
            }
        }
    }
    Ok(*id)
}

fn receive((host, port): &(String, u16)) -> Result<NcclId, String> {
    let started = Instant::now();
    loop {
        let received = TcpStream::connect((host.as_str(), *port)).and_then(|mut stream| {
            let mut bytes = [0_u8; 128];
            stream.read_exact(&mut bytes)?;
            Ok(bytes.map(|byte| byte as std::ffi::c_char))
        });
        match received {
            Ok(id) => return Ok(id),
            Err(_) if started.elapsed() < LIMIT => std::thread::sleep(PAUSE),
            Err(error) => {
                let seconds = LIMIT.as_secs();
                return Err(format!(
                    "process 0 does not answer at {host}:{port} within {seconds} s ({error}); set MASTER_ADDR"
                ));
            }
        }
    }
}

fn bytes(id: &NcclId) -> [u8; 128] {
    id.map(|character| character as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Launcher;

    fn launch(rank: usize, size: usize, local_size: usize) -> Launch {
        Launch { launcher: Launcher::Torchrun, rank, size, local_rank: rank % local_size, local_size }
    }

    #[test]
    fn the_address_is_the_launchers_or_this_machine() {
        let of = |launch: &Launch, variables: &[(&str, &str)]| {
            address(launch, |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
        };
        let torchrun = [("MASTER_ADDR", "node7"), ("MASTER_PORT", "29500")];
        assert_eq!(of(&launch(1, 4, 2), &torchrun), Ok(("node7".into(), 29_501)));
        assert_eq!(of(&launch(1, 4, 4), &[]), Ok(("127.0.0.1".into(), PORT)));
        assert!(of(&launch(1, 4, 2), &[]).unwrap_err().contains("MASTER_ADDR"));
        assert!(of(&launch(1, 4, 4), &[("MASTER_PORT", "x")]).unwrap_err().contains("MASTER_PORT is `x`"));
    }

    #[test]
    fn every_process_gets_the_id_of_process_0() {
        let id: NcclId = std::array::from_fn(|i| (i as i64 - 60) as std::ffi::c_char);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = ("127.0.0.1".to_string(), free);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..4).map(|_| scope.spawn(|| receive(&address))).collect();
            assert_eq!(give(&address, 3, &id), Ok(id));
            others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), Ok(id)));
        });
    }
}
