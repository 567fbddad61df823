//! Numbers packed bit by bit: the hybrid of runs and packed groups that levels, dictionary indices and booleans are
//! written in, and the deltas that some writers use for whole numbers and lengths.

use super::{
    fault::{Decoded, Fault, damaged},
    thrift::varint,
};

/// The widest number of the hybrid encoding.
const MAX_WIDTH: u32 = 32;
/// The largest block of deltas; writers use 128.
const MAX_BLOCK: u64 = 1 << 20;

/// A reader of the hybrid encoding. The bytes are given to each call, so that it can live beside them.
pub(super) struct Hybrid {
    at: usize,
    end: usize,
    width: u32,
    run: Run,
}

enum Run {
    Repeat { value: u64, left: u64 },
    Packed { bit: usize, left: u64 },
}

impl Hybrid {
    /// A reader of the numbers of `width` bits in `at..end`.
    pub(super) fn new(at: usize, end: usize, width: u32) -> Decoded<Self> {
        if width > MAX_WIDTH {
            return damaged(format!("it packs numbers of {width} bits"));
        }
        Ok(Self { at, end, width, run: Run::Repeat { value: 0, left: 0 } })
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Decoded<u64> {
        let bytes = bytes.get(..self.end).unwrap_or(bytes);
        loop {
            match &mut self.run {
                Run::Repeat { value, left } if *left > 0 => {
                    *left -= 1;
                    return Ok(*value);
                }
                Run::Packed { bit, left } if *left > 0 => {
                    *left -= 1;
                    let value = bits(bytes, *bit, self.width).ok_or_else(short)?;
                    *bit += self.width as usize;
                    return Ok(value);
                }
                _ => self.run = self.next_run(bytes)?,
            }
        }
    }

    fn next_run(&mut self, bytes: &[u8]) -> Decoded<Run> {
        let head = varint(bytes, &mut self.at).ok_or_else(short)?;
        let length = head >> 1;
        if head & 1 == 0 {
            let value_bytes = self.width.div_ceil(8) as usize;
            let value = bits(bytes, self.at * 8, self.width).ok_or_else(short)?;
            self.at += value_bytes;
            return Ok(Run::Repeat { value, left: length });
        }
        let start = self.at;
        let packed = usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(self.width as usize);
        // The last group may be cut off where its numbers end.
        self.at = start.saturating_add(packed).min(bytes.len());
        Ok(Run::Packed { bit: start * 8, left: length.saturating_mul(8) })
    }
}

/// A reader of delta-encoded whole numbers.
#[derive(Clone)]
pub(super) struct Deltas {
    at: usize,
    left: usize,
    last: i64,
    is_first: bool,
    miniblocks: usize,
    per_miniblock: usize,
    block: Block,
}

/// Where the reading of a block of deltas stands.
#[derive(Clone, Default)]
struct Block {
    least: i64,
    widths: usize,
    /// How many of its miniblocks are still to come.
    miniblocks_left: usize,
    /// Of the miniblock being read: the numbers left, their width and the first one's place.
    left: usize,
    width: u32,
    bit: usize,
}

impl Deltas {
    /// A reader of the numbers that start at `at`, of which there may be `most`.
    pub(super) fn new(bytes: &[u8], at: usize, most: usize) -> Decoded<Self> {
        let mut at = at;
        let mut number = || varint(bytes, &mut at).ok_or_else(short);
        let (block, miniblocks, count, first) = (number()?, number()?, number()?, number()?);
        let per_miniblock = block.checked_div(miniblocks).unwrap_or(0);
        if block > MAX_BLOCK || per_miniblock == 0 || per_miniblock % 8 != 0 || per_miniblock * miniblocks != block {
            return damaged(format!("it has blocks of {block} deltas in {miniblocks} parts"));
        }
        match usize::try_from(count) {
            Ok(left) if left <= most => Ok(Self {
                at,
                left,
                last: zigzag(first),
                is_first: true,
                miniblocks: miniblocks as usize,
                per_miniblock: per_miniblock as usize,
                block: Block::default(),
            }),
            _ => damaged(format!("a page of {most} values has {count} deltas")),
        }
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Decoded<i64> {
        self.left = self.left.checked_sub(1).ok_or_else(short)?;
        if std::mem::take(&mut self.is_first) {
            return Ok(self.last);
        }
        if self.block.left == 0 {
            self.next_miniblock(bytes)?;
        }
        let block = &mut self.block;
        block.left -= 1;
        let delta = bits(bytes, block.bit, block.width).ok_or_else(short)?;
        block.bit += block.width as usize;
        self.last = self.last.wrapping_add(block.least).wrapping_add(delta.cast_signed());
        Ok(self.last)
    }

    /// Where the bytes after the numbers begin. All of them have to be passed over to find it.
    pub(super) fn end(&self, bytes: &[u8]) -> Decoded<usize> {
        let mut rest = self.clone();
        while rest.left > 0 {
            rest.next(bytes)?;
        }
        Ok(rest.at)
    }

    fn next_miniblock(&mut self, bytes: &[u8]) -> Decoded<()> {
        let block = &mut self.block;
        if block.miniblocks_left == 0 {
            block.least = zigzag(varint(bytes, &mut self.at).ok_or_else(short)?);
            block.widths = self.at;
            block.miniblocks_left = self.miniblocks;
            self.at = self.at.saturating_add(self.miniblocks);
        }
        let width = *bytes.get(block.widths).ok_or_else(short)?;
        if width > 64 {
            return damaged(format!("it packs deltas of {width} bits"));
        }
        block.widths += 1;
        block.miniblocks_left -= 1;
        block.left = self.per_miniblock;
        block.width = u32::from(width);
        block.bit = self.at.saturating_mul(8);
        self.at = self.at.saturating_add(self.per_miniblock / 8 * usize::from(width));
        Ok(())
    }
}

/// The number in `width` bits, 64 at most, from the given bit on, the lowest bit first.
pub(super) fn bits(bytes: &[u8], bit: usize, width: u32) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let (start, shift) = (bit / 8, bit % 8);
    let end = bit.checked_add(width as usize)?.div_ceil(8);
    let taken = bytes.get(start..end)?;
    let packed = taken.iter().rev().fold(0_u128, |packed, byte| packed << 8 | u128::from(*byte)) >> shift;
    Some(packed as u64 & (u64::MAX >> (64 - width.min(64))))
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn short() -> Fault {
    Fault::Damaged("a page ends before its values do".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hybrid(bytes: &[u8], width: u32, count: usize) -> Decoded<Vec<u64>> {
        let mut reader = Hybrid::new(0, bytes.len(), width)?;
        (0..count).map(|_| reader.next(bytes)).collect()
    }

    #[test]
    fn reads_runs_and_packed_groups() {
        // Three fives, then 0 to 7 in three bits each, then one two.
        let bytes = [6, 5, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010, 2, 2];
        assert_eq!(hybrid(&bytes, 3, 12).unwrap(), [5, 5, 5, 0, 1, 2, 3, 4, 5, 6, 7, 2]);
        assert!(hybrid(&bytes, 3, 13).is_err());
    }

    #[test]
    fn reads_a_packed_group_that_is_cut_off() {
        assert_eq!(hybrid(&[3, 0b0110_1101], 1, 8).unwrap(), [1, 0, 1, 1, 0, 1, 1, 0]);
        assert_eq!(hybrid(&[5, 0b0110_1101], 1, 8).unwrap().len(), 8);
        assert!(hybrid(&[5, 0b0110_1101], 1, 9).is_err());
    }

    #[test]
    fn empty_runs_end() {
        assert!(hybrid(&[0, 1, 0, 1, 1], 1, 1).is_err());
        assert!(hybrid(&[0; 1000], 0, 1).is_err());
        assert!(hybrid(&[0xff; 20], 1, 1).is_err());
    }

    #[test]
    fn numbers_of_no_bits_are_zero() {
        assert_eq!(hybrid(&[4], 0, 2).unwrap(), [0, 0]);
        assert!(Hybrid::new(0, 0, 33).is_err());
    }

    #[test]
    fn reads_deltas() {
        // Blocks of 128 in 4 parts, 5 values: 7, then -2 + 0, -2 + 1, -2 + 3, -2 + 2 in two bits each.
        let mut bytes = vec![0x80, 0x01, 4, 5, 14, 3, 2, 0, 0, 0, 0b1011_0100];
        bytes.extend([0; 7]);
        bytes.push(0xaa);
        let mut deltas = Deltas::new(&bytes, 0, 5).unwrap();
        assert_eq!(deltas.end(&bytes).unwrap(), bytes.len() - 1);
        let values: Vec<_> = (0..5).map(|_| deltas.next(&bytes).unwrap()).collect();
        assert_eq!(values, [7, 5, 4, 5, 5]);
        assert!(deltas.next(&bytes).is_err());
        assert!(Deltas::new(&bytes, 0, 4).is_err());
    }

    #[test]
    fn refuses_deltas_that_do_not_add_up() {
        for head in [&[0x80, 0x01, 0, 5, 0][..], &[0x80, 0x01, 3, 5, 0], &[0, 1, 5, 0], &[4, 1, 5, 0], &[]] {
            assert!(Deltas::new(head, 0, 10).is_err(), "{head:?}");
        }
        let too_wide = [8, 1, 2, 0, 0, 65];
        assert!(Deltas::new(&too_wide, 0, 2).unwrap().next_two(&too_wide).is_err());
    }

    #[test]
    fn reads_up_to_64_bits_across_bytes() {
        let bytes = [0xff; 9];
        assert_eq!(bits(&bytes, 7, 64), Some(u64::MAX));
        assert_eq!(bits(&bytes, 9, 64), None);
        assert_eq!(bits(&[0b1010_0000, 0b0000_0001], 5, 4), Some(0b1101));
    }

    impl Deltas {
        fn next_two(&mut self, bytes: &[u8]) -> Decoded<(i64, i64)> {
            Ok((self.next(bytes)?, self.next(bytes)?))
        }
    }
}
