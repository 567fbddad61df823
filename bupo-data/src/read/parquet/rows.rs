//! Assembles problems from the columns of row groups.

use std::sync::Arc;

use parquet::file::{metadata::RowGroupMetaData, reader::ChunkReader};

use super::{
    column::{Cell, LeafReader},
    error::ReadError,
    footer::Footer,
    render::Rendered,
    selection::{PromptLeaves, Selection},
};
use crate::{
    error::DataError,
    message::Message,
    problems::{Problem, Prompt},
    read::limits::Budget,
};

/// How many rows are decoded at once.
const BATCH: usize = 1024;

/// Reads the problems of a file.
pub(super) struct RowReader<'a, R> {
    input: Arc<R>,
    file: &'a str,
    /// The size that the problems may still take.
    kept: Budget,
    problems: Vec<Problem>,
}

/// Readers of the selected columns in one row group.
struct Readers {
    prompt: PromptReaders,
    answer: LeafReader,
    data_source: Option<LeafReader>,
}

enum PromptReaders {
    Text(Box<LeafReader>),
    Chat { role: Box<LeafReader>, content: Box<LeafReader>, exists: i16 },
}

/// The prompt of a row, as stored: a text, or the roles and contents of its messages.
enum StoredPrompt {
    Text(Rendered),
    Chat(Vec<[Rendered; 2]>),
}

impl<'a, R: ChunkReader + 'static> RowReader<'a, R> {
    /// A reader of a file of `length` bytes.
    pub(super) fn new(input: R, file: &'a str, length: u64) -> Self {
        Self { input: Arc::new(input), file, kept: Budget::of_file(length), problems: Vec::new() }
    }

    /// Reads the problems of all row groups.
    pub(super) fn read(mut self, footer: &Footer, selection: &Selection) -> Result<Vec<Problem>, DataError> {
        footer.check_sizes(selection).map_err(|error| error.of(self.file))?;
        for (group, rows) in footer.groups() {
            let mut readers = Readers::new(&self.input, group, selection).map_err(|error| error.of(self.file))?;
            let mut left = rows;
            while left > 0 {
                let rows = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
                self.read_batch(&mut readers, rows)?;
                left -= rows as u64;
            }
            readers.finish(&mut self.kept).map_err(|error| error.of(self.file))?;
        }
        Ok(self.problems)
    }

    fn read_batch(&mut self, readers: &mut Readers, rows: usize) -> Result<(), DataError> {
        let failed = |error: ReadError| error.of(self.file);
        let prompts = readers.prompt.read(rows, &mut self.kept).map_err(failed)?;
        let answers = readers.answer.read(rows, &mut self.kept).map_err(failed)?;
        let sources = match &mut readers.data_source {
            Some(reader) => reader.read(rows, &mut self.kept).map_err(failed)?.into_iter().map(Some).collect(),
            None => std::iter::repeat_with(|| None).take(rows).collect::<Vec<_>>(),
        };
        for ((prompt, answer), source) in prompts.into_iter().zip(answers).zip(sources) {
            self.kept.take(size_of::<Problem>()).map_err(|exceeded| ReadError::from(exceeded).of(self.file))?;
            let problem = problem(prompt, answer.text, source.map(|cell| cell.text)).map_err(|reason| {
                DataError::Row { file: self.file.to_owned(), row: self.problems.len() + 1, reason }
            })?;
            self.problems.push(problem);
        }
        Ok(())
    }
}

/// The problem of a row. The error is what is wrong with the row.
fn problem(prompt: StoredPrompt, answer: Rendered, data_source: Option<Rendered>) -> Result<Problem, String> {
    let text = |rendered: Rendered| rendered.map_err(|reason| format!("a value {reason}"));
    let prompt = match prompt {
        StoredPrompt::Text(prompt) => Prompt::Text(text(prompt)?.ok_or("it has no prompt")?),
        StoredPrompt::Chat(stored) if stored.is_empty() => {
            return Err("it has no prompt: its list of messages is null or empty".to_owned());
        }
        StoredPrompt::Chat(stored) => {
            let mut messages = Vec::with_capacity(stored.len());
            for (index, [role, content]) in stored.into_iter().enumerate() {
                let (Some(role), Some(content)) = (text(role)?, text(content)?) else {
                    return Err(format!("message {} of its prompt has no role or no content", index + 1));
                };
                messages.push(Message { role, content });
            }
            Prompt::Chat(messages)
        }
    };
    let answer = text(answer)?.ok_or("it has no answer")?;
    let data_source = data_source.map(text).transpose()?.flatten().unwrap_or_default();
    Ok(Problem { prompt, answer, data_source })
}

impl Readers {
    fn new<R: ChunkReader + 'static>(
        input: &Arc<R>,
        group: &RowGroupMetaData,
        selection: &Selection,
    ) -> Result<Self, ReadError> {
        let reader = |leaf| LeafReader::new(input, group, leaf);
        Ok(Self {
            prompt: match &selection.prompt {
                PromptLeaves::Text(leaf) => PromptReaders::Text(Box::new(reader(leaf)?)),
                PromptLeaves::Chat { role, content, exists } => PromptReaders::Chat {
                    role: Box::new(reader(role)?),
                    content: Box::new(reader(content)?),
                    exists: *exists,
                },
            },
            answer: reader(&selection.answer)?,
            data_source: selection.data_source.as_ref().map(reader).transpose()?,
        })
    }

    /// Checks that no column has a further row.
    fn finish(self, kept: &mut Budget) -> Result<(), ReadError> {
        match self.prompt {
            PromptReaders::Text(reader) => reader.finish(kept)?,
            PromptReaders::Chat { role, content, .. } => {
                role.finish(kept)?;
                content.finish(kept)?;
            }
        }
        self.answer.finish(kept)?;
        self.data_source.map_or(Ok(()), |reader| reader.finish(kept))
    }
}

impl PromptReaders {
    /// Reads the prompts of the next `rows` rows.
    fn read(&mut self, rows: usize, kept: &mut Budget) -> Result<Vec<StoredPrompt>, ReadError> {
        match self {
            Self::Text(reader) => {
                Ok(reader.read(rows, kept)?.into_iter().map(|cell| StoredPrompt::Text(cell.text)).collect())
            }
            Self::Chat { role, content, exists } => {
                let (roles, contents) = (role.read(rows, kept)?, content.read(rows, kept)?);
                kept.take(roles.len().saturating_mul(size_of::<Message>()))?;
                let chats = chats(roles, contents, *exists)?;
                if chats.len() != rows {
                    return Err(ReadError::Damaged("a list of messages does not begin with its row".to_owned()));
                }
                Ok(chats)
            }
        }
    }
}

/// Groups the roles and contents of messages by rows. The list of a row that is null or empty has one pair of cells, of
/// definition levels below `exists`.
fn chats(roles: Vec<Cell>, contents: Vec<Cell>, exists: i16) -> Result<Vec<StoredPrompt>, ReadError> {
    let mismatch = || ReadError::Damaged("the roles and contents of messages do not match".to_owned());
    if roles.len() != contents.len() {
        return Err(mismatch());
    }
    let mut chats: Vec<Vec<[Rendered; 2]>> = Vec::new();
    for (role, content) in roles.into_iter().zip(contents) {
        let is_message = role.definition >= exists;
        if role.repetition != content.repetition || is_message != (content.definition >= exists) {
            return Err(mismatch());
        }
        if role.repetition == 0 {
            chats.push(Vec::new());
        }
        match chats.last_mut() {
            Some(messages) if is_message => messages.push([role.text, content.text]),
            Some(_) => {}
            None => return Err(mismatch()),
        }
    }
    Ok(chats.into_iter().map(StoredPrompt::Chat).collect())
}
