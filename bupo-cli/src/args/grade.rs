//! Options of `bupo grade`.

use std::path::PathBuf;

use bupo_grade::Rule;
use clap::Args;

#[derive(Debug, Args)]
pub struct GradeArgs {
    /// Grading rule: strict, equivalent, exact, numeric or command:PROGRAM
    #[arg(long)]
    pub rule: Rule,
    /// Lines of {"response": "...", "answer": "..."}
    #[arg(long, value_name = "FILE.jsonl")]
    pub input: PathBuf,
    /// Output file: the input's lines in order, each with score and extracted added, and failure if the scorer failed
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: PathBuf,
    /// Overwrite an existing output file
    #[arg(long)]
    pub force: bool,
}
