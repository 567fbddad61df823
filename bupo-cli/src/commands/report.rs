//! `bupo report`

use std::path::{Path, PathBuf};

use bupo_report::{Run, run_report};
use bupo_runs::write_atomically;

use crate::args::ReportArgs;
use crate::error::CliError;
use crate::files::{check_overwrite, check_run, check_writable, write_pictures};

/// The page's name in a run's folder.
const PAGE: &str = "report.html";

pub fn run(args: &ReportArgs) -> Result<(), CliError> {
    args.runs.iter().try_for_each(|run| check_run(run))?;
    let runs = args.runs.iter().map(|folder| Ok(Run::read(folder)?)).collect::<Result<Vec<_>, CliError>>()?;
    let out = args.out.clone().unwrap_or_else(|| match &args.runs[..] {
        [only] => only.join(PAGE),
        _ => PathBuf::from(PAGE),
    });
    // The page in the run's own folder was written by bupo and is replaced.
    let own = args.out.is_none() && args.runs.len() == 1;
    check_overwrite(&out, args.force || own)?;
    check_writable(&out)?;
    let report = run_report(&runs);
    write_atomically(&out, report.html()?.as_bytes())?;
    outln!("wrote {}", out.display());
    if let Some(folder) = &args.pictures {
        write_pictures(&report, folder)?;
        outln!("wrote the charts into {}", folder.display());
    }
    Ok(())
}

/// Writes the page of a run into its folder.
///
/// # Errors
/// If the run's files cannot be read or the page cannot be written.
pub fn write_page(folder: &Path) -> Result<PathBuf, CliError> {
    let page = folder.join(PAGE);
    write_atomically(&page, run_report(&[Run::read(folder)?]).html()?.as_bytes())?;
    Ok(page)
}
