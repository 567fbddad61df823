//! Any bytes as JSON lines or one JSON list are problems or an error.
#![no_main]

use bupo_data::{Columns, describe_jsonl_bytes, read_jsonl_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = describe_jsonl_bytes(data, "fuzz");
    let _ = read_jsonl_bytes(data, &Columns::default(), "fuzz");
});
