//! Parts of Triton's protocol that this server does not have: what is told of them, and why a change is refused.
//!
//! What asks for a state is told the state: no regions, no trace. What would change it is refused. Unregistering
//! regions succeeds, as there are none; measuring tools begin with it.

use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::error::OipError;

/// Why the log is as it is.
pub(crate) const LOGGING: &str =
    "log settings cannot be changed by a request: set `telemetry.log_level` and start again";
/// Why there are no traces.
pub(crate) const TRACE: &str = "traces are not offered";
/// Why a repository has no name.
pub(crate) const REPOSITORY: &str = "there are no named repositories: ask for the index of the only one; load and unload on the admin listener";
/// Why nothing is in shared memory.
pub(crate) const SHARED_MEMORY: &str =
    "shared memory is not offered: send tensors in the request, as binary data";

/// The log as it is written now.
#[derive(Debug, Serialize)]
pub(crate) struct LogSettings {
    /// There is none.
    pub(crate) log_file: &'static str,
    /// Whether such lines are written.
    pub(crate) log_info: bool,
    /// Likewise.
    pub(crate) log_warning: bool,
    /// Likewise.
    pub(crate) log_error: bool,
    /// How much more than these.
    pub(crate) log_verbose_level: u32,
    /// How times are written.
    pub(crate) log_format: &'static str,
}

/// The traces that are written.
#[derive(Debug, Serialize)]
pub(crate) struct TraceSettings {
    /// There is none.
    pub(crate) trace_file: &'static str,
    /// None.
    pub(crate) trace_level: [&'static str; 1],
    /// Which share of requests.
    pub(crate) trace_rate: &'static str,
    /// How many; -1 is no limit.
    pub(crate) trace_count: &'static str,
    /// After how many a file is begun.
    pub(crate) log_frequency: &'static str,
    /// Whose form they have.
    pub(crate) trace_mode: &'static str,
}

/// The refusal of what is not there.
pub(crate) fn refused(reason: &str) -> OipError {
    OipError::NotImplemented(reason.to_owned())
}

/// Loading and unloading is for operators.
pub(crate) fn only_for_operators() -> OipError {
    OipError::PermissionDenied(
        "models are loaded and unloaded on the admin listener (`--admin-port`), not on this one"
            .to_owned(),
    )
}

/// A question for one region.
pub(crate) fn no_region(region: &str) -> OipError {
    let region = region.escape_debug();
    OipError::NotFound(format!(
        "no shared memory region `{region}`; {SHARED_MEMORY}"
    ))
}

/// See [`LogSettings`].
pub(crate) fn logging() -> LogSettings {
    let level = LevelFilter::current();
    LogSettings {
        log_file: "",
        log_info: level >= LevelFilter::INFO,
        log_warning: level >= LevelFilter::WARN,
        log_error: level >= LevelFilter::ERROR,
        log_verbose_level: match level {
            LevelFilter::TRACE => 2,
            LevelFilter::DEBUG => 1,
            _ => 0,
        },
        log_format: "ISO8601",
    }
}

/// See [`TraceSettings`].
pub(crate) fn tracing() -> TraceSettings {
    TraceSettings {
        trace_file: "",
        trace_level: ["OFF"],
        trace_rate: "1000",
        trace_count: "-1",
        log_frequency: "0",
        trace_mode: "triton",
    }
}
