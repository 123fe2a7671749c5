//! `onstage registry list` and `show`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::WhereArgs;
use crate::cli::doctor::to_json;
use crate::cli::remote::block_on;
use crate::cli::text::{self, Page};
use crate::cli::{Console, Failure};
use crate::config::registry_access;
use crate::model::{ModelName, Version};
use crate::registry::sources;
use crate::registry::{Environment, Query, RegisteredModel, RegistryState, VersionStatus};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: WhereArgs,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Registered name of the model
    name: String,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: WhereArgs,
}

/// One model of the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    latest: Option<u64>,
    stages: BTreeMap<String, u64>,
    aliases: BTreeMap<String, u64>,
}

/// One version of a model.
#[derive(Debug, Serialize)]
struct Shown {
    version: u64,
    pointers: Vec<String>,
    status: String,
    digest: Option<String>,
    location: String,
}

fn look(
    at: &WhereArgs,
    environment: &[(OsString, OsString)],
    query: &Query,
) -> Result<RegistryState, Failure> {
    let (settings, uri) = at.load(environment, None)?;
    let variables = Arc::new(Environment::new(environment));
    let source = sources::source(&uri, &registry_access(&settings, &variables))?;
    block_on(async {
        let looked = source.snapshot(query).await;
        looked.map_err(|error| Failure::failed(error.to_string()))
    })
}

fn listed((name, model): (&ModelName, &RegisteredModel)) -> Listed {
    let stages = model.stages.iter();
    let aliases = model.aliases.iter();
    Listed {
        name: name.to_string(),
        latest: model.latest.map(|version| version.0),
        stages: stages
            .map(|(stage, version)| (stage.to_string(), version.0))
            .collect(),
        aliases: aliases
            .map(|(alias, version)| (alias.to_string(), version.0))
            .collect(),
    }
}

fn pointers(model: &RegisteredModel, version: Version) -> Vec<String> {
    let aliases = model.aliases.iter().filter(|(_, other)| **other == version);
    let stages = model.stages.iter().filter(|(_, other)| **other == version);
    let aliases = aliases.map(|(alias, _)| format!("@{alias}"));
    aliases
        .chain(stages.map(|(stage, _)| stage.to_string()))
        .collect()
}

pub(super) fn list(
    args: &ListArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let query = Query {
        everything: true,
        ..Query::default()
    };
    let state = look(&args.at, environment, &query)?;
    for (name, reason) in &state.broken {
        console.note(&format!("the records of `{name}` cannot be read: {reason}"));
    }
    let models: Vec<Listed> = state.models.iter().map(listed).collect();
    if args.json {
        return console.print(&to_json(&models));
    }
    let cells = |numbers: &BTreeMap<String, u64>, mark: &str| {
        let cells = numbers
            .iter()
            .map(|(name, version)| format!("{mark}{name} {version}"));
        cells.collect::<Vec<_>>().join(", ")
    };
    let rows: Vec<[String; 4]> = models
        .iter()
        .map(|model| {
            let latest = model
                .latest
                .map_or_else(String::new, |version| version.to_string());
            [
                model.name.clone(),
                latest,
                cells(&model.stages, ""),
                cells(&model.aliases, "@"),
            ]
        })
        .collect();
    let mut page = Page::new(text::width(environment));
    page.table(["model", "latest", "stages", "aliases"], &rows);
    console.print(&page.into_text())
}

pub(super) fn show(
    args: &ShowArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let name =
        ModelName::new(args.name.as_str()).map_err(|error| Failure::usage(error.to_string()))?;
    let query = Query {
        models: [name.clone()].into(),
        every_version: true,
        ..Query::default()
    };
    let state = look(&args.at, environment, &query)?;
    let model = state.models.get(&name);
    let model = model.ok_or_else(|| {
        Failure::failed(format!("the registry has no model `{name}`"))
            .hint("`onstage registry list` shows those that it has")
    })?;
    let shown = model
        .versions
        .iter()
        .rev()
        .map(|(version, registered)| Shown {
            version: version.0,
            pointers: pointers(model, *version),
            status: match &registered.status {
                VersionStatus::Ready => "ready".to_owned(),
                VersionStatus::Unready(reason) => reason.clone(),
            },
            digest: registered.digest.clone(),
            location: registered.location.clone(),
        });
    let shown: Vec<Shown> = shown.collect();
    if args.json {
        return console.print(&to_json(&shown));
    }
    let rows: Vec<[String; 4]> = shown
        .into_iter()
        .map(|version| {
            let pointers = version.pointers.join(", ");
            [
                version.version.to_string(),
                pointers,
                version.status,
                version.location,
            ]
        })
        .collect();
    let mut page = Page::new(text::width(environment));
    page.table(["version", "stages, aliases", "status", "location"], &rows);
    console.print(&page.into_text())
}
