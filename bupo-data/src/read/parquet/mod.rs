//! Parquet files: the part of the format that data sets of problems use, read so that no file can make the reader panic,
//! hang or fill the memory.
//!
//! The `parquet` crate does not promise that. With a few bytes of a file changed it panics in its metadata, its pages and
//! its decoders; a schema nested deep enough overflows its stack; a gzip page is decompressed to whatever size it has. The
//! last two end a program before it can catch them, so a file would have to be decoded here to be fit to be given to it.

mod bits;
mod codec;
mod column;
mod fault;
mod footer;
mod page;
mod render;
mod rows;
mod schema;
mod source;
mod thrift;
mod values;

pub(super) use self::source::{MAGIC, Source};
use self::{
    column::Column,
    fault::{Decoded, damaged},
    footer::{Chunk, Footer, RowGroup},
    render::is_answer,
    rows::{PromptColumns, Reading, Rows},
    schema::{Field, Leaf, Shape},
};
use super::{
    columns::{Columns, Role, list},
    describe::{Column as Described, Description, Format},
    limits::Budget,
};
use crate::{error::DataError, problems::Problem};

/// Role, content, answer and data source.
const USES: u64 = 4;

/// Reads the problems of a file.
pub(super) fn read(source: Source<'_>, columns: &Columns, file: &str) -> Result<Vec<Problem>, DataError> {
    let mut opened = Opened::open(source, file)?;
    let chosen = Chosen::of(&opened.fields, columns, file)?;
    let budget = || Budget::of_file(opened.source.length());
    let mut reading = Reading { file, pages: budget(), kept: budget(), problems: Vec::new() };
    for group in std::mem::take(&mut opened.footer.groups) {
        let rows = opened.rows(&chosen, &group).map_err(|fault| fault.of(file))?;
        rows.read(group.rows, &mut reading)?;
    }
    if reading.problems.is_empty() {
        return Err(DataError::Empty { file: file.to_owned() });
    }
    Ok(reading.problems)
}

/// Says what a file holds, without reading its values.
pub(super) fn describe(source: Source<'_>, file: &str) -> Result<Description, DataError> {
    let opened = Opened::open(source, file)?;
    let columns = schema::columns(&opened.fields)
        .into_iter()
        .map(|(name, field)| Described { name, kind: field.type_name() })
        .collect();
    Ok(Description { format: Format::Parquet, rows: opened.footer.rows, columns })
}

/// A file of which the footer was read.
struct Opened<'a> {
    source: Source<'a>,
    footer: Footer,
    fields: Vec<Field>,
    leaves: usize,
    /// How many bytes of columns may still be read. Columns lie side by side, so all of them are shorter than the file,
    /// and each is read once for each of its uses.
    bytes_left: u64,
}

impl<'a> Opened<'a> {
    fn open(source: Source<'a>, file: &str) -> Result<Self, DataError> {
        Self::decode(source).map_err(|fault| fault.of(file))
    }

    fn decode(mut source: Source<'a>) -> Decoded<Self> {
        let bytes = source.footer()?;
        let mut footer = Footer::read(&bytes)?;
        let (fields, leaves) = schema::tree(std::mem::take(&mut footer.elements))?;
        let bytes_left = source.length().saturating_mul(USES);
        Ok(Self { source, footer, fields, leaves, bytes_left })
    }

    /// The columns of a row group that problems are read from.
    fn rows(&mut self, chosen: &Chosen, group: &RowGroup) -> Decoded<Rows<'a>> {
        if group.chunks.len() != self.leaves {
            return damaged(format!("a row group has {} columns, the schema {}", group.chunks.len(), self.leaves));
        }
        let mut column = |leaf: Leaf| self.column(leaf, group);
        Ok(Rows {
            prompt: match chosen.prompt {
                PromptLeaves::Text(leaf) => PromptColumns::Text(Box::new(column(leaf)?)),
                PromptLeaves::Chat { role, content, exists } => {
                    PromptColumns::Chat { role: Box::new(column(role)?), content: Box::new(column(content)?), exists }
                }
            },
            answer: column(chosen.answer)?,
            data_source: chosen.data_source.map(column).transpose()?,
        })
    }

    fn column(&mut self, leaf: Leaf, group: &RowGroup) -> Decoded<Column<'a>> {
        let none = Chunk::default();
        let chunk = group.chunks.get(leaf.index).unwrap_or(&none);
        match self.bytes_left.checked_sub(chunk.length) {
            Some(left) => self.bytes_left = left,
            None => return damaged("its columns have more bytes than the file"),
        }
        Column::new(leaf, chunk, self.source.read(chunk.start, chunk.length)?)
    }
}

/// The leaves that problems are read from.
struct Chosen {
    prompt: PromptLeaves,
    answer: Leaf,
    data_source: Option<Leaf>,
}

enum PromptLeaves {
    Text(Leaf),
    Chat { role: Leaf, content: Leaf, exists: u32 },
}

impl Chosen {
    fn of(fields: &[Field], columns: &Columns, file: &str) -> Result<Self, DataError> {
        let exists = |path: &str| schema::find(fields, path).is_some();
        let available = || list(schema::columns(fields).into_iter().map(|(name, _)| name));
        let names = columns.resolve(file, exists, available)?;
        let column_type = |name: &str, role: Role| DataError::ColumnType {
            file: file.to_owned(),
            column: name.to_owned(),
            found: schema::find(fields, name).map(Field::type_name).unwrap_or_default(),
            role: role.name(),
            wanted: role.wanted(),
        };
        let scalar = |name: &str, role| match schema::find(fields, name) {
            Some(Field { shape: Shape::Leaf(leaf), .. }) if leaf.max_repetition == 0 && is_answer(leaf) => Ok(*leaf),
            _ => Err(column_type(name, role)),
        };
        Ok(Self {
            prompt: schema::find(fields, &names.prompt)
                .and_then(PromptLeaves::of)
                .ok_or_else(|| column_type(&names.prompt, Role::Prompt))?,
            answer: scalar(&names.answer, Role::Answer)?,
            data_source: names.data_source.map(|name| scalar(&name, Role::DataSource)).transpose()?,
        })
    }
}

impl PromptLeaves {
    /// The leaves of a prompt: text, or a list of structs with a role and a content.
    fn of(field: &Field) -> Option<Self> {
        match &field.shape {
            Shape::Leaf(leaf) if leaf.is_text() && leaf.max_repetition == 0 => Some(Self::Text(*leaf)),
            Shape::List(element, exists) => {
                let Shape::Struct(fields) = &element.shape else { return None };
                let text = |name: &str| match schema::find(fields, name) {
                    Some(Field { shape: Shape::Leaf(leaf), .. }) if leaf.is_text() && leaf.max_repetition == 1 => {
                        Some(*leaf)
                    }
                    _ => None,
                };
                Some(Self::Chat { role: text("role")?, content: text("content")?, exists: *exists })
            }
            _ => None,
        }
    }
}
