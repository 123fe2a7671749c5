//! `onstage health`: an exit code for container health checks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::remote::{self, Remote, Way};
use super::{Console, Failure};
use crate::config::{self, Inputs};

/// Health checks have to be quick: an answer that comes later is none.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// URL of the server, with its base path [default: from the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Check only that the process answers, not that its models are ready
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    way: Way,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(
    args: HealthArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let loaded = config::load(&Inputs {
        file: args.config,
        environment,
        flags: Vec::new(),
    })?;
    let remote = Remote::probe(args.url.as_deref(), &loaded.settings, &args.way)?;
    let (path, word) = if args.live {
        ("/v2/health/live", "live")
    } else {
        ("/v2/health/ready", "ready")
    };
    let status = remote::block_on(remote.status(path, TIMEOUT))?;
    if status.is_success() {
        return console.print(&format!("{word}\n"));
    }
    let (address, status) = (remote.shown(), status.as_u16());
    Err(Failure::failed(format!(
        "`{address}` is not {word}: `{path}` answers with status {status}"
    )))
}
