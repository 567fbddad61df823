//! The footer of a Parquet file: its schema and its row groups, with their sizes checked.

use parquet::{
    basic::Compression,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
        reader::ChunkReader,
    },
};

use super::{
    error::ReadError,
    schema::{self, Field},
    selection::Selection,
};
use crate::{problems::Problem, read::limits::Budget};

/// The first and the last bytes of every file.
pub(in crate::read) const MAGIC: &[u8; 4] = b"PAR1";
/// The last bytes of a file with an encrypted footer.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// The length of the footer, and the magic bytes after it.
const TAIL: u64 = 8;
/// The largest footer, in bytes.
const MAX_FOOTER: u32 = 32 << 20;

/// The footer of a file.
pub(super) struct Footer {
    /// The length of the file, in bytes.
    pub(super) length: u64,
    /// The number of rows of all row groups.
    pub(super) rows: u64,
    pub(super) fields: Vec<Field>,
    pub(super) metadata: ParquetMetaData,
}

impl Footer {
    /// Reads the footer of a file of which the tail was checked.
    pub(super) fn read(input: &impl ChunkReader) -> Result<Self, ReadError> {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(input)?;
        let fields = schema::fields(metadata.file_metadata().schema_descr())?;
        let mut footer = Self { length: input.len(), rows: 0, fields, metadata };
        footer.rows = footer.check_counts()?;
        Ok(footer)
    }

    /// The row groups that have rows, and how many.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&RowGroupMetaData, u64)> {
        self.metadata.row_groups().iter().filter_map(|group| match u64::try_from(group.num_rows()) {
            Ok(rows @ 1..) => Some((group, rows)),
            _ => None,
        })
    }

    /// Checks the sizes and counts of the selected columns against the limits, before any value is read.
    pub(super) fn check_sizes(&self, selection: &Selection) -> Result<(), ReadError> {
        let [mut bytes, mut values, mut problems] = [(); 3].map(|()| Budget::of_file(self.length));
        problems.take(size(self.rows).saturating_mul(size_of::<Problem>()))?;
        for group in self.metadata.row_groups() {
            for leaf in selection.leaves() {
                let chunk = group.column(leaf.index);
                if chunk.file_path().is_some() {
                    return Err(ReadError::Unsupported("columns in other files".to_owned()));
                }
                if chunk.compression() == Compression::LZO {
                    return Err(ReadError::Unsupported("LZO compression".to_owned()));
                }
                bytes.take(size(natural(chunk.uncompressed_size(), "uncompressed bytes")?))?;
                values.take(size(natural(chunk.num_values(), "values")?))?;
            }
        }
        Ok(())
    }

    /// Checks that the row groups fit in the file, and returns the number of their rows.
    fn check_counts(&self) -> Result<u64, ReadError> {
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        for group in self.metadata.row_groups() {
            rows = rows.saturating_add(natural(group.num_rows(), "rows")?);
            for chunk in group.columns() {
                bytes = bytes.saturating_add(natural(chunk.compressed_size(), "bytes")?);
            }
        }
        let declared = natural(self.metadata.file_metadata().num_rows(), "rows")?;
        if rows != declared {
            return Err(ReadError::Damaged(format!(
                "its row groups have {rows} rows, and its footer gives {declared}"
            )));
        }
        if bytes > self.length {
            return Err(ReadError::Damaged(format!("its columns have {bytes} bytes, more than the file")));
        }
        Ok(rows)
    }
}

/// The metadata of a column chunk without a dictionary at byte 0, which some writers store if there is none.
pub(super) fn without_empty_dictionary(chunk: &ColumnChunkMetaData) -> Result<ColumnChunkMetaData, ReadError> {
    let chunk = chunk.clone();
    match chunk.dictionary_page_offset() {
        Some(0) => Ok(chunk.into_builder().set_dictionary_page_offset(None).build()?),
        _ => Ok(chunk),
    }
}

/// Checks the first and the last bytes of a file, and returns the length of its footer.
pub(super) fn check_tail(input: &impl ChunkReader) -> Result<u32, ReadError> {
    let damaged = |reason: String| Err(ReadError::Damaged(reason));
    let length = input.len();
    let Some(before_tail) = length.checked_sub(TAIL) else { return damaged("it is shorter than a footer".to_owned()) };
    if input.get_bytes(0, MAGIC.len())? != MAGIC[..] {
        return damaged("it does not begin with PAR1".to_owned());
    }
    let tail = input.get_bytes(before_tail, TAIL as usize)?;
    let [a, b, c, d, magic @ ..] = tail.as_ref() else { return damaged("it ends early".to_owned()) };
    if magic == ENCRYPTED {
        return Err(ReadError::Unsupported("encryption".to_owned()));
    }
    if magic != MAGIC {
        return damaged("it does not end with PAR1, so it was cut short".to_owned());
    }
    let footer = u32::from_le_bytes([*a, *b, *c, *d]);
    if footer > MAX_FOOTER {
        return Err(ReadError::TooLarge(format!(
            "its footer has {footer} bytes, and the limit is {MAX_FOOTER}; write it again with fewer row groups"
        )));
    }
    if u64::from(footer) > before_tail {
        return damaged(format!("its footer has {footer} bytes, more than the file"));
    }
    Ok(footer)
}

fn natural(number: i64, what: &str) -> Result<u64, ReadError> {
    u64::try_from(number).map_err(|_| ReadError::Damaged(format!("its footer gives {number} {what}")))
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
