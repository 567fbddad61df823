//! The values of a page, in each of the encodings that writers use.

use super::{
    bits::{Deltas, Hybrid, bits},
    fault::{Decoded, Fault, damaged, unsupported},
    page::{RUN_LENGTH, measured},
    schema::Physical,
};
use crate::read::limits::MAX_VALUE;

/// A value as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// How many bytes its text takes, or more.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            _ => size_of::<i128>(),
        }
    }
}

/// The values that later pages refer to by number.
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// A reader of the values of a page. The page's bytes are given to each call, so that it can live beside them.
pub(super) enum Values {
    Plain {
        at: usize,
    },
    Bits {
        bit: usize,
    },
    Flags(Hybrid),
    Indices(Hybrid),
    Deltas(Deltas),
    /// The lengths of texts, and where the next text begins.
    Lengths {
        lengths: Deltas,
        at: usize,
    },
    /// As above, with how much each text shares with the one before it.
    Suffixes {
        shared: Deltas,
        lengths: Deltas,
        at: usize,
        last: Vec<u8>,
    },
}

impl Dictionary {
    pub(super) fn read(bytes: Vec<u8>, values: usize, physical: Physical) -> Decoded<Self> {
        if physical == Physical::Bool {
            return unsupported("a dictionary of booleans");
        }
        let mut at = 0;
        let mut starts = Vec::new();
        for _ in 0..values {
            starts.push(at);
            plain(&bytes, &mut at, physical)?;
        }
        Ok(Self { bytes, starts })
    }

    fn get(&self, index: u64, physical: Physical) -> Decoded<Value<'_>> {
        let start = usize::try_from(index).ok().and_then(|index| self.starts.get(index).copied());
        match start {
            Some(mut at) => plain(&self.bytes, &mut at, physical),
            None => damaged(format!("a page refers to value {index} of a dictionary of {}", self.starts.len())),
        }
    }
}

impl Values {
    /// A reader of the values that begin at `at`; there are at most `most`.
    pub(super) fn new(encoding: i64, physical: Physical, bytes: &[u8], at: usize, most: usize) -> Decoded<Self> {
        use Physical::{Bool, Bytes, Fixed, Int32, Int64};
        Ok(match (encoding, physical) {
            (0, Bool) => Self::Bits { bit: at.saturating_mul(8) },
            (0, _) => Self::Plain { at },
            (RUN_LENGTH, Bool) => {
                let (start, end) = measured(bytes, at)?;
                Self::Flags(Hybrid::new(start, end, 1)?)
            }
            (2 | 8, _) => match bytes.get(at) {
                Some(&width) => Self::Indices(Hybrid::new(at + 1, bytes.len(), u32::from(width))?),
                // A page of nulls alone may have no bytes at all.
                None => Self::Indices(Hybrid::new(at, bytes.len(), 0)?),
            },
            (5, Int32 | Int64) => Self::Deltas(Deltas::new(bytes, at, most)?),
            (6, Bytes) => {
                let lengths = Deltas::new(bytes, at, most)?;
                let at = lengths.end(bytes)?;
                Self::Lengths { lengths, at }
            }
            (7, Bytes | Fixed(_)) => {
                let shared = Deltas::new(bytes, at, most)?;
                let lengths = Deltas::new(bytes, shared.end(bytes)?, most)?;
                let at = lengths.end(bytes)?;
                Self::Suffixes { shared, lengths, at, last: Vec::new() }
            }
            (9, _) => return unsupported("the byte-stream-split encoding"),
            _ => return damaged(format!("a page has the encoding {encoding}, which its column cannot have")),
        })
    }

    /// The next value.
    pub(super) fn next<'a>(
        &'a mut self,
        bytes: &'a [u8],
        physical: Physical,
        dictionary: Option<&'a Dictionary>,
    ) -> Decoded<Value<'a>> {
        match self {
            Self::Plain { at } => plain(bytes, at, physical),
            Self::Bits { bit } => {
                let flag = bits(bytes, *bit, 1).ok_or_else(short)?;
                *bit += 1;
                Ok(Value::Bool(flag == 1))
            }
            Self::Flags(flags) => Ok(Value::Bool(flags.next(bytes)? == 1)),
            Self::Indices(indices) => match dictionary {
                Some(dictionary) => dictionary.get(indices.next(bytes)?, physical),
                None => damaged("a page refers to a dictionary that is not there"),
            },
            // Deltas of 32-bit numbers wrap around at 32 bits.
            Self::Deltas(deltas) if physical == Physical::Int32 => {
                Ok(Value::Int(i64::from(deltas.next(bytes)? as i32)))
            }
            Self::Deltas(deltas) => Ok(Value::Int(deltas.next(bytes)?)),
            Self::Lengths { lengths, at } => text(bytes, at, lengths.next(bytes)?).map(Value::Bytes),
            Self::Suffixes { shared, lengths, at, last } => {
                let kept = usize::try_from(shared.next(bytes)?).ok().filter(|kept| *kept <= last.len());
                let Some(kept) = kept else {
                    return damaged("a text shares more with the one before it than that has");
                };
                let suffix = text(bytes, at, lengths.next(bytes)?)?;
                last.truncate(kept);
                last.extend_from_slice(suffix);
                // Shared beginnings would let a small page hold a text that grows without end.
                if last.len() > MAX_VALUE {
                    return Err(Fault::TooLarge(format!("it has a value of more than {MAX_VALUE} bytes")));
                }
                Ok(Value::Bytes(last))
            }
        }
    }
}

/// The plainly stored value at `at`, which is moved past it.
fn plain<'a>(bytes: &'a [u8], at: &mut usize, physical: Physical) -> Decoded<Value<'a>> {
    Ok(match physical {
        Physical::Int32 => Value::Int(i64::from(i32::from_le_bytes(array(bytes, at)?))),
        Physical::Int64 => Value::Int(i64::from_le_bytes(array(bytes, at)?)),
        Physical::Float => Value::Float(f32::from_le_bytes(array(bytes, at)?)),
        Physical::Double => Value::Double(f64::from_le_bytes(array(bytes, at)?)),
        Physical::Int96 => Value::Bytes(text(bytes, at, 12)?),
        Physical::Fixed(length) => Value::Bytes(text(bytes, at, length as i64)?),
        Physical::Bytes => {
            let (start, end) = measured(bytes, *at)?;
            *at = end;
            Value::Bytes(bytes.get(start..end).unwrap_or_default())
        }
        Physical::Bool => return damaged("a boolean is stored as bytes"),
    })
}

fn array<const N: usize>(bytes: &[u8], at: &mut usize) -> Decoded<[u8; N]> {
    let value = *bytes.get(*at..).and_then(<[u8]>::first_chunk).ok_or_else(short)?;
    *at += N;
    Ok(value)
}

fn text<'a>(bytes: &'a [u8], at: &mut usize, length: i64) -> Decoded<&'a [u8]> {
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length)).ok_or_else(short)?;
    let value = bytes.get(*at..end).ok_or_else(short)?;
    *at = end;
    Ok(value)
}

fn short() -> Fault {
    Fault::Damaged("a page ends before its values do".to_owned())
}
