//! The sockets. All servers are HTTP servers; gRPC is HTTP/2 with its own content type.
//!
//! ```text
//! socket of HTTP ─► Spread ─► event loop │ event loop │ …    a connection stays on its thread
//! sockets of gRPC, management ─► runtime of the process      the requests of a connection are spread
//! ```

mod arrivals;
mod event_loops;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::accept::NoDelayAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::task::JoinSet;
use tower::make::Shared;

use self::arrivals::Distributor;
pub(crate) use self::arrivals::{Arrivals, Arrived, Local};
pub(crate) use self::event_loops::{ConnectionSlot, EventLoops};
use super::connections::{Connections, Most, Timeouts};
use super::tls::Tls;
use crate::config::Settings;
use crate::middleware::{Inner, Layered};
use crate::runtime::machine;
use crate::telemetry::Metrics;

/// A bound socket, and its address, which the system chooses for port 0.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Binds `host:port`.
///
/// # Errors
/// With the address, the reason and which setting to change.
pub(crate) fn bind(host: &str, port: u16, setting: &str) -> anyhow::Result<Bound> {
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

/// How the listeners of a kind serve; cheap to clone.
#[derive(Clone)]
pub(crate) struct Listening {
    connections: Connections,
    tls: Option<Arc<Tls>>,
    max_headers: usize,
    max_header_size: u32,
    max_streams: u32,
    max_resets: usize,
}

impl Listening {
    pub(crate) fn new(settings: &Settings, metrics: Arc<Metrics>, tls: Option<Arc<Tls>>) -> Self {
        let limits = &settings.limits;
        let timeouts = Timeouts {
            header: limits.header_timeout,
            body: limits.body_timeout,
            idle: limits.idle_timeout,
            age: settings.server.max_connection_age,
        };
        let all = limits.max_connections.unwrap_or_else(usual_connections);
        let most = Most {
            all,
            of_client: limits
                .client_connections
                .unwrap_or_else(|| (all / 2).max(100)),
        };
        Self {
            connections: Connections::new(most, timeouts, metrics),
            tls,
            max_headers: limits.max_headers,
            max_header_size: u32::try_from(limits.max_header_size).unwrap_or(u32::MAX),
            max_streams: limits.max_streams,
            max_resets: limits.max_resets,
        }
    }

    /// Serves HTTP/1.1 and HTTP/2, in clear text or with TLS, until `handle` says stop. On the runtime of the process,
    /// where the requests of one connection may run on several threads.
    pub(crate) async fn serve(
        self,
        bound: Bound,
        service: Layered<impl Inner>,
        handle: Handle<Local>,
    ) -> anyhow::Result<()> {
        let arrivals = Arrivals::Socket(bound.listener.try_into()?);
        self.take(arrivals, service, handle).await
    }

    /// The same on the event loops, each connection on one of them.
    pub(crate) async fn serve_on(
        self,
        event_loops: EventLoops,
        bound: Bound,
        service: Layered<impl Inner>,
        handle: Handle<Local>,
    ) -> anyhow::Result<()> {
        // On an event loop, where nothing takes long: on the runtime of the process messages of gRPC are decoded.
        let first = event_loops
            .iter()
            .next()
            .context("there is no event loop")?;
        let mut spread = {
            let _runtime = first.runtime.enter();
            Distributor::new(bound.listener.try_into()?)
        };
        let accepting = first.runtime.clone();
        let mut servers = JoinSet::new();
        for event_loop in event_loops.iter() {
            let arrivals = spread.over(event_loop)?;
            let server = self.clone().take(arrivals, service.clone(), handle.clone());
            servers.spawn_on(server, &event_loop.runtime);
        }
        let accepted = accepting.spawn(spread.run()).await;
        accepted.context("accepting connections panicked")?;
        while let Some(ended) = servers.join_next().await {
            ended.context("a server panicked")??;
        }
        Ok(())
    }

    async fn take(
        self,
        arrivals: Arrivals,
        service: Layered<impl Inner>,
        handle: Handle<Local>,
    ) -> anyhow::Result<()> {
        let server = Server::from_listener(arrivals).handle(handle);
        let service = Shared::new(service);
        let served = match &self.tls {
            Some(tls) => {
                let acceptor = self.connections.guard(tls.acceptor());
                self.bounded(server.acceptor(acceptor)).serve(service).await
            }
            None => {
                let acceptor = self.connections.guard(NoDelayAcceptor::new());
                self.bounded(server.acceptor(acceptor)).serve(service).await
            }
        };
        served.context("the HTTP server stopped")
    }

    fn bounded<A>(&self, mut server: Server<Local, A>) -> Server<Local, A> {
        // Slow heads end with their connection: see `connections`.
        server.http_builder().http1().max_headers(self.max_headers);
        // A client that vanished without a word, in the middle of a stream, is found out.
        server
            .http_builder()
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_concurrent_streams(self.max_streams)
            .max_pending_accept_reset_streams(self.max_resets)
            .max_header_list_size(self.max_header_size);
        server
    }
}

/// So many that files, packages and registries still get their share of what may be open.
fn usual_connections() -> usize {
    const MOST: usize = 10_000;
    machine::open_files().map_or(MOST, |files| MOST.min(files / 4 * 3))
}
