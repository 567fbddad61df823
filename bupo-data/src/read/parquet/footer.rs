//! The footer of a Parquet file: its schema, as a flat list, and where the columns of each row group lie.

use super::{
    fault::{Decoded, damaged, unsupported},
    thrift::{Kind, Thrift},
};

/// What the footer says.
pub(super) struct Footer {
    pub(super) elements: Vec<Element>,
    pub(super) rows: u64,
    pub(super) groups: Vec<RowGroup>,
}

/// A node of the schema; its children follow it.
#[derive(Clone, Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    /// The code of the type its values are stored in; groups have none.
    pub(super) physical: Option<i64>,
    /// The length of its values, where it is fixed.
    pub(super) length: i64,
    /// 0 required, 1 optional, 2 repeated.
    pub(super) repetition: i64,
    pub(super) children: i64,
    pub(super) meaning: Meaning,
}

/// What stored values stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Meaning {
    #[default]
    Plain,
    Text,
    List,
    Map,
    Decimal {
        scale: i64,
    },
    Integer {
        bits: i64,
        signed: bool,
    },
    /// No value is ever there.
    Null,
    /// A kind of value that has a name, but is neither text nor number.
    Other(&'static str),
}

/// A row group: as many column chunks as the schema has leaves.
#[derive(Default)]
pub(super) struct RowGroup {
    pub(super) chunks: Vec<Chunk>,
    pub(super) rows: u64,
}

/// The values of one column in one row group.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    pub(super) codec: i64,
    pub(super) values: u64,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Footer {
    pub(super) fn read(bytes: &[u8]) -> Decoded<Self> {
        let mut footer = Self { elements: Vec::new(), rows: 0, groups: Vec::new() };
        Thrift::new(bytes).read_struct(|thrift, id, kind| {
            match id {
                2 => thrift.read_structs(kind, |thrift| {
                    footer.elements.push(Element::read(thrift)?);
                    Ok(())
                })?,
                3 => footer.rows = natural(thrift, kind, "rows")?,
                4 => thrift.read_structs(kind, |thrift| {
                    footer.groups.push(RowGroup::read(thrift)?);
                    Ok(())
                })?,
                8 => return unsupported("encryption"),
                _ => thrift.skip(kind)?,
            }
            Ok(())
        })?;
        let rows = footer.groups.iter().map(|group| group.rows).fold(0, u64::saturating_add);
        if rows != footer.rows {
            return damaged(format!("it says {} rows, its row groups {rows}", footer.rows));
        }
        Ok(footer)
    }
}

impl Element {
    fn read(thrift: &mut Thrift<'_>) -> Decoded<Self> {
        let mut element = Self::default();
        let (mut converted, mut scale) = (None, 0);
        thrift.read_struct(|thrift, id, kind| {
            match id {
                1 => element.physical = Some(thrift.read_int(kind)?),
                2 => element.length = thrift.read_int(kind)?,
                3 => element.repetition = thrift.read_int(kind)?,
                4 => thrift.read_text(kind)?.clone_into(&mut element.name),
                5 => element.children = thrift.read_int(kind)?,
                6 => converted = Some(thrift.read_int(kind)?),
                7 => scale = thrift.read_int(kind)?,
                10 => element.meaning = read_meaning(thrift, kind)?,
                _ => thrift.skip(kind)?,
            }
            Ok(())
        })?;
        if let (Meaning::Plain, Some(converted)) = (element.meaning, converted) {
            element.meaning = older_meaning(converted, scale);
        }
        Ok(element)
    }
}

/// Reads a logical type: a struct of which one field is set.
fn read_meaning(thrift: &mut Thrift<'_>, kind: Kind) -> Decoded<Meaning> {
    if kind != Kind::Struct {
        return damaged("a column's logical type is not one");
    }
    let mut meaning = Meaning::Plain;
    thrift.read_struct(|thrift, id, kind| {
        meaning = match id {
            1 | 4 | 12 => Meaning::Text,
            2 => Meaning::Map,
            3 => Meaning::List,
            5 => return read_decimal(thrift, kind).map(|decimal| meaning = decimal),
            6 => Meaning::Other("date"),
            7 => Meaning::Other("time"),
            8 => Meaning::Other("timestamp"),
            10 => return read_integer(thrift, kind).map(|integer| meaning = integer),
            11 => Meaning::Null,
            13 => Meaning::Other("bson"),
            14 => Meaning::Other("uuid"),
            15 => Meaning::Other("float16"),
            _ => Meaning::Other("of a newer kind"),
        };
        thrift.skip(kind)
    })?;
    Ok(meaning)
}

fn read_decimal(thrift: &mut Thrift<'_>, kind: Kind) -> Decoded<Meaning> {
    let mut scale = 0;
    read_inner(thrift, kind, |thrift, id, kind| {
        match id {
            1 => scale = thrift.read_int(kind)?,
            _ => thrift.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(Meaning::Decimal { scale })
}

fn read_integer(thrift: &mut Thrift<'_>, kind: Kind) -> Decoded<Meaning> {
    let (mut bits, mut signed) = (0, true);
    read_inner(thrift, kind, |thrift, id, kind| {
        match id {
            1 => bits = thrift.read_int(kind)?,
            2 => signed = thrift.read_bool(kind)?,
            _ => thrift.skip(kind)?,
        }
        Ok(())
    })?;
    Ok(Meaning::Integer { bits, signed })
}

/// The meaning by the code that older writers give.
fn older_meaning(code: i64, scale: i64) -> Meaning {
    match code {
        0 | 4 | 19 => Meaning::Text,
        1 | 2 => Meaning::Map,
        3 => Meaning::List,
        5 => Meaning::Decimal { scale },
        6 => Meaning::Other("date"),
        7 | 8 => Meaning::Other("time"),
        9 | 10 => Meaning::Other("timestamp"),
        11..=14 => Meaning::Integer { bits: 8 << (code - 11), signed: false },
        15..=18 => Meaning::Integer { bits: 8 << (code - 15), signed: true },
        20 => Meaning::Other("bson"),
        21 => Meaning::Other("interval"),
        _ => Meaning::Plain,
    }
}

impl RowGroup {
    fn read(thrift: &mut Thrift<'_>) -> Decoded<Self> {
        let mut group = Self::default();
        thrift.read_struct(|thrift, id, kind| {
            match id {
                1 => thrift.read_structs(kind, |thrift| {
                    group.chunks.push(Chunk::read(thrift)?);
                    Ok(())
                })?,
                3 => group.rows = natural(thrift, kind, "rows of a row group")?,
                _ => thrift.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(group)
    }
}

impl Chunk {
    fn read(thrift: &mut Thrift<'_>) -> Decoded<Self> {
        let mut chunk = Self::default();
        thrift.read_struct(|thrift, id, kind| match id {
            1 => unsupported("columns in other files"),
            3 => read_inner(thrift, kind, |thrift, id, kind| chunk.read_field(thrift, id, kind)),
            _ => thrift.skip(kind),
        })?;
        Ok(chunk)
    }

    fn read_field(&mut self, thrift: &mut Thrift<'_>, id: i64, kind: Kind) -> Decoded<()> {
        match id {
            4 => self.codec = thrift.read_int(kind)?,
            5 => self.values = natural(thrift, kind, "values")?,
            7 => self.length = natural(thrift, kind, "bytes of a column")?,
            // A dictionary comes before the data. Some writers say 0 where there are no data or no dictionary, and no
            // page is there, because every file begins with PAR1.
            9 | 11 => match natural(thrift, kind, "place of a column")? {
                0 => {}
                place if self.start == 0 => self.start = place,
                place => self.start = self.start.min(place),
            },
            _ => thrift.skip(kind)?,
        }
        Ok(())
    }
}

fn read_inner(
    thrift: &mut Thrift<'_>,
    kind: Kind,
    field: impl FnMut(&mut Thrift<'_>, i64, Kind) -> Decoded<()>,
) -> Decoded<()> {
    if kind != Kind::Struct {
        return damaged("its metadata has something else where a struct belongs");
    }
    let mut field = field;
    thrift.read_struct(|thrift, id, kind| field(thrift, id, kind))
}

fn natural(thrift: &mut Thrift<'_>, kind: Kind, what: &str) -> Decoded<u64> {
    let value = thrift.read_int(kind)?;
    u64::try_from(value).or_else(|_| damaged(format!("its {what}: {value}")))
}
