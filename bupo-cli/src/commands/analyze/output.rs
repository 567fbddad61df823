//! The files of an analysis.

use std::fs;
use std::path::{Path, PathBuf};

use bupo_analysis::{Analysis, summary, write_csv, write_parquet};
use bupo_models::ScoredSequence;
use bupo_models::TextTokenizer;
use bupo_report::Report;
use bupo_rl::make_empty_folder;
use bupo_runs::{JsonLinesWriter, write_atomically};
use serde_json::json;

use crate::error::CliError;
use crate::files::{free_folder, write_pictures};

const COMPLETIONS: &str = "completions.jsonl";
/// The name of the completions until the analysis is written. Until then, the files of an earlier analysis stay.
const UNFINISHED: &str = "completions.jsonl.new";
const SUMMARY: &str = "summary.json";
const PICTURES: &str = "pictures";

pub struct Output {
    folder: PathBuf,
    completions: JsonLinesWriter,
}

impl Output {
    /// Creates the folder.
    ///
    /// # Errors
    /// If the folder is not empty and `force` is not set, or if it has completions that are not of an analysis.
    pub fn open(out: Option<&Path>, force: bool) -> Result<Self, CliError> {
        let folder = out.map_or_else(|| free_folder("analysis"), Path::to_path_buf);
        if force {
            fs::create_dir_all(&folder).map_err(CliError::io("create", &folder))?;
            if !folder.join(SUMMARY).is_file() && folder.join(COMPLETIONS).exists() {
                return Err(CliError::Message(format!(
                    "{} has a {COMPLETIONS} that is not of an analysis; choose another --out",
                    folder.display()
                )));
            }
        } else {
            make_empty_folder(&folder).map_err(|error| match error {
                bupo_rl::RlError::FolderExists(path) => CliError::Message(format!(
                    "{} exists and is not empty; choose another --out, or overwrite an earlier analysis with --force",
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

    /// Removes the folder if nothing was measured. Responses that were sampled stay in the unfinished file.
    pub fn abandon(self) {
        let unfinished = self.folder.join(UNFINISHED);
        if fs::metadata(&unfinished).is_ok_and(|file| file.len() == 0) {
            fs::remove_file(&unfinished).ok();
        }
        // Removes only an empty folder.
        fs::remove_dir(&self.folder).ok();
    }

    /// Records a response, so that `--completions` can analyze the same tokens again.
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

    /// Writes tables, charts and the page, and prints their paths.
    pub fn write(&self, analyses: &[Analysis], report: &Report, complete: bool) -> Result<(), CliError> {
        let place = |name: &str| self.folder.join(name);
        fs::rename(place(UNFINISHED), place(COMPLETIONS)).map_err(CliError::io("write", &place(COMPLETIONS)))?;
        // The summary and the page come first, in case the disk fills up.
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
            outln!("stopped early: the results are of the responses measured so far");
        }
        for (name, file) in [
            ("report", "report.html"),
            ("charts", PICTURES),
            ("measures", "measures.csv"),
            ("", "measures.parquet"),
            ("summary", SUMMARY),
            ("responses", COMPLETIONS),
        ] {
            outln!("{name:<12} {}", place(file).display());
        }
        Ok(())
    }
}

/// Removes the charts of an earlier analysis, which may have other names.
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
