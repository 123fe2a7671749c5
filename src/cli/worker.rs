//! `onstage worker`: what `onstage serve` starts for a model with `isolation = "process"`. Not for people.

use clap::Args;

use super::{Failure, serve};
use crate::app::{self, WorkerSettings};

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// What the server tells of its configuration, as JSON
    #[arg(long, value_name = "JSON")]
    settings: String,
}

pub(super) fn run(args: &WorkerArgs) -> Result<(), Failure> {
    let settings: WorkerSettings = serde_json::from_str(&args.settings)
        .map_err(|error| Failure::usage(format!("invalid value for `--settings`: {error}")))?;
    let _log = serve::start_log(&settings.telemetry)?;
    Ok(app::work(&settings)?)
}
