//! From one request's tensors to the engine and back: a bounded queue per servable, one pool of runners for all.
//!
//! ```text
//! submit ──► Queue (one per servable) ──► RunnerPool (one per process) ──► Session::run ──► reply
//!              full: Overloaded             expired and abandoned entries leave before the engine
//! ```

mod batcher;
mod calibrate;
mod cost;
mod error;
mod group;
mod inner;
mod options;
mod policy;
mod pool;
mod queue;
mod room;
mod run;
mod sessions;

pub use batcher::Batcher;
pub use error::BatchError;
pub use group::split_outputs;
pub use options::{BatchObserver, BatcherConfig, RunOptions};
pub use policy::{Decision, LastRun, QueueView, WorkConserving};
pub use pool::RunnerPool;
pub use sessions::Rescue;

#[cfg(test)]
mod tests;
