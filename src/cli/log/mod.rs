//! `onstage log`: the payload log after it was written.

mod delete;
mod export;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use tokio::runtime::Runtime;

use super::{Console, Failure};
use crate::config::{self, Inputs, Settings};
use crate::network;
use crate::payload::{LogFile, LogFiles, PayloadError};
use crate::registry::{Environment, ObjectAccess};
use crate::scoring::replay::ReplayError;

/// Export from the payload log, or delete from it
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print the log in the form of another platform, one JSON object per line
    Export(export::ExportArgs),
    /// Delete the rows of one request, or of one value of a column
    Delete(delete::DeleteArgs),
}

pub(super) fn run(
    args: &LogArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    match &args.command {
        LogCommand::Export(args) => export::run(args, environment, console),
        LogCommand::Delete(args) => delete::run(args, environment, console),
    }
}

/// The settings of a file, if one is named, and of the environment.
pub(super) fn settings(
    file: Option<&PathBuf>,
    environment: &[(OsString, OsString)],
) -> Result<Settings, Failure> {
    let inputs = Inputs {
        file: file.cloned(),
        environment: environment.to_vec(),
        flags: Vec::new(),
    };
    Ok(config::load(&inputs)?.settings)
}

/// How object stores are reached.
pub(super) fn access(
    settings: &Settings,
    environment: &[(OsString, OsString)],
) -> Result<ObjectAccess, Failure> {
    let variables = Arc::new(Environment::new(environment));
    let client = network::client(&settings.network.config());
    let client = client.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(ObjectAccess::new(client, variables))
}

/// A log that another command reads.
pub(super) struct Logged {
    files: LogFiles,
    /// Connections to a store live as long as it.
    runtime: Runtime,
}

impl Logged {
    /// The log at a path or URI; `None` when it is something else: standard input, or a file that is none of a log.
    pub(super) fn find(
        input: &Path,
        settings: &Settings,
        environment: &[(OsString, OsString)],
    ) -> Result<Option<Self>, Failure> {
        let place = input.to_string_lossy();
        let is_parquet = input
            .extension()
            .is_some_and(|extension| extension == "parquet");
        if !(place.contains("://") || input.is_dir() || is_parquet) {
            return Ok(None);
        }
        let access = access(settings, environment)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|error| Failure::failed(format!("cannot start the network: {error}")))?;
        let files: Result<Option<LogFiles>, PayloadError> = runtime.block_on(async {
            let files = LogFiles::open(&place, &access).await?;
            if !input.is_file() {
                return Ok(Some(files));
            }
            let file = match files.paths() {
                [path] => files.read(path).await.ok(),
                _ => None,
            };
            // A table that somebody wants predictions for is no log.
            let is_log = file.is_some_and(|file| file.column("_request_id").is_ok());
            Ok(is_log.then_some(files))
        });
        Ok(files?.map(|files| Self { files, runtime }))
    }

    /// Hands out its files, one after the other.
    pub(super) fn each(
        &self,
        mut work: impl FnMut(&LogFile) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for path in self.files.paths() {
            // Outside of the runtime: the work has one of its own.
            let file = self.runtime.block_on(self.files.read(path))?;
            work(&file)?;
        }
        Ok(())
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        Self::failed(error.to_string())
    }
}
