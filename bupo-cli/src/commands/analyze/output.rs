//! What an analysis leaves in its folder.

use std::fs;
use std::path::{Path, PathBuf};

use bupo_analysis::{Analysis, summary, write_csv, write_parquet};
use bupo_models::TextTokenizer;
use bupo_report::Report;
use bupo_rl::{JsonLines, RecordedResponse, make_empty_folder};
use serde_json::json;

use super::folder;
use crate::commands::{write_pictures, write_whole};
use crate::error::CliError;

const COMPLETIONS: &str = "completions.jsonl";

pub struct Output {
    folder: PathBuf,
    completions: JsonLines,
}

impl Output {
    /// Makes the folder. One that holds anything is left alone, or with `force` loses the files of an earlier analysis.
    pub fn open(out: Option<&Path>, force: bool) -> Result<Self, CliError> {
        let folder = folder(out);
        if force {
            fs::create_dir_all(&folder).map_err(CliError::io("create", &folder))?;
            let earlier = folder.join(COMPLETIONS);
            if earlier.is_file() {
                fs::remove_file(&earlier).map_err(CliError::io("write", &earlier))?;
            }
        } else {
            make_empty_folder(&folder).map_err(|error| match error {
                bupo_rl::RlError::FolderExists(path) => CliError::Message(format!(
                    "{} exists and is not empty; choose another --out, or write over an earlier analysis with --force",
                    path.display()
                )),
                other => other.into(),
            })?;
        }
        let completions = JsonLines::create(&folder.join(COMPLETIONS))?;
        Ok(Self { folder, completions })
    }

    /// Keeps a response, so that it can be analysed again as it is.
    pub fn completion(
        &mut self,
        model: &str,
        response: &RecordedResponse,
        tokenizer: Option<&TextTokenizer>,
    ) -> Result<(), CliError> {
        let text = |ids: &[u32]| tokenizer.map_or(Ok(String::new()), |tokenizer| tokenizer.decode(ids));
        let sequence = &response.sequence;
        Ok(self.completions.append(&json!({
            "model": model,
            "prompt": text(&sequence.prompt)?,
            "response": text(&sequence.response)?,
            "score": response.score,
            "prompt_tokens": sequence.prompt,
            "response_tokens": sequence.response,
        }))?)
    }

    /// Writes numbers, pictures and the page, and says where they are.
    pub fn write(&self, analyses: &[Analysis], report: &Report, complete: bool) -> Result<(), CliError> {
        let place = |name: &str| self.folder.join(name);
        // What says most comes first, in case the disk fills.
        write_whole(&place("summary.json"), format!("{:#}\n", summary(analyses, complete)).as_bytes())?;
        write_whole(&place("report.html"), report.html()?.as_bytes())?;
        let mut csv = Vec::new();
        write_csv(analyses, &mut csv)?;
        write_whole(&place("measures.csv"), &csv)?;
        let mut parquet = Vec::new();
        write_parquet(analyses, &mut parquet)?;
        write_whole(&place("measures.parquet"), &parquet)?;
        write_pictures(report, &place("pictures"))?;
        say!();
        if !complete {
            say!("stopped early: this is of the responses measured so far");
        }
        for (name, file) in [
            ("page", "report.html"),
            ("pictures", "pictures"),
            ("numbers", "measures.csv"),
            ("", "measures.parquet"),
            ("summary", "summary.json"),
            ("responses", COMPLETIONS),
        ] {
            say!("{name:<12} {}", place(file).display());
        }
        Ok(())
    }
}
