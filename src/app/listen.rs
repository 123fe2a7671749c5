//! The sockets. All servers are HTTP servers; gRPC is HTTP/2 with its own content type.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::accept::NoDelayAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tower::make::Shared;

use super::tls::Tls;
use crate::middleware::{Inner, Layered};

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

/// Serves HTTP/1.1 and HTTP/2, in clear text or with TLS, until `handle` says stop.
pub(super) async fn serve_http(
    bound: Bound,
    service: Layered<impl Inner>,
    handle: Handle<SocketAddr>,
    tls: Option<Arc<Tls>>,
) -> anyhow::Result<()> {
    let server = axum_server::from_tcp(bound.listener)?.handle(handle);
    let service = Shared::new(service);
    let served = match tls {
        Some(tls) => {
            let server = server.acceptor(tls.acceptor());
            bounded(server).serve(service).await
        }
        None => {
            let server = server.acceptor(NoDelayAcceptor::new());
            bounded(server).serve(service).await
        }
    };
    served.context("the HTTP server stopped")
}

/// Waits that are not endless.
fn bounded<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    // A client that sends its headers byte by byte holds a connection, not a thread; this bounds for how long.
    let header_timeout = Duration::from_secs(30);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout);
    // A client that vanished without a word, in the middle of a stream, is found out.
    server
        .http_builder()
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    server
}
