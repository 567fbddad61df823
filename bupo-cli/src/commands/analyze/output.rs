//! What an analysis leaves in its folder.

use std::fs;
use std::path::{Path, PathBuf};

use bupo_analysis::{Analysis, summary, write_csv, write_parquet};
use bupo_models::ScoredSequence;
use bupo_models::TextTokenizer;
use bupo_report::Report;
use bupo_rl::make_empty_folder;
use bupo_runs::{JsonLinesWriter, write_atomically};
use serde_json::json;

use crate::commands::{free_folder, write_pictures};
use crate::error::CliError;

const COMPLETIONS: &str = "completions.jsonl";
/// Its name until the analysis is written, so that an earlier one stays until then.
const UNFINISHED: &str = "completions.jsonl.new";
const SUMMARY: &str = "summary.json";
const PICTURES: &str = "pictures";

pub struct Output {
    folder: PathBuf,
    completions: JsonLinesWriter,
}

impl Output {
    /// Makes the folder. One that holds anything is left alone, unless `force` is given and it holds an earlier analysis or none
    /// of its files.
    pub fn open(out: Option<&Path>, force: bool) -> Result<Self, CliError> {
        let folder = out.map_or_else(|| free_folder("analysis"), Path::to_path_buf);
        if force {
            fs::create_dir_all(&folder).map_err(CliError::io("create", &folder))?;
            if !folder.join(SUMMARY).is_file() && folder.join(COMPLETIONS).exists() {
                return Err(CliError::Message(format!(
                    "{} holds {COMPLETIONS}, but not of an analysis; choose another --out",
                    folder.display()
                )));
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
        let unfinished = folder.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_file(&unfinished).map_err(CliError::io("write", &unfinished))?;
        }
        Ok(Self { completions: JsonLinesWriter::create(&unfinished)?, folder })
    }

    /// Leaves nothing behind where nothing was measured; responses that were stay, under the unfinished file's name.
    pub fn abandon(self) {
        let unfinished = self.folder.join(UNFINISHED);
        if fs::metadata(&unfinished).is_ok_and(|file| file.len() == 0) {
            fs::remove_file(&unfinished).ok();
        }
        // Only an empty folder goes.
        fs::remove_dir(&self.folder).ok();
    }

    /// Keeps a response, so that it can be analysed again as it is.
    pub fn completion(
        &mut self,
        model: &str,
        response: &ScoredSequence,
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
        fs::rename(place(UNFINISHED), place(COMPLETIONS)).map_err(CliError::io("write", &place(COMPLETIONS)))?;
        // What says most comes first, in case the disk fills.
        write_atomically(&place(SUMMARY), format!("{:#}\n", summary(analyses, complete)).as_bytes())?;
        write_atomically(&place("report.html"), report.html()?.as_bytes())?;
        let mut csv = Vec::new();
        write_csv(analyses, &mut csv)?;
        write_atomically(&place("measures.csv"), &csv)?;
        let mut parquet = Vec::new();
        write_parquet(analyses, &mut parquet)?;
        write_atomically(&place("measures.parquet"), &parquet)?;
        remove_pictures(&place(PICTURES))?;
        write_pictures(report, &place(PICTURES))?;
        outln!();
        if !complete {
            outln!("stopped early: this is of the responses measured so far");
        }
        for (name, file) in [
            ("page", "report.html"),
            ("pictures", PICTURES),
            ("numbers", "measures.csv"),
            ("", "measures.parquet"),
            ("summary", SUMMARY),
            ("responses", COMPLETIONS),
        ] {
            outln!("{name:<12} {}", place(file).display());
        }
        Ok(())
    }
}

/// Those of an earlier analysis, of which this one may not have all.
fn remove_pictures(folder: &Path) -> Result<(), CliError> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(CliError::io("read", folder))? {
        let path = entry.map_err(CliError::io("read", folder))?.path();
        if path.extension().is_some_and(|ending| ending == "svg" || ending == "png") {
            fs::remove_file(&path).map_err(CliError::io("write", &path))?;
        }
    }
    Ok(())
}
