//! `onstage completions`: a script for the shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Console, Failure};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that will read the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "onstage", &mut script);
    console.print(&String::from_utf8_lossy(&script))
}
