//! `onstage log delete`: what somebody may ask to be forgotten.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{access, settings};
use crate::app;
use crate::cli::remote::block_on;
use crate::cli::{Console, Failure};
use crate::config::Settings;
use crate::payload::{Doomed, Sink, delete};
use crate::registry::{Environment, ObjectAccess};

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Place of a log or of labels [default: `payload_log.uri` and `feedback.uri`]
    #[arg(value_name = "PLACE")]
    places: Vec<String>,
    /// Delete the rows and labels of this request
    #[arg(long, value_name = "ID", required_unless_present = "column")]
    request_id: Option<String>,
    /// Delete the rows and labels of all requests with `--value` in this column
    #[arg(
        long,
        value_name = "NAME",
        requires = "value",
        conflicts_with = "request_id"
    )]
    column: Option<String>,
    /// The value to look for; of a hashed column the text before it was hashed
    #[arg(long, value_name = "TEXT", requires = "column")]
    value: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(
    args: &DeleteArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let settings = settings(args.config.as_ref(), environment)?;
    let places = places(args, &settings, &access(&settings, environment)?)?;
    let doomed = doomed(args, &settings)?;
    let variables = Environment::new(environment);
    let cache = app::cache_directory(&settings, &variables);
    let deleted = block_on(async { Ok(delete(&places, cache.as_deref(), &doomed).await?) })?;
    console.print(&format!(
        "deleted {} rows from {} files\n",
        deleted.rows, deleted.files
    ))
}

fn places(
    args: &DeleteArgs,
    settings: &Settings,
    access: &ObjectAccess,
) -> Result<Vec<Sink>, Failure> {
    let configured = [&settings.payload_log.uri, &settings.feedback.uri];
    let mut uris: Vec<&String> = args.places.iter().collect();
    if uris.is_empty() {
        uris.extend(configured.into_iter().flatten());
    }
    if uris.is_empty() {
        return Err(Failure::usage("no place is given to delete from").hint(
            "name the log, or a configuration with `payload_log.uri`: `onstage log delete --config onstage.toml --request-id ID`",
        ));
    }
    let sink = |uri: &String| {
        let is_uri = uri.contains("://") || uri.starts_with("file:");
        if is_uri {
            Sink::open(uri, access)
        } else {
            Ok(Sink::directory(uri.into()))
        }
    };
    let sinks = uris.into_iter().map(sink).collect::<Result<_, _>>();
    Ok(sinks?)
}

fn doomed(args: &DeleteArgs, settings: &Settings) -> Result<Doomed, Failure> {
    if let Some(id) = &args.request_id {
        return Ok(Doomed::Request(id.clone()));
    }
    let options = settings.payload_log.options();
    let options = options.map_err(|error| Failure::config(error.to_string()))?;
    Ok(Doomed::Value {
        column: args.column.clone().unwrap_or_default(),
        value: args.value.clone().unwrap_or_default(),
        key: options.columns.key,
    })
}
