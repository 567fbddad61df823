//! Device names of the command line.

use std::fmt;
use std::str::FromStr;

/// A device as named by `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first available of CUDA, a GPU through WGPU, and the CPU.
    Auto,
    /// The CPU with Burn's flex backend.
    Cpu,
    /// The CPU with Burn's ndarray backend, an independent implementation to compare with.
    Ndarray,
    /// The WGPU device with this index, or the first.
    Wgpu(Option<usize>),
    /// The NVIDIA GPU with this index.
    Cuda(usize),
}

impl DeviceChoice {
    /// Whether it is the CPU backend.
    pub fn is_cpu(self) -> bool {
        self == Self::Cpu
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown device `{text}`: write auto, cpu, ndarray, wgpu, wgpu:N, cuda or cuda:N");
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("ndarray", None) => Ok(Self::Ndarray),
            ("wgpu", index) => Ok(Self::Wgpu(index)),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Ndarray => f.write_str("ndarray"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}
