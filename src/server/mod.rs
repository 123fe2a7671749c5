//! Sockets: where connections arrive, who may have how many, TLS, and the event loops and services behind them.
//!
//! ```text
//! listen       binds ports and hands connections to event loops or to the threads of the runtime
//! connections  counts, watches, ages and ends them
//! tls          certificates, read again when they change (reload)
//! grpc         the gRPC services, and whether they are healthy
//! ```

mod connections;
pub(crate) mod grpc;
pub(crate) mod listen;
pub(crate) mod reload;
pub(crate) mod tls;
