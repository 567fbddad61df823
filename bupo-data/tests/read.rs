//! Problems read from the files in `tests/fixtures`, which `make_fixtures.py` there writes.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bupo_data::{Columns, Format, Message, Problem, Prompt, describe, read_parquet_bytes, read_problems};

const SYSTEM: &str = "Reason step by step and box the answer.";
const PROBLEMS: [(&str, &str); 5] = [
    ("What is $2 + 3$?", "5"),
    ("Half of one hundred?", "50"),
    ("Name the larger root of $x^2 = 4$.", "2"),
    ("Écris π à deux décimales.", "3.14"),
    (r"What is $\frac{1}{2} + \frac{1}{4}$?", r"\frac{3}{4}"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(name: &str) -> Vec<Problem> {
    read_problems(&[fixture(name)], &Columns::default()).unwrap()
}

fn error(name: &str, columns: &Columns) -> String {
    let path = fixture(name);
    let error = read_problems(std::slice::from_ref(&path), columns).unwrap_err().to_string();
    error.replace(&path.display().to_string(), name)
}

fn answers(name: &str, column: &str) -> Vec<String> {
    let columns = Columns { answer: Some(column.to_owned()), ..Columns::default() };
    read_problems(&[fixture(name)], &columns).unwrap().into_iter().map(|problem| problem.answer).collect()
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

/// The rows of the fixtures in the layout of verl.
fn verl(rows: usize) -> Vec<Problem> {
    (0..rows)
        .map(|row| {
            let (question, answer) = PROBLEMS[row % PROBLEMS.len()];
            Problem {
                prompt: Prompt::Chat(vec![message("system", SYSTEM), message("user", question)]),
                answer: answer.to_owned(),
                data_source: if row % 2 == 0 { "sums" } else { "roots" }.to_owned(),
            }
        })
        .collect()
}

#[test]
fn verl_files_are_read_whatever_their_compression() {
    for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"] {
        assert_eq!(read(&format!("verl_{codec}.parquet")), verl(5), "{codec}");
    }
}

#[test]
fn verl_files_are_read_whatever_their_pages() {
    for pages in ["groups", "v2", "delta"] {
        assert_eq!(read(&format!("verl_{pages}.parquet")), verl(40), "{pages}");
    }
}

#[test]
fn verl_rows_are_read_from_json() {
    assert_eq!(read("verl.jsonl"), verl(5));
    assert_eq!(read("verl.json"), verl(5));
}

#[test]
fn text_prompts_are_read() {
    let problem = |(prompt, answer): (&str, String)| Problem {
        prompt: Prompt::Text(prompt.to_owned()),
        answer,
        data_source: String::new(),
    };
    let expected: Vec<_> = PROBLEMS.map(|(prompt, answer)| problem((prompt, answer.to_owned()))).into();
    assert_eq!(read("problems.jsonl"), expected);
    // The answers are integers that doubles cannot represent.
    let numbers = (0..).map(|row| (9_007_199_254_740_993_i64 + row).to_string());
    let expected: Vec<_> = PROBLEMS.iter().map(|(prompt, _)| *prompt).zip(numbers).map(problem).collect();
    assert_eq!(read("plain.parquet"), expected);
    assert_eq!(read("required.parquet"), [problem(("1 + 1?", "2".to_owned()))]);
}

#[test]
fn lists_of_several_lengths_stay_in_their_rows() {
    let error_of_empty = error("lengths.parquet", &Columns::default());
    assert_eq!(
        error_of_empty,
        "lengths.parquet: row 3: it has no prompt: its list of messages is null or empty; correct or delete the row"
    );
    let bytes = std::fs::read(fixture("full_lengths.parquet")).unwrap();
    let problems = read_parquet_bytes(&bytes, &Columns::default(), "full_lengths").unwrap();
    let expected: Vec<_> = [1, 4, 2, 3]
        .map(|length| Problem {
            prompt: Prompt::Chat((0..length).map(|turn| message("user", &format!("turn {turn}"))).collect()),
            answer: length.to_string(),
            data_source: String::new(),
        })
        .into();
    assert_eq!(problems, expected);
}

#[test]
fn answers_of_every_type_keep_their_value() {
    let kinds = [
        ("text", ["a", "b"]),
        ("large", ["c", "d"]),
        ("flag", ["true", "false"]),
        ("int8", ["-5", "7"]),
        ("int32", ["-2147483648", "2147483647"]),
        ("uint32", ["4294967295", "0"]),
        ("uint64", ["18446744073709551615", "1"]),
        ("float", ["0.1", "42"]),
        ("double", ["42", "1e300"]),
        ("decimal", ["-0.05", "1234567890123456789012345678.90"]),
        ("small_decimal", ["12.5", "-3.0"]),
        ("deep.a.b.c", ["x", "y"]),
    ];
    for file in ["kinds.parquet", "kinds_v2.parquet"] {
        for (column, expected) in kinds {
            assert_eq!(answers(file, column), expected, "{file} {column}");
        }
    }
}

#[test]
fn columns_of_other_types_are_no_answers() {
    let answer =
        |column: &str| error("kinds.parquet", &Columns { answer: Some(column.to_owned()), ..Columns::default() });
    for (column, found) in [
        ("when", "timestamp"),
        ("day", "date"),
        ("numbers", "list<int64>"),
        ("pairs", "map"),
        ("deep", "struct<a: struct<b.c: string>>"),
    ] {
        let expected = format!(
            "column `{column}` of kinds.parquet is {found}, but the answer must be text, a number or a boolean; \
             name another column by data.answer_column or --answer-column"
        );
        assert_eq!(answer(column), expected);
    }
    assert_eq!(answer("nothing"), "kinds.parquet: row 1: it has no answer; correct or delete the row");
    assert_eq!(answer("bytes"), "kinds.parquet: row 2: a value is not UTF-8; correct or delete the row");
    let prompt = Columns { prompt: Some("int8".to_owned()), answer: Some("text".to_owned()), data_source: None };
    assert!(error("kinds.parquet", &prompt).contains("is int8, but the prompt must be text or a list of messages"));
}

#[test]
fn errors_of_missing_values_name_the_row() {
    for (file, expected) in [
        ("null_prompt.parquet", "row 2: it has no prompt"),
        ("null_answer.parquet", "row 3: it has no answer"),
        ("null_list.parquet", "row 2: it has no prompt: its list of messages is null or empty"),
        ("null_content.parquet", "row 1: message 1 of its prompt has no role or no content"),
        ("null_struct.parquet", "row 2: it has no answer"),
    ] {
        assert_eq!(error(file, &Columns::default()), format!("{file}: {expected}; correct or delete the row"));
    }
    let sources: Vec<_> = read("null_source.parquet").into_iter().map(|problem| problem.data_source).collect();
    assert_eq!(sources, ["sums", ""]);
    assert_eq!(error("empty.parquet", &Columns::default()), "empty.parquet holds no problems; leave it out");
}

#[test]
fn errors_of_missing_columns_list_the_columns() {
    let columns = Columns { answer: Some("reward_model.truth".to_owned()), ..Columns::default() };
    let expected = "has no column `reward_model.truth` for the answer; it has `data_source`, `prompt`, `ability`, \
                    `reward_model.ground_truth`, `reward_model.style`, `extra_info.index`, `extra_info.split`: name one of them by data.answer_column or --answer-column";
    assert_eq!(error("verl_snappy.parquet", &columns), format!("verl_snappy.parquet {expected}"));
    let columns = Columns { prompt: Some("question".to_owned()), ..Columns::default() };
    let expected = "problems.jsonl has no column `question` for the prompt; it has `problem`, `answer`: name one of them by \
                    data.prompt_column or --prompt-column";
    assert_eq!(error("problems.jsonl", &columns), expected);
}

#[test]
fn several_files_are_read_in_their_order() {
    let paths = [fixture("verl_zstd.parquet"), fixture("problems.jsonl"), fixture("verl.json")];
    let problems = read_problems(&paths, &Columns::default()).unwrap();
    let expected: Vec<_> = [verl(5), read("problems.jsonl"), verl(5)].concat();
    assert_eq!(problems, expected);
    assert_eq!(read_problems(&[], &Columns::default()).unwrap(), []);
}

#[test]
fn files_are_described() {
    let described = describe(&fixture("verl_groups.parquet")).unwrap();
    assert_eq!((described.format, described.rows), (Format::Parquet, 40));
    let columns: Vec<_> = described.columns.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
    let expected = [
        ("data_source", "string"),
        ("prompt", "list<struct<content: string, role: string>>"),
        ("ability", "string"),
        ("reward_model.ground_truth", "string"),
        ("reward_model.style", "string"),
        ("extra_info.index", "int64"),
        ("extra_info.split", "null"),
    ];
    assert_eq!(columns, expected);

    let described = describe(&fixture("kinds.parquet")).unwrap();
    let kinds: Vec<_> = described.columns.iter().map(|column| column.kind.as_str()).collect();
    let expected = [
        "string",
        "string",
        "string",
        "bool",
        "int8",
        "int32",
        "uint32",
        "uint64",
        "float",
        "double",
        "decimal",
        "decimal",
        "timestamp",
        "date",
        "list<int64>",
        "map",
        "binary",
        "null",
        "string",
    ];
    assert_eq!(kinds, expected);

    let described = describe(&fixture("verl.jsonl")).unwrap();
    assert_eq!((described.format, described.rows, described.columns.len()), (Format::JsonLines, 5, 7));
    assert_eq!(described.columns[1].kind, "list<struct>");
    assert_eq!(describe(&fixture("verl.json")).unwrap(), bupo_data::Description { format: Format::Json, ..described });
}

#[test]
fn formats_are_determined_by_the_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let path = folder.path().join(to);
        std::fs::copy(fixture(from), &path).unwrap();
        read_problems(&[path], &Columns::default())
    };
    assert_eq!(copy("verl_gzip.parquet", "train").unwrap(), verl(5));
    assert_eq!(copy("verl_gzip.parquet", "train.json").unwrap(), verl(5));
    assert_eq!(copy("verl.jsonl", "train.txt").unwrap(), verl(5));
    let error = copy("verl.jsonl", "train.parquet").unwrap_err().to_string();
    assert!(
        error.ends_with("is a damaged Parquet file: it does not begin with PAR1; fetch or write it again"),
        "{error}"
    );
    let error = copy("make_fixtures.py", "train.csv").unwrap_err().to_string();
    assert!(error.ends_with("is neither Parquet nor JSON: give a .parquet, .jsonl or .json file"), "{error}");
    let error = read_problems(&[folder.path().join("none.parquet")], &Columns::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read "), "{error}");
}
