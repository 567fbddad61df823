//! Data files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Problems in the verl layout.
pub fn verl() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bupo-data/tests/fixtures/verl_snappy.parquet")
}

pub fn write_lines(path: &Path, lines: &[Value]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

pub fn arithmetic(path: &Path, count: usize) {
    let line =
        |i: usize| json!({"question": format!("{i}+{i}="), "answer": 2 * i, "data_source": format!("s{}", i % 2)});
    write_lines(path, &(1..=count).map(line).collect::<Vec<_>>());
}
