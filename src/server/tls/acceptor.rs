//! Accepts connections: a handshake with a deadline, and then requests that say whose certificate the client showed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower::Service;

use crate::middleware::auth::Peer;

/// See the module.
#[derive(Clone)]
pub(crate) struct Acceptor(RustlsAcceptor<NoDelayAcceptor>);

impl Acceptor {
    pub(super) fn new(config: RustlsConfig, handshake_timeout: Duration) -> Self {
        let acceptor = RustlsAcceptor::new(config).handshake_timeout(handshake_timeout);
        Self(acceptor.acceptor(NoDelayAcceptor::new()))
    }
}

type Accepted<S> = io::Result<(TlsStream<TcpStream>, OfPeer<S>)>;

impl<S: Send + Clone + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = TlsStream<TcpStream>;
    type Service = OfPeer<S>;
    type Future = Pin<Box<dyn Future<Output = Accepted<S>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // The library's own service copies the whole chain for each connection and names it in each request.
        let handshake = self.0.accept(stream, ());
        Box::pin(async move {
            let (stream, _) = handshake.await?;
            let shown = stream.get_ref().1.peer_certificates();
            let certificate = shown.and_then(<[_]>::first);
            // Read once for each connection: requests only compare names.
            let peer = certificate.and_then(|der| Peer::read(der)).map(Arc::new);
            Ok((stream, OfPeer { service, peer }))
        })
    }
}

/// A service whose requests know whose certificate the client showed.
#[derive(Clone)]
pub(crate) struct OfPeer<S> {
    service: S,
    peer: Option<Arc<Peer>>,
}

impl<S, B> Service<Request<B>> for OfPeer<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        self.service.call(request)
    }
}
