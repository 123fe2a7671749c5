//! From one request's tensors to the engine and back: a bounded queue per servable, one pool of runners for all.
//!
//! ```text
//! submit ──► Queue (one per servable) ──► RunnerPool (one per process) ──► Session::run ──► reply
//!              full: Overloaded             expired and abandoned entries leave before the engine
//! ```

mod batcher;
mod policy;
mod pool;

pub use batcher::{BatchError, BatchObserver, Batcher, BatcherConfig};
pub use policy::{BatchPolicy, Decision, OneByOne, QueueView};
pub use pool::RunnerPool;

#[cfg(test)]
mod tests;
