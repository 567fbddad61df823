//! Problems put together from the columns of a row group.

use super::{
    column::{Column, Level},
    fault::Fault,
    render::render,
};
use crate::{
    error::DataError,
    message::Message,
    problems::{Problem, Prompt},
    read::limits::{Budget, MAX_VALUE},
};

/// The columns that problems are read from.
pub(super) struct Rows<'a> {
    pub(super) prompt: PromptColumns<'a>,
    pub(super) answer: Column<'a>,
    pub(super) data_source: Option<Column<'a>>,
}

/// The columns of a prompt.
pub(super) enum PromptColumns<'a> {
    Text(Box<Column<'a>>),
    Chat {
        role: Box<Column<'a>>,
        content: Box<Column<'a>>,
        /// The definition level from which on a message is there.
        exists: u32,
    },
}

/// What of a file is known and allowed while its rows are read.
pub(super) struct Reading<'a> {
    pub(super) file: &'a str,
    /// What may still be decompressed.
    pub(super) pages: Budget,
    /// What may still be kept.
    pub(super) kept: Budget,
    pub(super) problems: Vec<Problem>,
}

impl Rows<'_> {
    /// Reads the rows of the row group, of which the footer says there are so many.
    pub(super) fn read(mut self, rows: u64, reading: &mut Reading<'_>) -> Result<(), DataError> {
        for _ in 0..rows {
            reading.charge(size_of::<Problem>())?;
            let prompt = match &mut self.prompt {
                PromptColumns::Text(column) => {
                    reading.scalar(column)?.map(Prompt::Text).ok_or_else(|| reading.row("it has no prompt"))?
                }
                PromptColumns::Chat { role, content, exists } => Prompt::Chat(reading.chat(role, content, *exists)?),
            };
            let answer = reading.scalar(&mut self.answer)?.ok_or_else(|| reading.row("it has no answer"))?;
            let data_source = match &mut self.data_source {
                Some(column) => reading.scalar(column)?.unwrap_or_default(),
                None => String::new(),
            };
            reading.problems.push(Problem { prompt, answer, data_source });
        }
        let mut columns = match self.prompt {
            PromptColumns::Text(column) => vec![*column],
            PromptColumns::Chat { role, content, .. } => vec![*role, *content],
        };
        columns.push(self.answer);
        columns.extend(self.data_source);
        for column in &mut columns {
            if reading.peek(column)?.is_some() {
                return Err(reading.fault(Fault::Damaged("a column has more rows than the footer says".to_owned())));
            }
        }
        Ok(())
    }
}

impl Reading<'_> {
    /// The text of the next row of a column outside of lists.
    fn scalar(&mut self, column: &mut Column<'_>) -> Result<Option<String>, DataError> {
        match self.peek(column)? {
            Some(_) => self.text(column),
            None => Err(self.ended()),
        }
    }

    /// The messages of the next row.
    fn chat(
        &mut self,
        role: &mut Column<'_>,
        content: &mut Column<'_>,
        exists: u32,
    ) -> Result<Vec<Message>, DataError> {
        let mut messages = Vec::new();
        loop {
            let levels = (self.peek(role)?, self.peek(content)?);
            let (Some(level), Some(beside)) = levels else { return Err(self.ended()) };
            if level.repetition != beside.repetition || (level.definition < exists) != (beside.definition < exists) {
                return Err(self.fault(Fault::Damaged("roles and contents of messages do not match".to_owned())));
            }
            if messages.is_empty() != (level.repetition == 0) {
                return Err(self.fault(Fault::Damaged("a list does not begin where its row does".to_owned())));
            }
            let (role_text, content_text) = (self.text(role)?, self.text(content)?);
            if level.definition < exists {
                return Err(self.row("it has no prompt: its list of messages is null or empty"));
            }
            let number = messages.len() + 1;
            let (Some(role_text), Some(content_text)) = (role_text, content_text) else {
                return Err(self.row(&format!("message {number} of its prompt lacks a role or a content")));
            };
            self.charge(size_of::<Message>())?;
            messages.push(Message { role: role_text, content: content_text });
            match self.peek(role)? {
                Some(Level { repetition: 1.., .. }) => {}
                _ => return Ok(messages),
            }
        }
    }

    /// The text of the value that was peeked at.
    fn text(&mut self, column: &mut Column<'_>) -> Result<Option<String>, DataError> {
        let leaf = column.leaf;
        let Some(value) = column.take().map_err(|fault| self.fault(fault))? else { return Ok(None) };
        let length = value.length();
        if length > MAX_VALUE {
            let what =
                format!("row {} has a value of {length} bytes, and {MAX_VALUE} is the most", self.problems.len() + 1);
            return Err(self.fault(Fault::TooLarge(what)));
        }
        self.charge(length)?;
        render(value, &leaf).map_err(|reason| self.row(&format!("a value {reason}")))
    }

    fn peek(&mut self, column: &mut Column<'_>) -> Result<Option<Level>, DataError> {
        column.peek(&mut self.pages).map_err(|fault| fault.of(self.file))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), DataError> {
        self.kept.take(bytes).map_err(|exceeded| Fault::from(exceeded).of(self.file))
    }

    fn ended(&self) -> DataError {
        self.fault(Fault::Damaged("a column has fewer rows than the footer says".to_owned()))
    }

    fn fault(&self, fault: Fault) -> DataError {
        fault.of(self.file)
    }

    /// An error of the row being read.
    fn row(&self, reason: &str) -> DataError {
        DataError::Row { file: self.file.to_owned(), row: self.problems.len() + 1, reason: reason.to_owned() }
    }
}
