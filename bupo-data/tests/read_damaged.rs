//! Damaged files, and files with wrong sizes and counts: each is an error, without a panic or much memory.

#![allow(clippy::unwrap_used)]

mod crafted;

use std::path::Path;

use bupo_data::{
    Columns, DataError, Problem, describe_jsonl_bytes, describe_parquet_bytes, read_jsonl_bytes, read_parquet_bytes,
};
use crafted::{Leaf, Page, file, thrift};

fn fixtures(ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn read(bytes: &[u8]) -> Result<Vec<Problem>, DataError> {
    let _ = describe_parquet_bytes(bytes, "f");
    read_parquet_bytes(bytes, &Columns::default(), "f")
}

/// Pseudo-random numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn damaged_parquet_is_an_error_or_is_read() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut counts = [0, 0];
    for bytes in fixtures("parquet") {
        for _ in 0..600 {
            let mut bytes = bytes.clone();
            for _ in 0..=numbers.below(4) {
                // Half of the changes are in the second half, where the footer is.
                let from = if numbers.below(2) == 0 { 0 } else { bytes.len() / 2 };
                let place = from + numbers.below(bytes.len() - from);
                bytes[place] = match numbers.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[place] ^ (1 << numbers.below(8)),
                    _ => numbers.below(256) as u8,
                };
            }
            counts[usize::from(read(&bytes).is_ok())] += 1;
        }
    }
    assert!(counts[0] > 1000 && counts[1] > 1000, "{counts:?}");
}

#[test]
fn truncated_files_are_errors() {
    for bytes in fixtures("parquet") {
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn damaged_json_is_an_error_or_is_read() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let mut counts = [0, 0];
    for bytes in fixtures("jsonl").into_iter().chain(fixtures("json")) {
        for _ in 0..5000 {
            let mut bytes = bytes.clone();
            let place = numbers.below(bytes.len());
            bytes[place] = b"{}[]\",:\\ n\n\xff0"[numbers.below(13)];
            let _ = describe_jsonl_bytes(&bytes, "f");
            counts[usize::from(read_jsonl_bytes(&bytes, &Columns::default(), "f").is_ok())] += 1;
        }
    }
    assert!(counts[0] > 1000 && counts[1] > 1000, "{counts:?}");
}

#[test]
fn deep_json_is_an_error() {
    for deep in ["[".repeat(1 << 20), r#"{"prompt":"#.repeat(1 << 18), format!(r#"{{"prompt":{}"#, "[".repeat(1 << 20))]
    {
        assert!(read_jsonl_bytes(deep.as_bytes(), &Columns::default(), "f").is_err());
        assert!(describe_jsonl_bytes(deep.as_bytes(), "f").is_err());
    }
}

#[test]
fn lines_have_a_maximum_length() {
    let long = format!(r#"{{"prompt": "{}", "answer": "a"}}"#, "p".repeat(bupo_data::MAX_VALUE));
    let error = read_jsonl_bytes(long.as_bytes(), &Columns::default(), "f").unwrap_err();
    assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
}

/// Two required columns of text.
const LEAVES: [&str; 2] = ["prompt", "answer"];

fn two_columns(rows: i64, page: &Page) -> Vec<u8> {
    file(&LEAVES.map(Leaf::text), rows, 1, page)
}

/// A page of texts in plain encoding.
fn plain(texts: &[&[u8]]) -> Vec<u8> {
    texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text].concat()).collect()
}

#[test]
fn a_crafted_file_is_read() {
    let page = Page::plain(plain(&[b"a", b"bc"]), 2);
    let problems = read(&two_columns(2, &page)).unwrap();
    assert_eq!(problems.iter().map(|problem| problem.answer.as_str()).collect::<Vec<_>>(), ["a", "bc"]);
}

#[test]
fn wrong_row_counts_are_errors() {
    let page = Page::plain(plain(&[b"a", b"bc"]), 2);
    for (rows, reason) in [(1, "more rows"), (3, "fewer rows"), (i64::MAX, "takes more than"), (-1, "-1 rows")] {
        let error = read(&two_columns(rows, &page)).unwrap_err().to_string();
        assert!(error.contains(reason), "{rows}: {error}");
    }
    let page = Page { values: 1 << 30, ..page };
    assert!(matches!(read(&two_columns(2, &page)), Err(DataError::Damaged { .. } | DataError::TooLarge { .. })));
}

#[test]
fn wrong_counts_of_pages_are_errors() {
    let damaged = |page: &Page| {
        let error = read(&two_columns(2, page)).unwrap_err();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
        error.to_string()
    };
    let page = Page { values: 3, ..Page::plain(plain(&[b"a", b"bc"]), 2) };
    damaged(&page);
    let page = Page {
        dictionary: Some(plain(&[b"a"])),
        dictionary_values: 1 << 30,
        encoding: 8,
        ..Page::plain(vec![1, 4, 0], 2)
    };
    let error = damaged(&page);
    assert!(error.contains("column `prompt`: a dictionary has more values than bytes"), "{error}");
}

#[test]
fn repeated_values_are_limited() {
    // A dictionary of one text, and a page of a few bytes that repeats it 2^30 times.
    let repeats = 1 << 30;
    let mut run = vec![1];
    run.extend(thrift::varint(repeats << 1));
    run.push(0);
    for text in [&b""[..], &vec![b'x'; 1 << 20]] {
        let page = Page {
            dictionary: Some(plain(&[text])),
            encoding: 8,
            values: repeats as i64,
            ..Page::plain(run.clone(), 0)
        };
        let error = read(&two_columns(repeats as i64, &page)).unwrap_err();
        assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
    }
    // 2^20 times is within the limit of values, but not of bytes.
    let repeats = 1 << 20;
    let mut run = vec![1];
    run.extend(thrift::varint(repeats << 1));
    run.push(0);
    let page = Page {
        dictionary: Some(plain(&[&[b'x'; 10_000]])),
        encoding: 8,
        values: repeats as i64,
        ..Page::plain(run, 0)
    };
    let error = read(&two_columns(repeats as i64, &page)).unwrap_err();
    assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
}

#[test]
fn decompressed_sizes_are_checked() {
    let compressed = zstd::bulk::compress(&vec![0; 255 << 20], 3).unwrap();
    for (size, refused) in [(1 << 30, true), (255 << 20, true), (1 << 20, false)] {
        let page = Page { codec: 6, size: Some(size), values: 1, ..Page::plain(compressed.clone(), 1) };
        let error = read(&two_columns(1, &page)).unwrap_err();
        assert_eq!(matches!(error, DataError::TooLarge { .. }), refused, "{size}: {error}");
    }
}

#[test]
fn columns_may_not_have_more_bytes_than_the_file() {
    let page = Page::plain(plain(&[&[b'x'; 1000]]), 1);
    let bytes = file(&LEAVES.map(Leaf::text), 1, 1000, &page);
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("bytes, more than the file"), "{error}");
}

#[test]
fn wrong_schemas_are_errors() {
    let leaves = LEAVES.map(Leaf::text);
    let page = Page::plain(plain(&[b"a"]), 1);
    let deep: Vec<_> = (0..100_000).map(|_| Leaf { children: 1, ..Leaf::text("g") }).collect();
    let huge = vec![Leaf { children: 1 << 24, ..Leaf::text("g") }; 10];
    let repeated = Leaf { repetition: 2, ..Leaf::text("prompt") };
    let strange = Leaf { repetition: 7, ..Leaf::text("prompt") };
    for schema in [deep, huge, vec![repeated], vec![strange], vec![leaves[0].clone()], vec![]] {
        let error = read(&file(&schema, 1, 1, &page)).unwrap_err();
        assert!(!matches!(error, DataError::Row { .. } | DataError::Io { .. }), "{error}");
    }
}
