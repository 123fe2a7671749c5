//! `onstage registry register`, `transition`, `alias` and `unalias`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::WhereArgs;
use crate::cli::remote::block_on;
use crate::cli::{Console, Failure};
use crate::config::registry_access;
use crate::model::{Alias, ModelId, ModelName, Stage, Version};
use crate::registry::sources;
use crate::registry::{Environment, RegistryWriter, SourceError};

#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    /// Registered name of the model
    name: String,
    /// Package directory or .onnx file
    package: PathBuf,
    #[command(flatten)]
    at: WhereArgs,
}

#[derive(Debug, Args)]
pub(super) struct TransitionArgs {
    /// Registered name of the model
    name: String,
    /// Version to move
    version: String,
    /// Staging, Production, Archived or None
    stage: String,
    /// Archive the versions that are in the stage; a registry of files always does
    #[arg(long)]
    archive_existing: bool,
    #[command(flatten)]
    at: WhereArgs,
}

#[derive(Debug, Args)]
pub(super) struct AliasArgs {
    /// Registered name of the model
    name: String,
    /// Alias, without the @
    alias: String,
    /// Version that it should point to
    version: String,
    #[command(flatten)]
    at: WhereArgs,
}

#[derive(Debug, Args)]
pub(super) struct UnaliasArgs {
    /// Registered name of the model
    name: String,
    /// Alias, without the @
    alias: String,
    #[command(flatten)]
    at: WhereArgs,
}

type Variables<'a> = &'a [(OsString, OsString)];

fn writer(at: &WhereArgs, environment: Variables<'_>) -> Result<Box<dyn RegistryWriter>, Failure> {
    let (settings, uri) = at.load(environment, None)?;
    let variables = Arc::new(Environment::new(environment));
    Ok(sources::writer(
        &uri,
        &registry_access(&settings, &variables),
    )?)
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::usage(error.to_string())
}

fn model(name: &str) -> Result<ModelName, Failure> {
    ModelName::new(name).map_err(usage)
}

fn id(name: &str, version: &str) -> Result<ModelId, Failure> {
    let version: Version = version.parse().map_err(usage)?;
    Ok(ModelId {
        name: model(name)?,
        version,
    })
}

fn alias_of(text: &str) -> Result<Alias, Failure> {
    Alias::new(text.strip_prefix('@').unwrap_or(text)).map_err(usage)
}

fn failed(error: SourceError) -> Failure {
    Failure::failed(error.to_string())
}

pub(super) fn register(
    args: &RegisterArgs,
    environment: Variables<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let name = model(&args.name)?;
    let writer = writer(&args.at, environment)?;
    let version = block_on(async { writer.register(&name, &args.package).await.map_err(failed) })?;
    console.print(&format!("{version}\n"))
}

pub(super) fn transition(
    args: &TransitionArgs,
    environment: Variables<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let id = id(&args.name, &args.version)?;
    let stage: Stage = args.stage.parse().map_err(usage)?;
    let writer = writer(&args.at, environment)?;
    let moved = async {
        writer
            .transition(&id, stage, args.archive_existing)
            .await
            .map_err(failed)
    };
    block_on(moved)?;
    console.print(&format!("{id} is in stage {stage}\n"))
}

pub(super) fn alias(
    args: &AliasArgs,
    environment: Variables<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let id = id(&args.name, &args.version)?;
    let alias = alias_of(&args.alias)?;
    let writer = writer(&args.at, environment)?;
    block_on(async { writer.set_alias(&alias, &id).await.map_err(failed) })?;
    console.print(&format!(
        "@{alias} of {} is version {}\n",
        id.name, id.version
    ))
}

pub(super) fn unalias(
    args: &UnaliasArgs,
    environment: Variables<'_>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let name = model(&args.name)?;
    let alias = alias_of(&args.alias)?;
    let writer = writer(&args.at, environment)?;
    block_on(async { writer.delete_alias(&name, &alias).await.map_err(failed) })?;
    console.print(&format!("@{alias} of {name} is removed\n"))
}
