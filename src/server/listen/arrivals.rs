//! Where the connections of a server come from: a socket of its own, or one whose connections the event loops share.

use std::io;
use std::net::{SocketAddr, TcpStream as IdleStream};
use std::time::Duration;

use axum_server::{AddrListener, Address};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

use super::event_loops::{ConnectionSlot, EventLoop};

/// Connections that were accepted and not yet taken by their event loop.
const WAITING: usize = 64;

/// After a failure to accept, such as too many open files: the next attempt would fail as well.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// An address that listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local(SocketAddr);

impl Address for Local {
    type Stream = Arrived;
    type Listener = Arrivals;
}

/// A connection, and its place on an event loop where it has one.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) stream: TcpStream,
    pub(crate) slot: Option<ConnectionSlot>,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Arrivals {
    Socket(TcpListener),
    Shared {
        address: SocketAddr,
        handed: Mutex<mpsc::Receiver<Handed>>,
    },
}

/// A connection on its way from one runtime to another.
#[derive(Debug)]
pub(crate) struct Handed {
    stream: IdleStream,
    from: SocketAddr,
    slot: ConnectionSlot,
}

impl AddrListener<Arrived, Local> for Arrivals {
    async fn bind_to(Local(address): Local) -> io::Result<Self> {
        Ok(Self::Socket(TcpListener::bind(address).await?))
    }

    async fn accept_stream(&self) -> io::Result<(Arrived, Local)> {
        match self {
            Self::Socket(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Arrived { stream, slot: None }, Local(from)))
            }
            Self::Shared { handed, .. } => match handed.lock().await.recv().await {
                Some(Handed { stream, from, slot }) => {
                    let stream = TcpStream::from_std(stream)?;
                    let slot = Some(slot);
                    Ok((Arrived { stream, slot }, Local(from)))
                }
                // Nobody accepts any more.
                None => std::future::pending().await,
            },
        }
    }

    fn get_local_addr(&self) -> io::Result<Local> {
        match self {
            Self::Socket(listener) => listener.local_addr().map(Local),
            Self::Shared { address, .. } => Ok(Local(*address)),
        }
    }
}

/// Gives each connection to the event loop that has the fewest.
pub(super) struct Distributor {
    listener: TcpListener,
    workers: Vec<(EventLoop, mpsc::Sender<Handed>)>,
}

impl Distributor {
    /// Of what this socket accepts.
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            workers: Vec::new(),
        }
    }

    /// One more event loop takes part.
    pub(super) fn over(&mut self, event_loop: &EventLoop) -> io::Result<Arrivals> {
        let (sender, handed) = mpsc::channel(WAITING);
        self.workers.push((event_loop.clone(), sender));
        Ok(Arrivals::Shared {
            address: self.listener.local_addr()?,
            handed: Mutex::new(handed),
        })
    }

    /// Accepts until the servers of the event loops want no more connections.
    pub(super) async fn run(self) {
        let Some((_, first)) = self.workers.first() else {
            return;
        };
        loop {
            let accepted = tokio::select! {
                biased;
                // They stop together; the socket closes at once, so that nobody waits in it in vain.
                () = first.closed() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, from)| Ok((stream.into_std()?, from))) {
                Ok((stream, from)) => self.hand(stream, from).await,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn hand(&self, stream: IdleStream, from: SocketAddr) {
        let workers = self.workers.iter();
        let Some((event_loop, sender)) = workers.min_by_key(|(each, _)| each.connections()) else {
            return;
        };
        let slot = event_loop.take_slot();
        // It fails when the server stops; then the connection is closed like all others.
        let _ = sender.send(Handed { stream, from, slot }).await;
    }
}
