//! What the process tells about itself: logs, metrics and traces. A leaf: imports nothing of ours but [`crate::error`] and [`crate::budget`].

mod families;
mod init;
mod labels;
mod lines;
mod memory;
mod metrics;
mod monitored;
mod overview;
mod statistics;
pub mod trace;
mod trust;
mod version_metrics;

pub use init::{AccessLog, LogFormat, LogGuard, LogOptions, TelemetryError, check_filter, init};
pub use labels::{EngineFailure, Outcome, Protocol};
pub use lines::{Lines, short};
pub use metrics::{CONTENT_TYPE, DURATION_BUCKETS, Metrics};
pub use monitored::{Monitored, MonitoredBin, MonitoredFeature, MonitoredVersion};
pub use overview::ModelOverview;
pub use statistics::{Sum, Totals};
pub use trace::{Trace, TraceOptions, Tracer};
pub use version_metrics::{InFlight, VersionMetrics};
