//! Parquet files of every type and encoding, which `fixtures/make_fixtures.py` writes with pyarrow.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bupo_data::{Columns, Message, Prompt, describe, read_parquet_bytes, read_problems};

/// The same rows, with dictionaries, with byte-stream-split and delta encodings, and with other delta encodings.
const FILES: [&str; 3] = ["types.parquet", "types_split.parquet", "types_delta.parquet"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn answer(column: &str) -> Columns {
    Columns { answer: Some(column.to_owned()), ..Columns::default() }
}

#[test]
fn answers_are_read_in_every_encoding() {
    let nines = format!("{}.999", "9".repeat(73));
    let columns = [
        ("text", ["alpha", "alphabet", "alphabetic"]),
        ("category", ["x", "y", "x"]),
        ("int32", ["-1", "2147483647", "-2147483648"]),
        ("int64", ["9007199254740993", "-9223372036854775808", "0"]),
        ("float", ["0.1", "42", "-1.5"]),
        ("double", ["0.1", "1e300", "-0.0625"]),
        ("half", ["0.1", "-2", "65504"]),
        ("decimal", ["-0.05", "12.50", "0.00"]),
        ("wide_decimal", [nines.as_str(), "-0.001", "1.000"]),
    ];
    for file in FILES {
        for (column, expected) in columns {
            let problems = read_problems(&[fixture(file)], &answer(column)).unwrap();
            let answers: Vec<_> = problems.iter().map(|problem| problem.answer.as_str()).collect();
            assert_eq!(answers, expected, "{file} {column}");
            for (row, problem) in problems.iter().enumerate() {
                let Prompt::Chat(messages) = &problem.prompt else { panic!("{file}: {problem:?}") };
                let user = Message { role: "user".to_owned(), content: format!("q{row}") };
                assert_eq!((messages.len(), &messages[1]), (2, &user), "{file} {column}");
            }
        }
    }
}

#[test]
fn every_type_has_a_name() {
    let expected = [
        ("prompt", "list<struct<content: string, role: string>>"),
        ("text", "string"),
        ("category", "string"),
        ("int32", "int32"),
        ("int64", "int64"),
        ("float", "float"),
        ("double", "double"),
        ("half", "float16"),
        ("decimal", "decimal"),
        ("wide_decimal", "decimal"),
        ("identifier", "uuid"),
        ("fixed", "binary"),
        ("time", "time"),
        ("when", "timestamp"),
        ("lists", "list<list<int32>>"),
        ("map", "map"),
        ("structs", "list<struct<a: list<string>, b: int8>>"),
    ];
    for file in FILES {
        let columns = describe(&fixture(file)).unwrap().columns;
        let columns: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
        assert_eq!(columns, expected, "{file}");
    }
}

#[test]
fn other_types_are_no_answers() {
    for file in FILES {
        for column in ["identifier", "fixed", "time", "when", "lists", "map", "structs"] {
            let error = read_problems(&[fixture(file)], &answer(column)).unwrap_err().to_string();
            assert!(error.contains("but the answer must be text, a number or a boolean"), "{file} {column}: {error}");
        }
    }
}

#[test]
fn checksums_are_compared() {
    let mut bytes = std::fs::read(fixture("verl_checksums.parquet")).unwrap();
    assert_eq!(read_parquet_bytes(&bytes, &Columns::default(), "f").unwrap().len(), 5);
    let place = bytes.windows(7).position(|window| window == b"hundred").unwrap();
    bytes[place] = b'H';
    let error = read_parquet_bytes(&bytes, &Columns::default(), "f").unwrap_err().to_string();
    let expected = "f is a damaged Parquet file: column `prompt.list.element.content`: Page CRC checksum mismatch; \
                    fetch or write it again";
    assert_eq!(error, expected);
}
