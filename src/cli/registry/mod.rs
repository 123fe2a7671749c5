//! `onstage registry`: what a model registry holds, and changes of it.

mod change;
mod show;
mod webhook;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Console, Failure, flags};
use crate::config::{self, Inputs, Settings};

/// Inspect and change a model registry
#[derive(Debug, Args)]
pub(super) struct RegistryArgs {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// List the models of a registry
    List(show::ListArgs),
    /// Show the versions of one model
    Show(show::ShowArgs),
    /// Add a package as a new version and print its number
    Register(change::RegisterArgs),
    /// Move a version to a stage
    Transition(change::TransitionArgs),
    /// Point an alias to a version
    Alias(change::AliasArgs),
    /// Remove an alias
    Unalias(change::UnaliasArgs),
    /// Print the call that registers a webhook with MLflow, or make it
    Webhook(webhook::WebhookArgs),
}

/// What all of them have in common.
#[derive(Debug, Args)]
pub(super) struct WhereArgs {
    /// Model registry: a directory, an MLflow server or an object store
    #[arg(long, value_name = "URI")]
    registry: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl WhereArgs {
    /// The settings and the registry's URI: the flag, the configuration, then MLflow's own variables.
    pub(super) fn load(
        &self,
        environment: &[(OsString, OsString)],
        further: Option<config::FlagValue>,
    ) -> Result<(Settings, String), Failure> {
        let registry = self.registry.clone();
        let registry = registry.and_then(|uri| flags::given("registry.uri", uri));
        let inputs = Inputs {
            file: self.config.clone(),
            environment: environment.to_vec(),
            flags: registry.into_iter().chain(further).collect(),
        };
        let settings = config::load(&inputs)?.settings;
        let variable = |name: &str| {
            let found = environment.iter().find(|(variable, _)| variable == name);
            let value = found.and_then(|(_, value)| value.to_str());
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let uri = settings.registry.uri.clone();
        let uri = uri
            .or_else(|| variable("MLFLOW_REGISTRY_URI"))
            .or_else(|| variable("MLFLOW_TRACKING_URI"));
        let uri = uri.ok_or_else(|| {
            Failure::usage("no model registry is given")
                .hint("name one with `--registry`, `registry.uri` or `MLFLOW_TRACKING_URI`")
        })?;
        Ok((settings, uri))
    }
}

pub(super) fn run(
    args: &RegistryArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    match &args.command {
        RegistryCommand::List(args) => show::list(args, environment, console),
        RegistryCommand::Show(args) => show::show(args, environment, console),
        RegistryCommand::Register(args) => change::register(args, environment, console),
        RegistryCommand::Transition(args) => change::transition(args, environment, console),
        RegistryCommand::Alias(args) => change::alias(args, environment, console),
        RegistryCommand::Unalias(args) => change::unalias(args, environment, console),
        RegistryCommand::Webhook(args) => webhook::run(args, environment, console),
    }
}
