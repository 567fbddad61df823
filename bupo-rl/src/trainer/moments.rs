//! The moments of a checkpoint: `ID.first` and `ID.second` in f32, bf16 or 8-bit codes, the latter with the largest absolute value of
//! each block in `ID.first.absmax` and `ID.second.absmax`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bupo_collective::Processes;
use bupo_core::kernels::{MOMENT_BLOCK, Moment};
use burn::tensor::{DType, TensorData, backend::Backend};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::RlError;
use crate::update::{DecoderOptimizer, HostMoment, MomentOf, Moments};

const FILE: &str = "optimizer.safetensors";
const ABSMAX: &str = ".absmax";

/// Moments on the host, by name.
pub(crate) type HostMoments = Vec<(String, TensorData)>;

/// A copy of whole moments.
pub(crate) fn on_host<B: Backend>(moments: &BTreeMap<u64, Moments<B>>) -> HostMoments {
    let named = moments.iter().flat_map(|(id, moments)| {
        let both = [(MomentOf::First, &moments.first), (MomentOf::Second, &moments.second)];
        both.into_iter().flat_map(move |(of, moment)| tensors(&format!("{id}.{}", of.name()), moment.clone()))
    });
    named.collect()
}

/// The whole moments, of which each process has a share, in process 0; in the others none.
pub(crate) fn gathered<B: Backend>(
    optimizer: &DecoderOptimizer<B>,
    lengths: &BTreeMap<u64, usize>,
    processes: &Processes,
) -> Result<HostMoments, RlError> {
    let mut gathered = Vec::new();
    // Process 0 has a share of every parameter, and the names and dtypes are the same in all processes.
    for (name, part) in on_host(optimizer.moments()) {
        let id = name.split('.').next().and_then(|id| id.parse().ok());
        let length = id.and_then(|id: u64| lengths.get(&id).copied()).unwrap_or_default();
        let count = if name.ends_with(ABSMAX) { length.div_ceil(MOMENT_BLOCK) } else { length };
        let mut all = processes.all_gather_numbers(&part.iter::<f32>().collect::<Vec<_>>())?;
        if processes.is_first() {
            all.truncate(count);
            gathered.push((name, TensorData::new(all, [count]).convert_dtype(part.dtype)));
        }
    }
    Ok(gathered)
}

/// The tensors of a moment, the first with this name.
fn tensors<B: Backend>(name: &str, moment: Moment<B>) -> HostMoments {
    match moment {
        Moment::F32(values) | Moment::Bf16(values) => vec![(name.to_string(), values.into_data())],
        Moment::EightBit(numbers) => {
            let (codes, absmax) = numbers.into_host();
            let (length, blocks) = (codes.len(), absmax.len());
            vec![
                (name.to_string(), TensorData::new(codes, [length])),
                (format!("{name}{ABSMAX}"), TensorData::new(absmax, [blocks])),
            ]
        }
    }
}

/// Writes the moments into a checkpoint's folder.
pub(crate) fn write_moments(checkpoint: &Path, moments: &HostMoments) -> Result<(), RlError> {
    write_tensors(&checkpoint.join(FILE), moments)
}

/// Writes tensors with these names into a file.
pub(super) fn write_tensors(path: &Path, tensors: &[(String, TensorData)]) -> Result<(), RlError> {
    let failed = |error: SafeTensorError| RlError::io("write", path)(std::io::Error::other(error));
    let views = tensors.iter().map(|(name, data)| Ok((name, view(data)?)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    safetensors::serialize_to_file(views, None, path).map_err(failed)
}

fn view(data: &TensorData) -> Result<TensorView<'_>, SafeTensorError> {
    let dtype = match data.dtype {
        DType::BF16 => Dtype::BF16,
        DType::U8 => Dtype::U8,
        _ => Dtype::F32,
    };
    TensorView::new(dtype, data.shape.to_vec(), data.as_bytes())
}

/// Reads the moments of a checkpoint's folder in process 0, and gives them to the others: whole ones, or each process's share. They
/// become those of the optimizer's dtype, if they are of another one.
pub(crate) fn read_moments<B: Backend>(
    checkpoint: &Path,
    steps: &BTreeMap<u64, usize>,
    optimizer: &DecoderOptimizer<B>,
    device: &B::Device,
    processes: &Processes,
) -> Result<BTreeMap<u64, Moments<B>>, RlError> {
    let path = checkpoint.join(FILE);
    let bytes = if processes.is_first() { fs::read(&path).map_err(RlError::io("read", &path))? } else { Vec::new() };
    let io_error = |error: SafeTensorError| RlError::io("read", &path)(std::io::Error::other(error));
    let file = if processes.is_first() { Some(SafeTensors::deserialize(&bytes).map_err(io_error)?) } else { None };
    let moment = |id: u64, of: MomentOf| -> Result<Moment<B>, RlError> {
        let name = format!("{id}.{}", of.name());
        let read = file.as_ref().map(|file| host_moment(file, &name)).transpose().map_err(io_error)?;
        let whole = shared(read, processes)?;
        Ok(optimizer.shares(whole.len(), processes).moment(of, &whole, device))
    };
    steps
        .iter()
        .map(|(id, steps)| {
            let moments =
                Moments { first: moment(*id, MomentOf::First)?, second: moment(*id, MomentOf::Second)?, steps: *steps };
            Ok((*id, moments))
        })
        .collect()
}

fn host_moment(file: &SafeTensors<'_>, name: &str) -> Result<HostMoment, SafeTensorError> {
    let view = file.tensor(name)?;
    let words = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(match view.dtype() {
        Dtype::U8 => HostMoment::EightBit {
            codes: view.data().to_vec(),
            absmax: words(file.tensor(&format!("{name}{ABSMAX}"))?.data()),
        },
        // A number in bf16 is the upper half of the same number in f32.
        Dtype::BF16 => {
            HostMoment::Numbers(view.data().chunks_exact(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect())
        }
        _ => HostMoment::Numbers(words(view.data())),
    })
}

/// Gives a moment that process 0 has read to the others.
fn shared(read: Option<HostMoment>, processes: &Processes) -> Result<HostMoment, RlError> {
    let (numbers, absmax) = match read {
        Some(read) if processes.is_alone() => return Ok(read),
        Some(HostMoment::Numbers(values)) => (values, None),
        Some(HostMoment::EightBit { codes, absmax }) => (codes.into_iter().map(f32::from).collect(), Some(absmax)),
        None => (Vec::new(), None),
    };
    let (length, blocks) = processes.from_first(|| (numbers.len(), absmax.as_ref().map(Vec::len)))?;
    let numbers = processes.numbers_from_first(length, || Ok::<_, RlError>(numbers))?;
    let Some(blocks) = blocks else { return Ok(HostMoment::Numbers(numbers)) };
    let absmax = processes.numbers_from_first(blocks, || Ok::<_, RlError>(absmax.unwrap_or_default()))?;
    Ok(HostMoment::EightBit { codes: numbers.into_iter().map(|code| code as u8).collect(), absmax })
}
