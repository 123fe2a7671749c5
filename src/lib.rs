//! onstage serves packaged machine-learning models and swaps them without a dropped request.
//!
//! Arrows point down; a module never imports a line above it:
//!
//! ```text
//! app, cli
//! server
//! protocol · middleware        lifecycle
//!         serving                 │   registry · signing
//!         batching  ◄─────────────┘
//!         engine
//!         model
//!         tensor     (error, telemetry, budget, jitter: leaves, open to all;  config: only app, server and cli read it;
//!                     machine: a leaf that knows the limits of this process;
//!                     network: a leaf for whoever calls other servers)
//! ```

pub mod app;
pub mod batching;
pub mod budget;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
mod jitter;
pub mod lifecycle;
pub mod machine;
pub mod middleware;
pub mod model;
pub mod network;
pub mod protocol;
pub mod registry;
mod server;
pub mod serving;
pub mod shutdown;
pub mod signing;
pub mod telemetry;
pub mod tensor;
