//! Reads problems from JSON lines and from files that are one JSON list.

mod kinds;
mod object;

use std::io::{BufRead, Read};

use self::{
    kinds::Kinds,
    object::{Object, each_in_list},
};
use super::{
    columns::{Columns, Names, Role, list},
    describe::{Description, Format},
    limits::{Budget, MAX_TOTAL},
    lines::{each_line, message, read_some, reason},
    text::{check_start, number, utf8, valid_json, without_bom},
};
use crate::{
    error::DataError,
    message::Message,
    problems::{Problem, Prompt},
};

/// The largest file that is one list, in bytes; such a file is read as a whole.
const MAX_LIST: usize = 256 << 20;

/// Reads the problems of a file.
pub(super) fn read(mut input: impl BufRead, columns: &Columns, file: &str) -> Result<Vec<Problem>, DataError> {
    let kept = Budget::of_file(MAX_TOTAL);
    let mut reader = ProblemReader { columns, file, names: None, kept, problems: Vec::new() };
    each_row(&mut input, file, |row, place| reader.read_row(row).map_err(|error| place.error(file, error)))?;
    if reader.problems.is_empty() {
        return Err(DataError::Empty { file: file.to_owned() });
    }
    Ok(reader.problems)
}

/// Describes a file.
pub(super) fn describe(mut input: impl BufRead, file: &str) -> Result<Description, DataError> {
    let mut kinds = Kinds::default();
    let (format, rows) =
        each_row(&mut input, file, |row, place| kinds.add(row).map_err(|reason| place.error(file, reason.into())))?;
    Ok(Description { format, rows, columns: kinds.into_columns() })
}

/// An error of reading a row.
enum RowError {
    /// What is wrong with the row.
    Row(String),
    /// An error that is not of one row.
    File(DataError),
}

impl From<String> for RowError {
    fn from(reason: String) -> Self {
        Self::Row(reason)
    }
}

/// The place of a row, counted from 1.
#[derive(Clone, Copy)]
enum Place {
    Line(usize),
    Row(usize),
}

impl Place {
    fn error(self, file: &str, error: RowError) -> DataError {
        let file = file.to_owned();
        match (error, self) {
            (RowError::File(error), _) => error,
            (RowError::Row(reason), Self::Line(line)) => DataError::Json { file, line, reason },
            (RowError::Row(reason), Self::Row(row)) => DataError::Row { file, row, reason },
        }
    }
}

/// Calls `row` with each row of the file and its place, and returns the format and the number of rows.
fn each_row(
    input: &mut impl BufRead,
    file: &str,
    mut row: impl FnMut(&str, Place) -> Result<(), DataError>,
) -> Result<(Format, u64), DataError> {
    let start = input.fill_buf().map_err(|source| DataError::Io { path: file.into(), source })?;
    check_start(start, file)?;
    if without_bom(start).trim_ascii_start().starts_with(b"[") {
        return each_element(input, file, row).map(|rows| (Format::Json, rows));
    }
    let mut rows = 0;
    each_line(input, file, |line| {
        let place = Place::Line(line.number);
        row(&valid_json(line.text.map_err(|reason| place.error(file, reason.into()))?), place)?;
        rows += 1;
        Ok(())
    })?;
    Ok((Format::JsonLines, rows))
}

fn each_element(
    input: &mut impl BufRead,
    file: &str,
    mut row: impl FnMut(&str, Place) -> Result<(), DataError>,
) -> Result<u64, DataError> {
    let mut bytes = Vec::new();
    read_some(input, &mut bytes, MAX_LIST, file, |input, bytes| input.read_to_end(bytes))?;
    let text = utf8(without_bom(&bytes)).map_err(|reason| Place::Line(1).error(file, reason.into()))?;
    let text = valid_json(text);
    let mut rows = 0;
    let mut failed = None;
    let listed = each_in_list(&text, |element| {
        rows += 1;
        failed = row(element, Place::Row(rows)).err();
        failed.is_none()
    });
    match (failed, listed) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(rows as u64),
        (None, Err(error)) => Err(Place::Line(error.line()).error(file, reason(&error).into())),
    }
}

struct ProblemReader<'a> {
    columns: &'a Columns,
    file: &'a str,
    /// The columns to read, found in the first row.
    names: Option<Names>,
    kept: Budget,
    problems: Vec<Problem>,
}

impl ProblemReader<'_> {
    fn read_row(&mut self, row: &str) -> Result<(), RowError> {
        let object = Object::parse(row)?;
        self.kept.take(size_of::<Problem>().saturating_add(row.len())).map_err(|exceeded| {
            RowError::File(DataError::TooLarge { file: self.file.to_owned(), what: exceeded.to_string() })
        })?;
        if self.names.is_none() {
            let available = || list(object.names().map(str::to_owned));
            let exists = |path: &str| object.find(path).is_some();
            self.names = Some(self.columns.resolve(self.file, exists, available).map_err(RowError::File)?);
        }
        let Some(names) = &self.names else { return Ok(()) };
        let prompt = match object.find(&names.prompt) {
            None => return Err(missing(Role::Prompt, &names.prompt).into()),
            Some(prompt) => prompt_of(&prompt, &names.prompt)?,
        };
        let answer =
            scalar(&object, &names.answer, Role::Answer)?.ok_or_else(|| missing(Role::Answer, &names.answer))?;
        let data_source = match &names.data_source {
            Some(name) => scalar(&object, name, Role::DataSource)?.unwrap_or_default(),
            None => String::new(),
        };
        self.problems.push(Problem { prompt, answer, data_source });
        Ok(())
    }
}

fn prompt_of(prompt: &str, name: &str) -> Result<Prompt, String> {
    match prompt.bytes().next() {
        Some(b'n') => Err(missing(Role::Prompt, name)),
        Some(b'"') => parse(prompt).map(Prompt::Text),
        Some(b'[') => {
            let messages: Vec<Message> =
                parse(prompt).map_err(|reason| format!("`{name}` is not a list of messages: {reason}"))?;
            if messages.is_empty() {
                return Err(format!("it has no prompt: `{name}` is an empty list"));
            }
            Ok(Prompt::Chat(messages))
        }
        _ => Err(format!("`{name}` must be {}", Role::Prompt.allowed_types())),
    }
}

/// The text of a string, or of a number or a boolean as it is written; `None` if it is null or missing.
fn scalar(object: &Object<'_>, name: &str, role: Role) -> Result<Option<String>, String> {
    let Some(value) = object.find(name) else { return Ok(None) };
    match value.bytes().next() {
        Some(b'n') => Ok(None),
        Some(b'"') => parse(&value).map(Some),
        Some(b'{' | b'[') | None => Err(format!("`{name}` must be {}", role.allowed_types())),
        Some(_) => Ok(Some(number(value))),
    }
}

fn missing(role: Role, name: &str) -> String {
    format!("it has no {}: `{name}` is null or missing", role.name())
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| message(&error))
}
