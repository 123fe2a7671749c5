//! `onstage rollout`: how a challenger takes the place of the stable version.

mod simulate;

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::{Console, Failure};

/// Try out how a challenger would take the place of the stable version
#[derive(Debug, Args)]
pub(super) struct RolloutArgs {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Show what a rollout would decide at each of a series of recorded looks
    Simulate(simulate::SimulateArgs),
}

pub(super) fn run(
    args: &RolloutArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    match &args.command {
        RolloutCommand::Simulate(args) => simulate::run(args, environment, console),
    }
}
