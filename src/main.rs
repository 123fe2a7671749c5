//! The process: arguments and environment in, an exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The only change of the process's environment. ONNX Runtime, a library in C++, reads this variable when it is
    // loaded: no setting of ours reaches it, and its own switch comes too late for what it writes before. No other thread
    // runs yet, so nothing reads the environment meanwhile. A value that the user set stays.
    let _ = dotenvy::from_read(&b"ORT_DISABLE_TELEMETRY=1"[..]);
    onstage::cli::run(std::env::args_os(), std::env::vars_os())
}
