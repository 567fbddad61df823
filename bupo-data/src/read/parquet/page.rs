//! The pages of a column: their headers, their levels and where their values begin.

use super::{
    bits::Hybrid,
    codec::Codec,
    fault::{Decoded, Fault, damaged, unsupported},
    schema::Leaf,
    thrift::{Kind, Thrift},
};
use crate::read::limits::Budget;

/// The largest page, decompressed.
const MAX_PAGE: usize = 256 << 20;

/// What stands before a page.
#[derive(Debug, Default)]
pub(super) struct Header {
    kind: i64,
    size: usize,
    compressed_size: usize,
    values: usize,
    encoding: i64,
    level_encodings: [i64; 2],
    /// Pages of the second kind keep their levels out of the compression: the bytes of repetitions and of definitions.
    level_sizes: [usize; 2],
    is_compressed: bool,
}

/// A page as it is read: one of the values of a dictionary, or of a column.
pub(super) enum Page {
    Dictionary { bytes: Vec<u8>, values: usize },
    Data(DataPage),
}

/// A page of a column's values.
pub(super) struct DataPage {
    pub(super) bytes: Vec<u8>,
    /// How many levels are left, nulls included.
    pub(super) left: usize,
    pub(super) repetitions: Option<Hybrid>,
    pub(super) definitions: Option<Hybrid>,
    pub(super) encoding: i64,
    /// Where the values begin.
    pub(super) at: usize,
}

/// Reads the page at `at` and moves past it; nothing for a page of a kind that holds no values.
pub(super) fn next_page(
    chunk: &[u8],
    at: &mut usize,
    leaf: &Leaf,
    codec: Codec,
    budget: &mut Budget,
) -> Decoded<Option<Page>> {
    let rest = chunk.get(*at..).unwrap_or_default();
    let mut thrift = Thrift::new(rest);
    let header = Header::read(&mut thrift)?;
    let start = thrift.position();
    let Some(body) = start.checked_add(header.compressed_size).and_then(|end| rest.get(start..end)) else {
        return damaged("a page reaches beyond its column");
    };
    *at += start + body.len();
    if header.size > MAX_PAGE {
        return Err(Fault::TooLarge(format!(
            "it has a page of {} bytes, and {MAX_PAGE} is the most; write it again with smaller pages",
            header.size
        )));
    }
    // The values count as well, because levels and repeated values take next to no bytes.
    budget.take(header.size)?;
    budget.take(header.values)?;
    match header.kind {
        0 => header.first_kind(codec.decompress(body, header.size)?, leaf).map(|page| Some(Page::Data(page))),
        2 => {
            let bytes = codec.decompress(body, header.size)?;
            Ok(Some(Page::Dictionary { bytes, values: header.values }))
        }
        3 => header.second_kind(body, codec, leaf).map(|page| Some(Page::Data(page))),
        _ => Ok(None),
    }
}

impl Header {
    fn read(thrift: &mut Thrift<'_>) -> Decoded<Self> {
        let mut header = Self { is_compressed: true, ..Self::default() };
        thrift.read_struct(|thrift, id, kind| {
            match id {
                1 => header.kind = thrift.read_int(kind)?,
                2 => header.size = size(thrift, kind)?,
                3 => header.compressed_size = size(thrift, kind)?,
                5 if kind == Kind::Struct => thrift.read_struct(|thrift, id, kind| {
                    match id {
                        1 => header.values = size(thrift, kind)?,
                        2 => header.encoding = thrift.read_int(kind)?,
                        3 => header.level_encodings[1] = thrift.read_int(kind)?,
                        4 => header.level_encodings[0] = thrift.read_int(kind)?,
                        _ => thrift.skip(kind)?,
                    }
                    Ok(())
                })?,
                7 if kind == Kind::Struct => thrift.read_struct(|thrift, id, kind| {
                    match id {
                        1 => header.values = size(thrift, kind)?,
                        _ => thrift.skip(kind)?,
                    }
                    Ok(())
                })?,
                8 if kind == Kind::Struct => thrift.read_struct(|thrift, id, kind| {
                    match id {
                        1 => header.values = size(thrift, kind)?,
                        4 => header.encoding = thrift.read_int(kind)?,
                        5 => header.level_sizes[1] = size(thrift, kind)?,
                        6 => header.level_sizes[0] = size(thrift, kind)?,
                        7 => header.is_compressed = thrift.read_bool(kind)?,
                        _ => thrift.skip(kind)?,
                    }
                    Ok(())
                })?,
                _ => thrift.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(header)
    }

    /// A page whose levels are compressed with its values, each with its length before it.
    fn first_kind(&self, bytes: Vec<u8>, leaf: &Leaf) -> Decoded<DataPage> {
        let mut at = 0;
        let mut levels = [None, None];
        for ((level, most), encoding) in levels.iter_mut().zip(level_limits(leaf)).zip(self.level_encodings) {
            if most == 0 {
                continue;
            }
            if encoding != RUN_LENGTH {
                return unsupported("the levels of the oldest writers");
            }
            let (start, end) = measured(&bytes, at)?;
            *level = Some(Hybrid::new(start, end, width(most))?);
            at = end;
        }
        let [repetitions, definitions] = levels;
        Ok(DataPage { bytes, left: self.values, repetitions, definitions, encoding: self.encoding, at })
    }

    /// A page whose levels stand before the compressed values.
    fn second_kind(&self, body: &[u8], codec: Codec, leaf: &Leaf) -> Decoded<DataPage> {
        let [repetitions, definitions] = self.level_sizes;
        let at = repetitions.saturating_add(definitions);
        let (Some((levels, values)), Some(size)) = (body.split_at_checked(at), self.size.checked_sub(at)) else {
            return damaged("the levels of a page reach beyond it");
        };
        let codec = if self.is_compressed { codec } else { Codec::None };
        let mut bytes = levels.to_vec();
        bytes.extend(codec.decompress(values, size)?);
        let [most_repetitions, most_definitions] = level_limits(leaf);
        let level = |start, end, most| (most > 0).then(|| Hybrid::new(start, end, width(most))).transpose();
        Ok(DataPage {
            left: self.values,
            repetitions: level(0, repetitions, most_repetitions)?,
            definitions: level(repetitions, at, most_definitions)?,
            encoding: self.encoding,
            at,
            bytes,
        })
    }
}

/// The encoding of runs and packed groups.
pub(super) const RUN_LENGTH: i64 = 3;

/// The place of bytes that have their length before them, in four bytes.
pub(super) fn measured(bytes: &[u8], at: usize) -> Decoded<(usize, usize)> {
    let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
        return damaged("a page ends before its values do");
    };
    let start = at + length.len();
    match usize::try_from(u32::from_le_bytes(*length)) {
        Ok(length) if length <= bytes.len() - start => Ok((start, start + length)),
        _ => damaged("a value or a level reaches beyond its page"),
    }
}

fn level_limits(leaf: &Leaf) -> [u32; 2] {
    [leaf.max_repetition, leaf.max_definition]
}

/// How many bits the largest level takes.
fn width(most: u32) -> u32 {
    u32::BITS - most.leading_zeros()
}

fn size(thrift: &mut Thrift<'_>, kind: Kind) -> Decoded<usize> {
    let size = thrift.read_int(kind)?;
    match i32::try_from(size).ok().and_then(|size| usize::try_from(size).ok()) {
        Some(size) => Ok(size),
        None => damaged(format!("a page has a size of {size}")),
    }
}
