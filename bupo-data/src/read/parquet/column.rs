//! A column of a row group, read value by value.

use std::borrow::Cow;

use super::{
    bits::Hybrid,
    codec::Codec,
    fault::{Decoded, damaged},
    footer::Chunk,
    page::{DataPage, Page, next_page},
    schema::Leaf,
    values::{Dictionary, Value, Values},
};
use crate::read::limits::Budget;

/// Reads a column, one page in memory at a time.
pub(super) struct Column<'a> {
    pub(super) leaf: Leaf,
    chunk: Cow<'a, [u8]>,
    codec: Codec,
    at: usize,
    /// How many of the values that the footer promises are still to come.
    promised: u64,
    dictionary: Option<Dictionary>,
    page: Option<(DataPage, Values)>,
    ahead: Option<Level>,
}

/// Where a value belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Zero for the first of a row.
    pub(super) repetition: u32,
    /// How far down it is there at all.
    pub(super) definition: u32,
}

impl<'a> Column<'a> {
    pub(super) fn new(leaf: Leaf, chunk: &Chunk, bytes: Cow<'a, [u8]>) -> Decoded<Self> {
        Ok(Self {
            leaf,
            chunk: bytes,
            codec: Codec::of(chunk.codec)?,
            at: 0,
            promised: chunk.values,
            dictionary: None,
            page: None,
            ahead: None,
        })
    }

    /// The level of the next value; nothing after the last.
    pub(super) fn peek(&mut self, budget: &mut Budget) -> Decoded<Option<Level>> {
        while self.ahead.is_none() {
            match &mut self.page {
                Some((page, _)) if page.left > 0 => self.ahead = Some(page.next_level(&self.leaf)?),
                _ if self.at < self.chunk.len() => self.next_page(budget)?,
                _ if self.promised > 0 => return damaged(format!("a column lacks {} values", self.promised)),
                _ => return Ok(None),
            }
        }
        Ok(self.ahead)
    }

    /// Takes the value that was peeked at, unless it is null.
    pub(super) fn take(&mut self) -> Decoded<Option<Value<'_>>> {
        let (Some(level), Some((page, values))) = (self.ahead.take(), &mut self.page) else { return Ok(None) };
        if level.definition < self.leaf.max_definition {
            return Ok(None);
        }
        values.next(&page.bytes, self.leaf.physical, self.dictionary.as_ref()).map(Some)
    }

    fn next_page(&mut self, budget: &mut Budget) -> Decoded<()> {
        match next_page(&self.chunk, &mut self.at, &self.leaf, self.codec, budget)? {
            None => {}
            Some(Page::Dictionary { bytes, values }) => {
                if self.dictionary.is_some() {
                    return damaged("a column has two dictionaries");
                }
                self.dictionary = Some(Dictionary::read(bytes, values, self.leaf.physical)?);
            }
            Some(Page::Data(page)) => {
                let Some(promised) = self.promised.checked_sub(page.left as u64) else {
                    return damaged("a column has more values than the footer says");
                };
                self.promised = promised;
                if page.left > 0 {
                    let values = Values::new(page.encoding, self.leaf.physical, &page.bytes, page.at, page.left)?;
                    self.page = Some((page, values));
                }
            }
        }
        Ok(())
    }
}

impl DataPage {
    fn next_level(&mut self, leaf: &Leaf) -> Decoded<Level> {
        self.left -= 1;
        let bytes = &self.bytes;
        let level = |levels: &mut Option<Hybrid>, most: u32, otherwise: u32| match levels {
            None => Ok(otherwise),
            Some(levels) => match u32::try_from(levels.next(bytes)?) {
                Ok(level) if level <= most => Ok(level),
                _ => damaged("a value is nested deeper than its column"),
            },
        };
        Ok(Level {
            repetition: level(&mut self.repetitions, leaf.max_repetition, 0)?,
            definition: level(&mut self.definitions, leaf.max_definition, leaf.max_definition)?,
        })
    }
}
