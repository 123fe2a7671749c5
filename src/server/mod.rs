//! Sockets: where connections arrive, who may have how many, TLS, and the event loops and services behind them.
//!
//! ```text
//! listen       binds ports and hands connections to event loops or to the threads of the runtime
//! connections  counts, watches, ages and ends them
//! tls          certificates, read again when they change (reload)
//! grpc         the gRPC services, and whether they are healthy
//! ```

pub(crate) mod admin;
pub(crate) mod callers;
mod connections;
pub(crate) mod grpc;
pub(crate) mod listen;
pub(crate) mod reload;
mod servers;
pub(crate) mod tls;
pub(crate) mod trust;

pub(crate) use servers::Servers;
