//! The payload log: typed rows of what models saw and answered, as Parquet files that any tool opens.
//!
//! ```text
//! request ─► record ─► queue ─► writer ─► spool ─► sender ─► sink
//!            (copy)   (bytes)   (thread)  (disk)            (directory, S3, GCS, Azure)
//! ```
//!
//! It never blocks a request: what finds no room is dropped and counted.

mod bodies;
mod cells;
mod delete;
mod error;
mod export;
mod feedback;
mod labels;
mod layout;
mod log;
mod observe;
mod options;
mod partition;
mod quality;
mod queue;
mod read;
mod record;
mod replay;
mod rows;
mod sample;
mod sender;
mod sink;
mod spool;
mod tally;
mod text;
mod writer;

pub use delete::{Deleted, Doomed, delete};
pub use error::PayloadError;
pub use export::{ExportForm, Exported, UnknownForm, export};
pub use feedback::{Feedback, FeedbackParts, NoRoom};
pub use labels::{Label, LabelError, parse as parse_labels};
pub use log::{PayloadLog, PayloadParts};
pub use options::{ColumnOptions, HashKey, PayloadOptions};
pub use quality::{Estimate, Every, Labels, Quality, QualityRequest, Window, quality};
pub use read::{LogFile, LogFiles};
pub use record::{Record, Role};
pub use replay::Replay;
pub use sample::sample_number;
pub use sink::Sink;

#[cfg(test)]
mod tests;
