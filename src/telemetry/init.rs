//! The log: `tracing` events to stderr, as text for people and as JSON for collectors.
//!
//! A thread of its own writes the lines: who starts a server and does not read its stderr (a full pipe) must not stop its
//! answers. What does not fit into the queue is lost, and counted.

use std::io::Write;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// A line for people.
    Text,
}

/// Which answered requests get a log line; probes never do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AccessLog {
    /// The failed ones.
    Errors,
    /// Every one.
    All,
    /// The failed ones, and this share (0 to 1) of the others.
    Sampled(f64),
}

impl FromStr for AccessLog {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        let share = |text: &str| {
            let share: f64 = text.parse().ok()?;
            (0.0..=1.0).contains(&share).then_some(Self::Sampled(share))
        };
        match text {
            "errors" => Some(Self::Errors),
            "all" => Some(Self::All),
            _ => text.strip_prefix("sampled:").and_then(share),
        }
        .ok_or(TelemetryError::AccessLog)
    }
}

impl TryFrom<String> for AccessLog {
    type Error = TelemetryError;

    fn try_from(text: String) -> Result<Self, TelemetryError> {
        text.parse()
    }
}

impl From<AccessLog> for String {
    fn from(value: AccessLog) -> Self {
        match value {
            AccessLog::Errors => "errors".to_owned(),
            AccessLog::All => "all".to_owned(),
            AccessLog::Sampled(share) => format!("sampled:{share}"),
        }
    }
}

/// Why logs cannot be set up. The texts say what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// No access log setting.
    #[error("`errors`, `all` or a share such as `sampled:0.01`")]
    AccessLog,
    /// No filter.
    #[error(
        "a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives such as `info,onstage=debug`"
    )]
    Filter,
    /// Another subscriber is there already.
    #[error("logs are set up already")]
    Twice,
}

/// How to write the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level, or directives as `tracing_subscriber::EnvFilter` reads them.
    pub filter: String,
    /// Whether text is coloured.
    pub color: bool,
}

/// Lines that wait for whoever reads stderr; some megabytes at most.
const LINES_WAITING: usize = 10_000;

/// Counts the lines that this process lost. The log is the process's, and so is this.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// While it lives the log is written. Dropping it writes what waits, for a second at most.
#[must_use = "without it the last lines are lost"]
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "it works when it is dropped")] WorkerGuard);

/// Sends log events to stderr. Once per process.
///
/// # Errors
/// [`TelemetryError::Filter`], or [`TelemetryError::Twice`].
pub fn init(options: &LogOptions) -> Result<LogGuard, TelemetryError> {
    let filter = build_filter(&options.filter)?;
    let (writer, guard) = queued(std::io::stderr());
    let lost = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let set = match options.format {
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
        LogFormat::Text => builder.with_ansi(options.color).finish().try_init(),
    };
    set.map_err(|_| TelemetryError::Twice)?;
    LOST.get_or_init(|| lost);
    // Engines can panic on strange values. That is caught and told as an error; the log gets a line, not a backtrace.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "a thread panicked"),
    ));
    Ok(LogGuard(guard))
}

/// Lines that were lost because nobody read the ones before them.
pub(super) fn lost_lines() -> u64 {
    let lost = LOST.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(lost).unwrap_or(u64::MAX)
}

fn queued(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING)
        .lossy(true)
        .thread_name("onstage-log")
        .finish(to)
}

/// Whether `filter` can be given to [`init`].
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    build_filter(filter).map(drop)
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn build_filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    // A bare word that is no level would be taken as a module's name and switch everything else off.
    let understood = |part: &str| {
        let part = part.trim();
        let level = part.rsplit('=').next().unwrap_or(part).to_ascii_lowercase();
        LEVELS.contains(&level.as_str()) || part.contains('[')
    };
    if !text.split(',').all(understood) {
        return Err(TelemetryError::Filter);
    }
    let filter = if text.trim().eq_ignore_ascii_case("info") {
        // The engines tell every step of loading a model as `info`.
        "info,ort=warn,tract_core=warn,tract_onnx=warn"
    } else {
        text
    };
    EnvFilter::try_new(filter).map_err(|_| TelemetryError::Filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_directives() {
        for filter in [
            "info",
            "WARN",
            "off",
            "info,onstage=debug",
            "onstage::serving=trace,warn",
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["", "verbose", "info,", "onstage=loud", "5"] {
            assert_eq!(
                check_filter(filter),
                Err(TelemetryError::Filter),
                "{filter}"
            );
        }
    }

    #[test]
    fn an_access_log_is_errors_all_or_a_share() {
        assert_eq!("errors".parse(), Ok(AccessLog::Errors));
        assert_eq!("all".parse(), Ok(AccessLog::All));
        assert_eq!("sampled:0.01".parse(), Ok(AccessLog::Sampled(0.01)));
        for text in [
            "",
            "none",
            "sampled",
            "sampled:",
            "sampled:1.5",
            "sampled:-1",
            "sampled:NaN",
        ] {
            assert_eq!(
                text.parse::<AccessLog>(),
                Err(TelemetryError::AccessLog),
                "{text}"
            );
        }
        assert_eq!(String::from(AccessLog::Sampled(0.5)), "sampled:0.5");
    }

    #[test]
    fn logs_are_set_up_once() {
        let options = LogOptions {
            format: LogFormat::Text,
            filter: "off".to_owned(),
            color: false,
        };
        // Another test of this process may have been first.
        let _first = init(&options);
        assert_eq!(init(&options).unwrap_err(), TelemetryError::Twice);
    }
}
