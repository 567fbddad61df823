//! The writer of TensorBoard event files (scalars only).
//!
//! A file is a sequence of TFRecords: a length, its checksum, that many bytes, their checksum. The bytes are a
//! `tensorflow.Event` in the Protocol Buffers encoding.
//!
//! The format is written here and not by a library, because it needs only nine protobuf fields and a CRC: `tensorboard-rs`
//! brings a protobuf and an image library and panics when a write fails; `tfrecord` brings a protobuf library as well.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;

use crate::RunsError;
use crate::disk::{append_whole, now};

/// Writes scalars to an event file in TensorBoard's log folder. [`EventWriter::scalar`] buffers; [`EventWriter::flush`]
/// and dropping the writer write the buffer to the file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    /// Records that are not yet in the file.
    buffer: Vec<u8>,
}

impl EventWriter {
    /// Creates a new event file in a folder, and the folder if it is missing.
    ///
    /// # Errors
    /// If the folder or the file cannot be created or written.
    pub fn create(folder: &Path) -> Result<Self, RunsError> {
        fs::create_dir_all(folder).map_err(RunsError::io("create", folder))?;
        let (path, file) = new_file(folder)?;
        let mut writer = Self { path, file, buffer: Vec::new() };
        writer.buffer.extend(record(&version_event(now())));
        writer.flush()?;
        Ok(writer)
    }

    /// As [`EventWriter::create`], for a resumed run: TensorBoard discards the values of `first_step` and later steps in
    /// earlier files of the folder.
    ///
    /// # Errors
    /// If the folder or the file cannot be created or written.
    pub fn resume(folder: &Path, first_step: usize) -> Result<Self, RunsError> {
        let mut writer = Self::create(folder)?;
        writer.buffer.extend(record(&start_event(now(), first_step)));
        writer.flush()?;
        Ok(writer)
    }

    /// The path of the event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the value of a step under a tag such as `reward/mean`. It is stored as `f32`.
    pub fn scalar(&mut self, tag: &str, step: usize, value: f64) {
        self.buffer.extend(record(&scalar_event(now(), tag, step, value as f32)));
    }

    /// Writes the buffered values to the file.
    ///
    /// # Errors
    /// If they cannot be written; they then stay buffered, and the file is unchanged.
    pub fn flush(&mut self) -> Result<(), RunsError> {
        append_whole(&mut self.file, &self.buffer).map_err(RunsError::io("write", &self.path))?;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        // A caller that needs the error calls `flush` first.
        let _ = self.flush();
    }
}

/// Creates a file with the prefix by which TensorBoard finds event files. TensorBoard reads them in the order of their
/// names, so the time comes first.
fn new_file(folder: &Path) -> Result<(PathBuf, File), RunsError> {
    let name = format!("events.out.tfevents.{:010}.bupo.{}", now() as u64, process::id());
    let (mut path, mut count) = (folder.join(&name), 0);
    loop {
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            // Another writer of this process in the same second.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => count += 1,
            Err(error) => return Err(RunsError::io("create", &path)(error)),
        }
        path = folder.join(format!("{name}.{count}"));
    }
}

/// A TFRecord.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, masked_crc(&length).to_le_bytes().as_slice(), event, &masked_crc(event).to_le_bytes()].concat()
}

// The field numbers are those of TensorFlow's event.proto and summary.proto.

fn version_event(wall_time: f64) -> Vec<u8> {
    [double(1, wall_time), bytes(3, b"brain.Event:2")].concat()
}

/// A `SessionLog` with status START (1) at a step.
fn start_event(wall_time: f64, step: usize) -> Vec<u8> {
    [double(1, wall_time), integer(2, step as u64), bytes(7, &integer(1, 1))].concat()
}

fn scalar_event(wall_time: f64, tag: &str, step: usize, value: f32) -> Vec<u8> {
    let value = [bytes(1, tag.as_bytes()), float(2, value)].concat();
    [double(1, wall_time), integer(2, step as u64), bytes(5, &bytes(1, &value))].concat()
}

// A protobuf field is a key, `number << 3 | wire type`, followed by the value.

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

/// Seven bits per byte, the lowest first; the eighth bit is set if more bytes follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The masked CRC of the TFRecord format: rotated and offset, because a CRC over data that contains its own CRC is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: fast enough for a few hundred bytes per training step.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a file into its events and checks all checksums.
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

    /// An event without its first field, the wall time.
    fn without_wall_time(event: &[u8]) -> &[u8] {
        assert_eq!(event[0], 1 << 3 | 1);
        let wall_time = f64::from_le_bytes(event[1..9].try_into().unwrap());
        assert!((now() - wall_time).abs() < 60.0);
        &event[9..]
    }

    #[test]
    fn crc32c_agrees_with_published_values() {
        // The check value of CRC-32C, then three examples of RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46dd_794e);
    }

    #[test]
    fn a_file_has_the_expected_events() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::resume(&folder.path().join("new/tensorboard"), 300).unwrap();
        writer.scalar("reward", 300, 0.5);
        let path = writer.path().to_path_buf();
        assert_eq!(records(&fs::read(&path).unwrap()).len(), 2, "a scalar is buffered until the flush");
        writer.flush().unwrap();
        writer.scalar("loss", 301, f64::NAN);
        drop(writer);

        let records = records(&fs::read(&path).unwrap());
        let records: Vec<_> = records.iter().map(|record| without_wall_time(record)).collect();
        assert_eq!(records[0], b"\x1a\x0dbrain.Event:2");
        assert_eq!(records[1], b"\x10\xac\x02\x3a\x02\x08\x01");
        assert_eq!(records[2], b"\x10\xac\x02\x2a\x0f\x0a\x0d\x0a\x06reward\x15\x00\x00\x00\x3f");
        assert_eq!(records[3], b"\x10\xad\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\xc0\x7f");
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn the_bytes_are_those_that_tensorboard_has_read() {
        // tests/tensorboard/read.json is the output of `tests/check_tensorboard.py tests/tensorboard`.
        let events = [
            version_event(1_700_000_000.0),
            start_event(1_700_000_000.5, 1),
            scalar_event(1_700_000_001.25, "reward/mean", 1, 0.125),
            scalar_event(1_700_000_002.25, "reward/mean", 2, -3.5e-7),
            scalar_event(1_700_000_003.25, "Länge", 1_000_000, 4096.0),
        ];
        let bytes: Vec<u8> = events.iter().flat_map(|event| record(event)).collect();
        let expected = include_bytes!("../tests/tensorboard/events.out.tfevents.1700000000.bupo.1");
        assert_eq!(bytes, expected);
        assert_eq!(records(expected).len(), 5);
    }

    #[test]
    fn writers_of_the_same_second_have_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let writers: Vec<_> = (0..3).map(|_| EventWriter::create(folder.path()).unwrap()).collect();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        let name = writers[0].path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("events.out.tfevents.") && name.contains(".bupo."), "{name}");
    }
}
