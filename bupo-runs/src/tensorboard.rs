//! Scalars for TensorBoard, in the files that TensorFlow would write.
//!
//! A file is a sequence of records: a length, its checksum, that many bytes, their checksum. The bytes are a
//! `tensorflow.Event` in the protocol-buffer encoding, of which only the few fields used here are written.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

use crate::RunsError;
use crate::disk::{append_whole, now};

/// Writes scalars into a folder that TensorBoard reads.
///
/// They are in the file once it is flushed, which dropping the writer does too.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    /// Records that are not in the file yet.
    waiting: Vec<u8>,
}

impl EventWriter {
    /// Starts a file of events in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If the folder or the file cannot be made or written.
    pub fn create(folder: &Path) -> Result<Self, RunsError> {
        fs::create_dir_all(folder).map_err(RunsError::io("create", folder))?;
        let (path, file) = new_file(folder)?;
        let mut writer = Self { path, file, waiting: Vec::new() };
        writer.waiting.extend(record(&version_event(now())));
        writer.flush()?;
        Ok(writer)
    }

    /// As [`EventWriter::create`], for a run that goes on: whatever earlier files say of `first_step` and later steps
    /// is not shown.
    ///
    /// # Errors
    /// If the folder or the file cannot be made or written.
    pub fn resume(folder: &Path, first_step: usize) -> Result<Self, RunsError> {
        let mut writer = Self::create(folder)?;
        writer.waiting.extend(record(&start_event(now(), first_step)));
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a value of a step, under a tag such as `reward/mean`.
    pub fn scalar(&mut self, tag: &str, step: usize, value: f64) {
        self.waiting.extend(record(&scalar_event(now(), tag, step, value as f32)));
    }

    /// Writes what was added to the file.
    ///
    /// # Errors
    /// If it cannot be written; the next flush tries again.
    pub fn flush(&mut self) -> Result<(), RunsError> {
        append_whole(&mut self.file, &self.waiting).map_err(RunsError::io("write", &self.path))?;
        self.waiting.clear();
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        // Whoever wants to know calls `flush`.
        let _ = self.flush();
    }
}

/// TensorBoard knows the files by their prefix and reads them in order of their names.
fn new_file(folder: &Path) -> Result<(PathBuf, File), RunsError> {
    let name = format!("events.out.tfevents.{:010}.bupo.{}", now() as u64, process::id());
    let (mut path, mut count) = (folder.join(&name), 0);
    loop {
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            // Two in one second.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => count += 1,
            Err(error) => return Err(RunsError::io("create", &path)(error)),
        }
        path = folder.join(format!("{name}.{count}"));
    }
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, masked_crc(&length).to_le_bytes().as_slice(), event, &masked_crc(event).to_le_bytes()].concat()
}

// The numbers of the fields, as in TensorFlow's event.proto and summary.proto.

fn version_event(wall_time: f64) -> Vec<u8> {
    [double(1, wall_time), bytes(3, b"brain.Event:2")].concat()
}

/// A session that starts at a step, in which status 1 is START.
fn start_event(wall_time: f64, step: usize) -> Vec<u8> {
    [double(1, wall_time), integer(2, step as u64), bytes(7, &integer(1, 1))].concat()
}

fn scalar_event(wall_time: f64, tag: &str, step: usize, value: f32) -> Vec<u8> {
    let value = [bytes(1, tag.as_bytes()), float(2, value)].concat();
    [double(1, wall_time), integer(2, step as u64), bytes(5, &bytes(1, &value))].concat()
}

// A field is its number and its encoding, then its value.

fn integer(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [varint(field << 3 | 1).as_slice(), &value.to_le_bytes()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2).as_slice(), &varint(value.len() as u64), value].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5).as_slice(), &value.to_le_bytes()].concat()
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The checksum of a record, turned and shifted so that a checksum of bytes with checksums in them stays a good one.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli). A few hundred bytes a step need no faster one.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a file apart, checking each checksum.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (length_crc, rest) = rest.split_at(4);
            assert_eq!(length_crc, masked_crc(length).to_le_bytes());
            let (event, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (event_crc, rest) = rest.split_at(4);
            assert_eq!(event_crc, masked_crc(event).to_le_bytes());
            records.push(event.to_vec());
            bytes = rest;
        }
        records
    }

    /// An event without its wall time, which is its first field.
    fn timeless(event: &[u8]) -> &[u8] {
        assert_eq!(event[0], 1 << 3 | 1);
        let wall_time = f64::from_le_bytes(event[1..9].try_into().unwrap());
        assert!((now() - wall_time).abs() < 60.0);
        &event[9..]
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The check value of CRC-32C, then three of RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46dd_794e);
    }

    #[test]
    fn a_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::resume(&folder.path().join("new/tensorboard"), 300).unwrap();
        writer.scalar("reward", 300, 0.5);
        let path = writer.path().to_path_buf();
        assert_eq!(records(&fs::read(&path).unwrap()).len(), 2, "a scalar waits for the flush");
        writer.flush().unwrap();
        writer.scalar("loss", 301, f64::NAN);
        drop(writer);

        let records = records(&fs::read(&path).unwrap());
        let records: Vec<_> = records.iter().map(|record| timeless(record)).collect();
        assert_eq!(records[0], b"\x1a\x0dbrain.Event:2");
        assert_eq!(records[1], b"\x10\xac\x02\x3a\x02\x08\x01");
        assert_eq!(records[2], b"\x10\xac\x02\x2a\x0f\x0a\x0d\x0a\x06reward\x15\x00\x00\x00\x3f");
        assert_eq!(records[3], b"\x10\xad\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\xc0\x7f");
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn the_bytes_are_those_that_tensorboard_was_seen_to_read() {
        // `tests/check_tensorboard.py tests/tensorboard` printed what tests/tensorboard/read.json says.
        let events = [
            version_event(1_700_000_000.0),
            start_event(1_700_000_000.5, 1),
            scalar_event(1_700_000_001.25, "reward/mean", 1, 0.125),
            scalar_event(1_700_000_002.25, "reward/mean", 2, -3.5e-7),
            scalar_event(1_700_000_003.25, "Länge", 1_000_000, 4096.0),
        ];
        let bytes: Vec<u8> = events.iter().flat_map(|event| record(event)).collect();
        let seen = include_bytes!("../tests/tensorboard/events.out.tfevents.1700000000.bupo.1");
        assert_eq!(bytes, seen);
        assert_eq!(records(seen).len(), 5);
    }

    #[test]
    fn two_writers_in_one_second_have_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let writers: Vec<_> = (0..3).map(|_| EventWriter::create(folder.path()).unwrap()).collect();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        let name = writers[0].path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("events.out.tfevents.") && name.contains(".bupo."), "{name}");
    }
}
