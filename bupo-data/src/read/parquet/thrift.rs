//! The Thrift compact protocol, in which Parquet writes its footer and its page headers.
//!
//! Structs are walked field by field, so that nothing is kept but what a caller takes, and no count is believed before
//! the bytes for it are there.

use super::fault::{Decoded, Fault, damaged};

/// How deep structs and lists may nest inside a field that is skipped.
const MAX_DEPTH: usize = 16;

/// A reader over the bytes of one Thrift struct.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The type of a field or of the elements of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool(bool),
    Byte,
    Int,
    Double,
    Binary,
    List,
    Map,
    Struct,
    Uuid,
}

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads a struct: `field` is given each field's id and kind, and must read or skip it.
    pub(super) fn read_struct(&mut self, mut field: impl FnMut(&mut Self, i64, Kind) -> Decoded<()>) -> Decoded<()> {
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => self.zigzag()?,
                step => id.saturating_add(i64::from(step)),
            };
            let kind = Kind::of(head & 0x0f)?;
            field(self, id, kind)?;
        }
    }

    /// Reads a list of structs: `element` must read one.
    pub(super) fn read_structs(
        &mut self,
        kind: Kind,
        mut element: impl FnMut(&mut Self) -> Decoded<()>,
    ) -> Decoded<()> {
        expect(kind, Kind::List)?;
        let (of, count) = self.list_head()?;
        if count > 0 {
            expect(of, Kind::Struct)?;
        }
        (0..count).try_for_each(|_| element(self))
    }

    pub(super) fn read_int(&mut self, kind: Kind) -> Decoded<i64> {
        if kind == Kind::Byte {
            return Ok(i64::from(self.byte()?.cast_signed()));
        }
        expect(kind, Kind::Int)?;
        self.zigzag()
    }

    pub(super) fn read_bool(&mut self, kind: Kind) -> Decoded<bool> {
        match kind {
            Kind::Bool(value) => Ok(value),
            other => expect(other, Kind::Bool(true)).map(|()| true),
        }
    }

    pub(super) fn read_text(&mut self, kind: Kind) -> Decoded<&'a str> {
        expect(kind, Kind::Binary)?;
        let bytes = self.binary()?;
        std::str::from_utf8(bytes).map_err(|_| Fault::Damaged("a name is not UTF-8".to_owned()))
    }

    /// Passes over a field.
    pub(super) fn skip(&mut self, kind: Kind) -> Decoded<()> {
        self.skip_within(kind, MAX_DEPTH)
    }

    fn skip_within(&mut self, kind: Kind, depth: usize) -> Decoded<()> {
        let Some(depth) = depth.checked_sub(1) else {
            return damaged("its metadata nests too deep");
        };
        match kind {
            Kind::Bool(_) => Ok(()),
            Kind::Byte => self.take(1).map(drop),
            Kind::Int => self.zigzag().map(drop),
            Kind::Double => self.take(8).map(drop),
            Kind::Uuid => self.take(16).map(drop),
            Kind::Binary => self.binary().map(drop),
            Kind::Struct => self.read_struct(|thrift, _, kind| thrift.skip_within(kind, depth)),
            Kind::List => {
                let (of, count) = self.list_head()?;
                (0..count).try_for_each(|_| self.skip_element(of, depth))
            }
            Kind::Map => {
                let count = self.count()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 0x0f)?);
                (0..count).try_for_each(|_| {
                    self.skip_element(key, depth)?;
                    self.skip_element(value, depth)
                })
            }
        }
    }

    /// An element of a list takes a byte even where a field of its kind takes none.
    fn skip_element(&mut self, kind: Kind, depth: usize) -> Decoded<()> {
        match kind {
            Kind::Bool(_) => self.take(1).map(drop),
            other => self.skip_within(other, depth),
        }
    }

    fn list_head(&mut self) -> Decoded<(Kind, usize)> {
        let head = self.byte()?;
        let count = match usize::from(head >> 4) {
            15 => self.count()?,
            count => count,
        };
        // Some writers leave the kind of an empty list out.
        let kind = if head == 0 { Kind::Byte } else { Kind::of(head & 0x0f)? };
        Ok((kind, count))
    }

    /// A count of things that take a byte or more each.
    fn count(&mut self) -> Decoded<usize> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.bytes.len() - self.at => Ok(count),
            _ => damaged(format!("its metadata claims {count} elements where fewer bytes are left")),
        }
    }

    fn binary(&mut self) -> Decoded<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    fn zigzag(&mut self) -> Decoded<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn varint(&mut self) -> Decoded<u64> {
        varint(self.bytes, &mut self.at)
            .ok_or_else(|| Fault::Damaged("a number in its metadata is cut short".to_owned()))
    }

    fn byte(&mut self) -> Decoded<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn take(&mut self, length: usize) -> Decoded<&'a [u8]> {
        let taken = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else { return damaged("its metadata ends early") };
        self.at += length;
        Ok(taken)
    }
}

impl Kind {
    fn of(code: u8) -> Decoded<Self> {
        Ok(match code {
            1 => Self::Bool(true),
            2 => Self::Bool(false),
            3 => Self::Byte,
            4..=6 => Self::Int,
            7 => Self::Double,
            8 => Self::Binary,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return damaged(format!("its metadata has a field of the unknown kind {code}")),
        })
    }
}

fn expect(found: Kind, wanted: Kind) -> Decoded<()> {
    if found == wanted { Ok(()) } else { damaged(format!("its metadata has {found:?} where {wanted:?} belongs")) }
}

/// Reads a little-endian base-128 number of at most 64 bits; nothing if it is cut short or too long.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_by_short_and_long_field_ids() {
        // Field 1: -3; field 20 by its full id: 300.
        let bytes = [0x16, 0x05, 0x06, 40, 0xd8, 0x04, 0x00];
        let mut seen = Vec::new();
        let mut thrift = Thrift::new(&bytes);
        thrift
            .read_struct(|thrift, id, kind| {
                seen.push((id, thrift.read_int(kind)?));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(1, -3), (20, 300)]);
        assert_eq!(thrift.position(), bytes.len());
    }

    #[test]
    fn skips_every_kind() {
        let bytes = [
            0x11, // true
            0x13, 0xff, // byte
            0x15, 0x80, 0x01, // int
            0x17, 0, 0, 0, 0, 0, 0, 0, 0, // double
            0x18, 0x02, b'a', b'b', // binary
            0x19, 0x22, 0x01, 0x00, // list of two booleans
            0x19, 0x00, // empty list without a kind
            0x1b, 0x01, 0x85, b'\x01', b'k', 0x02, // map of a text to an int
            0x1b, 0x00, // empty map
            0x1c, 0x00, // empty struct
            0x00,
        ];
        let mut thrift = Thrift::new(&bytes);
        thrift.read_struct(Thrift::skip_any).unwrap();
        assert_eq!(thrift.position(), bytes.len());
    }

    #[test]
    fn refuses_what_is_cut_short_too_long_or_too_deep() {
        let long_number = [0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00];
        let huge_list = [0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
        let nested_structs = [0x1c; 10_000];
        let nested_lists = [0x19; 10_000];
        for bytes in [&long_number[..], &huge_list, &nested_structs, &nested_lists, &[0x16], &[0x1f, 0x00], &[]] {
            assert!(Thrift::new(bytes).read_struct(Thrift::skip_any).is_err(), "{bytes:?}");
        }
    }

    impl Thrift<'_> {
        fn skip_any(&mut self, _: i64, kind: Kind) -> Decoded<()> {
            self.skip(kind)
        }
    }
}
