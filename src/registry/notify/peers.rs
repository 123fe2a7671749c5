//! The other replicas of this server: a hint that one of them gets is passed on to all, so that none waits for its poll.
//!
//! A peer is a name with a port, and the name may stand for many addresses, as that of a headless Service does. The
//! delivery goes on as it came: peers share the secret, and prove its signature themselves.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::network::{self, NetworkConfig, NetworkError};
use crate::registry::notify::webhook::{DELIVERY_ID, SIGNATURE, TIMESTAMP};

/// Says that another replica passed it on: it goes no further.
pub(crate) const HOP: HeaderName = HeaderName::from_static("x-onstage-passed-on");

/// Maximum number of replicas that are notified.
const MOST_PEERS: usize = 256;

/// Deliveries that are being passed on at a time; more are left to the peers' own polls.
const AT_A_TIME: usize = 4;

/// Peers that are notified at the same time.
const CONNECTIONS: usize = 16;

/// For the look-up of a name, and for the answer of a peer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The headers that go on.
const PASSED: [&str; 3] = [DELIVERY_ID, TIMESTAMP, SIGNATURE];

/// Where a name and its port are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    scheme: &'static str,
    host: String,
    port: u16,
}

/// Whether this names a peer: `name:port`, or `https://name:port`.
///
/// # Errors
/// What was expected.
pub(crate) fn check_peer(text: &str) -> Result<(), PeerError> {
    Peer::parse(text).map(drop)
}

/// A text that names no peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no peers: expected a host and a port, such as `onstage-headless:8080` or `https://onstage-headless:8080`"
)]
pub(crate) struct PeerError(String);

/// Why a replica did not take a delivery.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("it answered {0}")]
    Status(StatusCode),
    /// In the words of the transport.
    #[error("{0}")]
    Unreachable(String),
}

impl Peer {
    fn parse(text: &str) -> Result<Self, PeerError> {
        let expected = || PeerError(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            None | Some(("http", _)) => ("http", text.trim_start_matches("http://")),
            Some(("https", rest)) => ("https", rest),
            Some(_) => return Err(expected()),
        };
        let (host, port) = rest
            .trim_end_matches('/')
            .rsplit_once(':')
            .ok_or_else(expected)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0);
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
        match port {
            Some(port) if is_host => Ok(Self {
                scheme,
                host: host.to_owned(),
                port,
            }),
            _ => Err(expected()),
        }
    }

    async fn addresses(&self) -> Vec<SocketAddr> {
        let found = timeout(PATIENCE, tokio::net::lookup_host((&*self.host, self.port))).await;
        match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(peer = self.host, %error, "the peers are not found; they hear of it by their own polls");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(
                    peer = self.host,
                    "the peers are not found in time; they hear of it by their own polls"
                );
                Vec::new()
            }
        }
    }
}

/// The peers of this replica.
#[derive(Debug)]
pub(crate) struct Peers {
    peers: Vec<Peer>,
    /// The path of the webhook, the base path included.
    path: String,
    network: NetworkConfig,
    turns: Arc<Semaphore>,
}

/// One replica, by its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Replica {
    address: SocketAddr,
    scheme: &'static str,
    host: String,
}

impl Peers {
    /// The peers that were named; `None` when there are none.
    ///
    /// # Errors
    /// When a text names none.
    pub(crate) fn new(
        names: &[String],
        path: String,
        network: NetworkConfig,
    ) -> anyhow::Result<Option<Self>> {
        if names.is_empty() {
            return Ok(None);
        }
        let peers = names.iter().map(|name| Peer::parse(name)).collect();
        let peers = match peers {
            Ok(peers) => peers,
            Err(error) => bail!("invalid `registry.peers`: {error}"),
        };
        Ok(Some(Self {
            peers,
            path,
            network,
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
        }))
    }

    /// Passes a delivery on, in the background, unless a peer did so with it.
    pub(crate) fn pass_on(self: &Arc<Self>, headers: &HeaderMap, body: &Bytes) {
        if headers.contains_key(HOP) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            tracing::warn!(
                "too many hints at a time: the peers hear of this one by their own polls"
            );
            return;
        };
        let mut passed = HeaderMap::new();
        for name in PASSED {
            if let Some(value) = headers.get(name) {
                passed.insert(HeaderName::from_static(name), value.clone());
            }
        }
        passed.insert(HOP, header::HeaderValue::from_static("1"));
        let (peers, body) = (Arc::clone(self), body.clone());
        tokio::spawn(async move {
            peers.notify_all(&passed, &body).await;
            drop(turn);
        });
    }

    async fn notify_all(&self, headers: &HeaderMap, body: &Bytes) {
        let mut replicas = BTreeSet::new();
        for peer in &self.peers {
            replicas.extend(peer.addresses().await.into_iter().map(|address| Replica {
                address,
                scheme: peer.scheme,
                host: peer.host.clone(),
            }));
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut tasks = JoinSet::new();
        let count = replicas.len().min(MOST_PEERS);
        for replica in replicas.into_iter().take(MOST_PEERS) {
            let request = self.request(&replica, headers, body);
            let places = Arc::clone(&places);
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                let delivered = match request {
                    Ok(request) => deliver(request).await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = delivered {
                    let error = error.to_string();
                    tracing::warn!(peer = %replica.address, error, "a hint was not passed on; the peer hears of it by its own poll");
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        tracing::debug!(peers = count, "a hint was passed on");
    }

    /// By the address, and under the name, which is in the peers' certificate.
    fn request(
        &self,
        replica: &Replica,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<reqwest::RequestBuilder, NetworkError> {
        let (host, address) = (&replica.host, replica.address);
        let client = network::client_with(&self.network, |builder| {
            builder.no_proxy().timeout(PATIENCE).resolve(host, address)
        })?;
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let url = format!(
            "{}://{shown}:{}{}",
            replica.scheme,
            address.port(),
            self.path
        );
        let request = client.post(url).headers(headers.clone());
        Ok(request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.clone()))
    }
}

async fn deliver(request: reqwest::RequestBuilder) -> Result<(), DeliveryError> {
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(DeliveryError::Status(answer.status())),
        Err(error) => Err(DeliveryError::Unreachable(network::reason(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_and_a_port() {
        let peer = |scheme, host: &str, port| {
            let host = host.to_owned();
            Ok(Peer { scheme, host, port })
        };
        assert_eq!(
            Peer::parse("a-headless:8080"),
            peer("http", "a-headless", 8080)
        );
        assert_eq!(Peer::parse("http://a.b.svc:1/"), peer("http", "a.b.svc", 1));
        assert_eq!(Peer::parse("https://a:443"), peer("https", "a", 443));
        assert_eq!(Peer::parse("[::1]:8080"), peer("http", "::1", 8080));
        for text in [
            "",
            "a",
            ":1",
            "a:",
            "a:0",
            "a:x",
            "ftp://a:1",
            "a/b:1",
            "me@a:1",
        ] {
            let error = Peer::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("expected a host and a port"),
                "{text}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses() {
        let peer = Peer::parse("127.0.0.1:81").unwrap();
        let expected = SocketAddr::from(([127, 0, 0, 1], 81));
        assert_eq!(peer.addresses().await, [expected]);
        assert!(
            Peer::parse("localhost:81")
                .unwrap()
                .addresses()
                .await
                .contains(&expected)
        );
    }
}
