//! A leaf column of a row group, read as texts.

use std::sync::Arc;

use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader},
    data_type::DataType,
    file::{
        metadata::RowGroupMetaData,
        reader::{ChunkReader, SerializedPageReader},
    },
};

use super::{
    error::ReadError,
    footer::without_empty_dictionary,
    pages::CheckedPages,
    render::{self, Rendered},
    schema::Leaf,
};
use crate::read::limits::Budget;

/// Reads a leaf column of a row group.
pub(super) struct LeafReader {
    leaf: Leaf,
    reader: ColumnReader,
}

/// A value of a column, or a null.
pub(super) struct Cell {
    /// Zero for the first value of a row.
    pub(super) repetition: i16,
    /// How many of the optional and repeated fields on its path are present.
    pub(super) definition: i16,
    pub(super) text: Rendered,
}

impl LeafReader {
    pub(super) fn new<R: ChunkReader + 'static>(
        input: &Arc<R>,
        group: &RowGroupMetaData,
        leaf: &Leaf,
    ) -> Result<Self, ReadError> {
        let chunk = without_empty_dictionary(group.column(leaf.index))?;
        let [rows, values] = [group.num_rows(), chunk.num_values()].map(|count| u64::try_from(count).unwrap_or(0));
        let pages = SerializedPageReader::new(Arc::clone(input), &chunk, rows as usize, None)?;
        let pages = CheckedPages::new(pages, values);
        Ok(Self { leaf: leaf.clone(), reader: get_column_reader(chunk.column_descr_ptr(), Box::new(pages)) })
    }

    /// Reads the cells of the next `rows` rows. The size of their texts is taken from `kept`.
    pub(super) fn read(&mut self, rows: usize, kept: &mut Budget) -> Result<Vec<Cell>, ReadError> {
        match self.read_at_most(rows, kept)? {
            (read, cells) if read == rows => Ok(cells),
            _ => Err(self.damaged("it has fewer rows than the footer gives")),
        }
    }

    /// Checks that there is no further row.
    pub(super) fn finish(mut self, kept: &mut Budget) -> Result<(), ReadError> {
        match self.read_at_most(1, kept)? {
            (0, _) => Ok(()),
            _ => Err(self.damaged("it has more rows than the footer gives")),
        }
    }

    fn damaged(&self, reason: &str) -> ReadError {
        ReadError::Damaged(reason.to_owned()).in_column(&self.leaf.name)
    }

    /// Reads at most `rows` of the next rows, and returns their number and cells.
    fn read_at_most(&mut self, rows: usize, kept: &mut Budget) -> Result<(usize, Vec<Cell>), ReadError> {
        let (leaf, kind) = (&self.leaf, self.leaf.kind);
        let cells = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |flag| Ok(Some(flag.to_string())))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |number| render::int32(*number, kind))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |number| render::int64(*number, kind))
            }
            ColumnReader::FloatColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |number| Ok(render::float(*number)))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |number| Ok(render::double(*number)))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |bytes| render::bytes(bytes.data(), kind))
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                cells(leaf, reader, rows, kept, |bytes| render::bytes(bytes.data(), kind))
            }
            ColumnReader::Int96ColumnReader(_) => Err(ReadError::Unsupported("timestamps as text".to_owned())),
        };
        cells.map_err(|error| error.in_column(&leaf.name))
    }
}

/// Reads the values of at most `rows` rows, which `text` renders, and returns the number of rows and their cells.
fn cells<T: DataType>(
    leaf: &Leaf,
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    kept: &mut Budget,
    text: impl Fn(&T::T) -> Rendered,
) -> Result<(usize, Vec<Cell>), ReadError> {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (rows_read, _, levels) =
        reader.read_records(rows, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
    let mut values = values.iter();
    let mut cells = Vec::with_capacity(levels);
    for level in 0..levels {
        // A column that is never null, or never repeats, has no such levels.
        let definition = definitions.get(level).copied().unwrap_or(leaf.max_definition);
        let repetition = repetitions.get(level).copied().unwrap_or(0);
        let value = if definition == leaf.max_definition { values.next() } else { None };
        let text = value.map_or(Ok(None), &text);
        if let Ok(Some(text)) = &text {
            kept.take(text.len())?;
        }
        cells.push(Cell { repetition, definition, text });
    }
    Ok((rows_read, cells))
}
