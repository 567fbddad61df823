//! Problems from JSON lines and JSON lists, and JSON lines of any type.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use bupo_data::{Columns, DataError, Problem, Prompt, describe, describe_jsonl_bytes, read_jsonl_bytes, read_problems};

fn json(text: &str) -> Result<Vec<Problem>, String> {
    read_jsonl_bytes(text.as_bytes(), &Columns::default(), "f").map_err(|error| error.to_string())
}

#[test]
fn json_numbers_and_booleans_are_answers_as_written() {
    let text = "\u{feff}{\"input\": \"a\", \"target\": 42}\r\n\n  \n{\"target\": 123456789012345678901234567890, \
                \"input\": \"b\"}\n{\"input\": \"c\", \"target\": -0.10}\n{\"input\": \"d\", \"target\": true}";
    let answers: Vec<_> = json(text).unwrap().into_iter().map(|problem| problem.answer).collect();
    assert_eq!(answers, ["42", "123456789012345678901234567890", "-0.10", "true"]);
}

#[test]
fn json_columns_are_found_by_dotted_paths() {
    let text = r#"{"a.b": {"c": {"d": "q"}}, "a": {"b": 7, "source": 1}, "a.b.x": "no"}"#;
    let columns = Columns {
        prompt: Some("a.b.c.d".to_owned()),
        answer: Some("a.b".to_owned()),
        data_source: Some("a.source".to_owned()),
    };
    let error = read_jsonl_bytes(text.as_bytes(), &columns, "f").unwrap_err().to_string();
    assert_eq!(error, "f: line 1: `a.b` must be text, a number or a boolean; correct or delete the line");
    let columns = Columns { answer: Some("a.b.x".to_owned()), ..columns };
    let problems = read_jsonl_bytes(text.as_bytes(), &columns, "f").unwrap();
    let expected =
        Problem { prompt: Prompt::Text("q".to_owned()), answer: "no".to_owned(), data_source: "1".to_owned() };
    assert_eq!(problems, [expected]);
}

#[test]
fn errors_of_json_name_the_line() {
    let good = r#"{"prompt": "p", "answer": "a"}"#;
    for (bad, expected) in [
        (r#"{"prompt": "p", "answer": "a""#, "EOF while parsing an object (column 29)"),
        (r#"{"prompt": "p", "answer": "a"} {}"#, "trailing characters (column 32)"),
        (r#"{"prompt": "p", "answer": NaN}"#, "it has no answer: `answer` is null or missing"),
        (r#"{"prompt": "p", "answer": N}"#, "expected value (column 27)"),
        (r#"{"prompt": "p", "a": Infinity, "answer": x}"#, "expected value (column 42)"),
        (
            r#"{"prompt": Infinity, "answer": "a"}"#,
            "`prompt` must be text or a list of messages, each with a role and a content",
        ),
        ("7", "invalid type: integer `7`, expected a JSON object (column 1)"),
        (r#"{"answer": "a"}"#, "it has no prompt: `prompt` is null or missing"),
        (r#"{"prompt": null, "answer": "a"}"#, "it has no prompt: `prompt` is null or missing"),
        (r#"{"prompt": "p"}"#, "it has no answer: `answer` is null or missing"),
        (r#"{"prompt": "p", "answer": null}"#, "it has no answer: `answer` is null or missing"),
        (r#"{"prompt": "p", "answer": ["a"]}"#, "`answer` must be text, a number or a boolean"),
        (r#"{"prompt": [], "answer": "a"}"#, "it has no prompt: `prompt` is an empty list"),
        (
            r#"{"prompt": 7, "answer": "a"}"#,
            "`prompt` must be text or a list of messages, each with a role and a content",
        ),
        (
            r#"{"prompt": [{"role": "user"}], "answer": "a"}"#,
            "`prompt` is not a list of messages: missing field `content`",
        ),
    ] {
        assert_eq!(
            json(&format!("{good}\n\n{bad}\n")).unwrap_err(),
            format!("f: line 3: {expected}; correct or delete the line")
        );
    }
    let list = format!("[{good},\n{{\"prompt\": \"p\"}}]");
    assert_eq!(
        json(&list).unwrap_err(),
        "f: row 2: it has no answer: `answer` is null or missing; correct or delete the row"
    );
    assert_eq!(
        json(&format!("[{good},\n{good}")).unwrap_err(),
        "f: line 2: EOF while parsing a list (column 30); correct or delete the line"
    );
    assert_eq!(
        json(&format!("[{good}]\n7")).unwrap_err(),
        "f: line 2: trailing characters (column 1); correct or delete the line"
    );
    let error = read_jsonl_bytes(b"{\"prompt\": \"\xff\"}", &Columns::default(), "f").unwrap_err().to_string();
    assert_eq!(error, "f: line 1: byte 13 is not UTF-8; correct or delete the line");
    for empty in ["", "\n\n", "[]", "\u{feff}"] {
        assert_eq!(json(empty).unwrap_err(), "f holds no problems; leave it out", "{empty:?}");
    }
}

#[test]
fn nan_and_infinity_are_read() {
    // As Python's json.dumps writes them.
    let row = r#"{"input": "a", "x": NaN, "y": [Infinity, {"z": -Infinity}], "target": 1}"#;
    for text in [format!("{row}\n{row}\n"), format!("[{row},\n{row}]")] {
        let answers: Vec<_> = json(&text).unwrap().into_iter().map(|problem| problem.answer).collect();
        assert_eq!(answers, ["1", "1"]);
        let columns = describe_jsonl_bytes(text.as_bytes(), "f").unwrap().columns;
        let columns: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
        assert_eq!(columns, [("input", "string"), ("x", "null"), ("y", "list<double>"), ("target", "int")]);
    }
    let text = "{\"input\": \"a\", \"target\": Infinity}\n{\"input\": \"NaN\", \"target\": -Infinity}";
    let problems = json(text).unwrap();
    assert_eq!((problems[0].answer.as_str(), problems[1].answer.as_str()), ("inf", "-inf"));
    assert_eq!(problems[1].prompt, Prompt::Text("NaN".to_owned()));
    let error = json(r#"[{"input": "a", "target": NaN}]"#).unwrap_err();
    assert_eq!(error, "f: row 1: it has no answer: `target` is null or missing; correct or delete the row");
}

/// A file of this name with these bytes, in a folder of its own.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn byte_order_marks_are_skipped_or_errors() {
    let row = r#"{"prompt": "p", "answer": "a"}"#;
    for text in [format!("\u{feff}{row}\n"), format!("\u{feff}[{row}]"), format!("\u{feff}\n\n{row}")] {
        for name in ["f.jsonl", "f.json", "f.txt"] {
            let (_folder, path) = file(name, text.as_bytes());
            assert_eq!(read_problems(std::slice::from_ref(&path), &Columns::default()).unwrap().len(), 1);
            assert_eq!(describe(&path).unwrap().columns[0].name, "prompt");
        }
    }
    let utf16: Vec<u8> = format!("\u{feff}{row}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for name in ["f.jsonl", "f.json", "f.txt"] {
        let (_folder, path) = file(name, &utf16);
        let error = read_problems(&[path], &Columns::default()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{name} is UTF-16 (little endian) text: save it as UTF-8")), "{error}");
    }
    let error = read_jsonl_bytes(&utf16, &Columns::default(), "f").unwrap_err();
    assert!(matches!(error, DataError::Encoding { .. }), "{error}");
}

#[test]
fn git_lfs_pointers_are_errors() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n";
    for name in ["f.parquet", "f.jsonl", "f.json", "f"] {
        let (_folder, path) = file(name, pointer);
        let error = read_problems(std::slice::from_ref(&path), &Columns::default()).unwrap_err().to_string();
        let expected = format!("{name} is a git-lfs pointer, not the data: run `git lfs pull` in its repository");
        assert!(error.ends_with(&expected), "{error}");
        assert!(matches!(describe(&path), Err(DataError::LfsPointer { .. })));
    }
}
