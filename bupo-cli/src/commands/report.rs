//! `bupo report`

use std::path::{Path, PathBuf};

use bupo_report::{Run, run_report};

use super::{check_writable, write_pictures};
use crate::args::ReportArgs;
use crate::error::CliError;
use bupo_runs::write_atomically;

/// The page in a run's folder.
const PAGE: &str = "report.html";

pub fn run(args: ReportArgs) -> Result<(), CliError> {
    let runs = args.runs.iter().map(|folder| Ok(Run::read(folder)?)).collect::<Result<Vec<_>, CliError>>()?;
    let out = args.out.clone().unwrap_or_else(|| match &args.runs[..] {
        [only] => only.join(PAGE),
        _ => PathBuf::from(PAGE),
    });
    // The page of one run in its own folder is bupo's own and is made anew.
    let own = args.out.is_none() && args.runs.len() == 1;
    if out.exists() && !args.force && !own {
        return Err(CliError::Message(format!(
            "{} exists; choose another --out, or write over it with --force",
            out.display()
        )));
    }
    check_writable(&out)?;
    let report = run_report(&runs);
    write_atomically(&out, report.html()?.as_bytes())?;
    outln!("wrote {}", out.display());
    if let Some(folder) = &args.pictures {
        write_pictures(&report, folder)?;
        outln!("wrote pictures into {}", folder.display());
    }
    Ok(())
}

/// Makes the page of a run in its folder.
pub fn write_page(folder: &Path) -> Result<PathBuf, CliError> {
    let page = folder.join(PAGE);
    write_atomically(&page, run_report(&[Run::read(folder)?]).html()?.as_bytes())?;
    Ok(page)
}
