//! Reads problems from Parquet files with the column readers of the `parquet` crate.
//!
//! The crate's own row iterator is not used: by its documentation it does not read repeated fields correctly. Here
//! rows are assembled only for the two shapes that problems have, scalars and lists of messages.

mod column;
mod error;
mod footer;
mod kind;
mod pages;
mod render;
mod rows;
mod schema;
mod selection;
mod thread;

use bytes::Bytes;
use parquet::file::reader::ChunkReader;

pub(super) use self::footer::MAGIC;
use self::{footer::Footer, rows::RowReader, selection::Selection};
use super::{
    columns::Columns,
    describe::{Column, Description, Format},
};
use crate::{error::DataError, problems::Problem};

/// Reads the problems of a Parquet file.
pub(super) fn read(
    input: impl ChunkReader + 'static,
    columns: &Columns,
    file: &str,
) -> Result<Vec<Problem>, DataError> {
    let length = footer::check_tail(&input).map_err(|error| error.of(file))?;
    let problems = thread::run(file, length, || {
        let footer = Footer::read(&input).map_err(|error| error.of(file))?;
        let selection = Selection::new(&footer.fields, columns, file)?;
        RowReader::new(input, file, footer.length).read(&footer, &selection)
    })?;
    if problems.is_empty() {
        return Err(DataError::Empty { file: file.to_owned() });
    }
    Ok(problems)
}

/// Describes the columns of a Parquet file, without reading their values.
pub(super) fn describe(input: impl ChunkReader + 'static, file: &str) -> Result<Description, DataError> {
    let length = footer::check_tail(&input).map_err(|error| error.of(file))?;
    thread::run(file, length, || {
        let footer = Footer::read(&input).map_err(|error| error.of(file))?;
        let columns = schema::columns(&footer.fields)
            .into_iter()
            .map(|(name, field)| Column { name, kind: field.type_name() })
            .collect();
        Ok(Description { format: Format::Parquet, rows: footer.rows, columns })
    })
}

/// A Parquet file in memory, as an input of [`read`] and [`describe`].
pub(super) fn in_memory(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
