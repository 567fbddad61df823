//! Reads problems from Parquet and JSON files, and renders them as prompts with chat templates.

pub mod chat;
mod error;
mod message;
mod problems;
mod read;

pub use error::DataError;
pub use message::Message;
pub use problems::{Epochs, Problem, Prompt, split_validation};
pub use read::{
    Column, Columns, Description, Format, MAX_TOTAL, MAX_VALUE, describe, describe_jsonl_bytes, describe_parquet_bytes,
    read_jsonl_bytes, read_parquet_bytes, read_problems,
};
