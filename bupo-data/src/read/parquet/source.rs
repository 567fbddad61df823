//! Where the bytes of a Parquet file come from.

use std::{
    borrow::Cow,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use super::fault::{Decoded, Fault, damaged, unsupported};

/// The first and the last bytes of every file.
pub(in crate::read) const MAGIC: &[u8; 4] = b"PAR1";
const ENCRYPTED: &[u8; 4] = b"PARE";
/// The length of the footer and the magic after it.
const TAIL: u64 = 8;
const MAX_FOOTER: u64 = 32 << 20;

/// A file in memory, or one of which only the parts that are asked for are read.
pub(in crate::read) enum Source<'a> {
    Bytes(&'a [u8]),
    File { file: File, length: u64 },
}

impl<'a> Source<'a> {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// The bytes of the footer.
    pub(super) fn footer(&mut self) -> Decoded<Cow<'a, [u8]>> {
        let Some(before_tail) = self.length().checked_sub(TAIL) else { return damaged("it is shorter than a footer") };
        if *self.read(0, 4)? != *MAGIC {
            return damaged("it does not begin with PAR1");
        }
        let tail = self.read(before_tail, TAIL)?;
        let [a, b, c, d, magic @ ..] = tail.as_ref() else { return damaged("it ends early") };
        if magic == ENCRYPTED {
            return unsupported("encryption");
        }
        if magic != MAGIC {
            return damaged("it does not end with PAR1, so it was cut short");
        }
        let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        if length > MAX_FOOTER {
            return Err(Fault::TooLarge(format!(
                "its footer has {length} bytes, and {MAX_FOOTER} is the most; write it again with fewer row groups"
            )));
        }
        match before_tail.checked_sub(length) {
            Some(start) => self.read(start, length),
            None => damaged(format!("its footer has {length} bytes, more than the file")),
        }
    }

    /// The bytes at a place.
    pub(super) fn read(&mut self, start: u64, length: u64) -> Decoded<Cow<'a, [u8]>> {
        let end = start.checked_add(length).filter(|end| *end <= self.length());
        let (Some(end), Ok(size)) = (end, usize::try_from(length)) else {
            return damaged(format!("it ends before byte {}", start.saturating_add(length)));
        };
        match self {
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes.get(start as usize..end as usize).unwrap_or_default())),
            Self::File { file, .. } => {
                let mut bytes = vec![0; size];
                file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes)).map_err(Fault::Io)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}
