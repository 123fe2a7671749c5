//! `onstage log export`: the log in the form of another platform.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{access, settings};
use crate::cli::remote::block_on;
use crate::cli::{Console, Failure};
use crate::payload::{ExportForm, LogFiles, export};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// File or folder of the log, or its URI in an object store
    #[arg(value_name = "LOG")]
    log: String,
    /// Form of the lines: databricks (inference tables), sagemaker (data capture) or cloudevents (KServe's logger)
    #[arg(long = "as", value_name = "FORM")]
    form: ExportForm,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(
    args: &ExportArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let settings = settings(args.config.as_ref(), environment)?;
    let access = access(&settings, environment)?;
    let left_out = block_on(async {
        let files = LogFiles::open(&args.log, &access).await?;
        let mut left_out = 0;
        for path in files.paths() {
            let exported = export(&files.read(path).await?, args.form)?;
            left_out += exported.left_out;
            let lines = exported.lines.iter().map(|line| format!("{line}\n"));
            console.print(&lines.collect::<String>())?;
        }
        Ok(left_out)
    })?;
    if left_out > 0 {
        console.note(&format!(
            "{left_out} failed requests are left out: they have neither inputs nor an answer"
        ));
    }
    Ok(())
}
