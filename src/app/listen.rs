//! The sockets: HTTP for the protocols, gRPC for health checks.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use hyper_util::rt::TokioTimer;
use tonic_health::server::HealthReporter;
use tower::make::Shared;

use crate::middleware::Layered;

/// A bound socket, and the address that it got when port 0 was asked for.
#[derive(Debug)]
pub(super) struct Bound {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

/// Binds `host:port`.
///
/// # Errors
/// With the address, the reason and which setting to change.
pub(super) fn bind(host: &str, port: u16, setting: &str) -> anyhow::Result<Bound> {
    let hint = || {
        format!(
            "cannot listen on `{host}:{port}`: choose another `{setting}`, or 0 for any free port"
        )
    };
    let listener = TcpListener::bind((host.trim_matches(['[', ']']), port)).with_context(hint)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

/// Serves HTTP/1.1 and HTTP/2 in clear text until `handle` says stop.
pub(super) async fn serve_http(
    bound: Bound,
    service: Layered,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let mut server = axum_server::from_tcp(bound.listener)?
        .acceptor(NoDelayAcceptor::new())
        .handle(handle);
    // A client that sends its headers byte by byte holds a connection, not a thread; this bounds for how long.
    let header_timeout = Duration::from_secs(30);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout);
    server.http_builder().http2().timer(TokioTimer::new());
    server
        .serve(Shared::new(service))
        .await
        .context("the HTTP server stopped")
}

/// Serves `grpc.health.v1` until `stop` resolves; `reporter` sets what it answers.
pub(super) async fn serve_grpc(
    bound: Bound,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<(
    HealthReporter,
    impl Future<Output = Result<(), tonic::transport::Error>>,
)> {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
    let listener = tokio::net::TcpListener::from_std(bound.listener)?;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    Ok((
        reporter,
        server.serve_with_incoming_shutdown(incoming, stop),
    ))
}
