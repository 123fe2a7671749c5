//! onstage serves packaged machine-learning models and swaps them without a dropped request.
//!
//! Arrows point down; a module never imports a line above it:
//!
//! ```text
//! cli                    commands, and what they print
//! scoring                answers without a server
//! app                    composition: puts the parts of a server together
//! server                 sockets, TLS, event loops, the management listener
//! config                 settings, and what they mean for the parts below
//! protocol               the route table, and a folder for each protocol
//! http · middleware      what every protocol over HTTP shares · who asks, how often
//! payload                what models saw and answered, as Parquet files
//! lifecycle              which version is loaded, serves, is taken back, goes
//! registry · signing     where packages come from · who vouches for them
//! serving                the catalog, and one request on one version
//! batching               the queue of a version, and the runners of all
//! engine                 what runs a graph
//! model                  a package: manifest, signature, graph
//! tensor · runtime       values · the process: limits, threads
//! error · telemetry · budget · jitter        open to all
//! ```

pub mod app;
pub mod batching;
pub mod budget;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
mod jitter;
pub mod lifecycle;
pub mod middleware;
pub mod model;
pub mod network;
pub mod payload;
pub mod protocol;
pub mod registry;
pub mod runtime;
pub mod scoring;
mod server;
pub mod serving;
pub mod shutdown;
pub mod signing;
pub mod telemetry;
pub mod tensor;
