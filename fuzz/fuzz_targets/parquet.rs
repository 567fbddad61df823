//! Any bytes as a Parquet file are problems or an error.
#![no_main]

use bupo_data::{Columns, describe_parquet_bytes, read_parquet_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = describe_parquet_bytes(data, "fuzz");
    let _ = read_parquet_bytes(data, &Columns::default(), "fuzz");
});
