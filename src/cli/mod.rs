//! The command line: one file per command.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 fine, 1 ran and failed, 2 usage, 78 bad
//! configuration.

pub(crate) mod banner;
mod completions;
mod console;
mod diff;
mod doctor;
mod failure;
mod flags;
mod health;
mod inspect;
mod key;
mod log;
mod package;
mod predict;
mod progress;
mod pull;
mod quality;
mod registry;
mod remote;
mod serve;
mod status;
mod text;
mod verify;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use console::Console;
pub use failure::{Exit, Failure};

use crate::config::{self, Inputs, Loaded};

/// Serve packaged ONNX models: MLflow packages, ONNX files, trees of versions
#[derive(Debug, Parser)]
#[command(
    name = "onstage",
    version,
    args_override_self = true,
    max_term_width = 100
)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve models until SIGTERM or SIGINT
    Serve(serve::ServeArgs),
    /// Show the contents of a package and which engines can run it
    Inspect(inspect::InspectArgs),
    /// Score one JSON, CSV or Parquet body, as `/invocations` would
    Predict(predict::PredictArgs),
    /// Run a package on every engine and compare the answers
    Verify(verify::VerifyArgs),
    /// Check whether one package can replace another without breaking clients
    Diff(diff::DiffArgs),
    /// Make an MLflow package from an ONNX file
    Package(package::PackageArgs),
    /// Copy versions from a registry into a directory, for an image or an offline site
    Pull(pull::PullArgs),
    /// Inspect and change a model registry
    Registry(registry::RegistryArgs),
    /// Export from the payload log, or delete from it
    Log(log::LogArgs),
    /// Compare the predictions of the payload log with what was true
    Quality(quality::QualityArgs),
    /// Show the models of a running server
    Status(status::StatusArgs),
    /// Check whether a running server is ready, for container health checks
    Health(health::HealthArgs),
    /// Create an API key and its line for the callers file
    Key(key::KeyArgs),
    /// Show what onstage finds on this machine: engines, CPU features, limits
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Run one model for a server
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// What the commands that only look have in common.
#[derive(Debug, Args)]
struct LookArgs {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engines: EngineArgs,
}

/// Where the engines and their settings come from.
#[derive(Debug, Args)]
struct EngineArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Path of the ONNX Runtime library [default: onstage searches for it]
    #[arg(long, value_name = "PATH")]
    libonnxruntime: Option<String>,
}

impl LookArgs {
    fn load(&self, environment: Vec<(OsString, OsString)>) -> Result<Loaded, Failure> {
        self.engines.load(environment)
    }
}

impl EngineArgs {
    fn load(&self, environment: Vec<(OsString, OsString)>) -> Result<Loaded, Failure> {
        let library = self.libonnxruntime.clone();
        let inputs = Inputs {
            file: self.config.clone(),
            environment,
            flags: library.into_iter().filter_map(flags::library).collect(),
        };
        Ok(config::load(&inputs)?)
    }
}

/// Runs the program and says how it ended. `arguments` begin with the program's name.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let (mut out, mut err) = (anstream::stdout(), anstream::stderr());
    let mut console = Console::new(&mut out, &mut err);
    execute(arguments, environment.into_iter().collect(), &mut console).into()
}

/// [`run`], with the streams passed in.
pub fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Exit {
    let result = match Cli::try_parse_from(arguments) {
        Err(error) => return console.clap(&error),
        Ok(Cli { command }) => match command {
            Command::Serve(args) => serve::run(args, environment, console),
            Command::Inspect(args) => inspect::run(&args, environment, console),
            Command::Predict(args) => predict::run(&args, environment, console),
            Command::Verify(args) => verify::run(&args, environment, console),
            Command::Diff(args) => diff::run(&args, environment, console),
            Command::Package(args) => package::run(&args, environment, console),
            Command::Pull(args) => pull::run(&args, &environment, console),
            Command::Registry(args) => registry::run(&args, &environment, console),
            Command::Log(args) => log::run(&args, &environment, console),
            Command::Quality(args) => quality::run(&args, &environment, console),
            Command::Status(args) => status::run(args, environment, console),
            Command::Health(args) => health::run(args, environment, console),
            Command::Key(args) => key::run(args, console),
            Command::Doctor(args) => doctor::run(&args, environment, console),
            Command::Completions(args) => completions::run(&args, console),
            Command::Worker(args) => worker::run(&args),
        },
    };
    match result {
        Ok(()) => Exit::Fine,
        Err(failure) => console.fail(&failure),
    }
}

#[cfg(test)]
mod tests;
