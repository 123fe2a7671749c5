//! The process: arguments and environment in, an exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    onstage::cli::run(std::env::args_os(), std::env::vars_os())
}
