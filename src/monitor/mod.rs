//! Watches models while they serve: whether what they see and say still looks like what they were trained on.
//!
//! ```text
//! monitors     all versions under watch: the observers of their requests, and the evaluations
//! report       what is told of them
//! version      one of them: chosen rows are counted after the answer, on the thread that sent it
//! pace         which rows are chosen
//! watched      bins of the reference, and where their features lie in requests
//! features     columns and outputs as features
//! panes        counts over time
//! verdict      what counts say of a feature
//! divergence   how far shares are apart
//! baseline     the file, and how it is made
//! ```

pub mod baseline;
pub mod bins;
pub mod divergence;
pub mod features;
mod monitors;
mod pace;
pub mod panes;
mod reference;
mod report;
mod slots;
mod verdict;
mod version;
pub mod watched;

pub use monitors::{Export, MonitorOptions, Monitors};
pub use reference::Reference;
pub use report::{BinDrift, Drift, FeatureDrift, VersionDrift, WindowDrift, Windows};
pub use verdict::{Comparison, Verdict};
pub use version::Limits;

#[cfg(test)]
mod tests;
