//! The process: arguments and environment in, an exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // ONNX Runtime looks at this when it is loaded, and its own switch comes too late for what it writes before. No
    // other thread runs yet, so that nobody reads the environment meanwhile; what the user set stays.
    let _ = dotenvy::from_read(&b"ORT_DISABLE_TELEMETRY=1"[..]);
    onstage::cli::run(std::env::args_os(), std::env::vars_os())
}
