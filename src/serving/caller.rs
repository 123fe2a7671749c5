//! Who sends a request, so that one client alone cannot have a good version taken back.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use super::request::RequestContext;

/// Different in each process: no client can choose a name or a port that collides with another's.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Who sends a request, as far as that is known. Cheap to copy; names and addresses are only told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// A verified name.
    name: Option<u64>,
    /// The network that it sends from.
    network: Option<u64>,
    /// Its connection.
    connection: Option<u64>,
}

impl Caller {
    /// A caller that proved to be `name`, in `network`, on the connection from `peer`.
    pub fn new(name: Option<&str>, network: Option<IpAddr>, peer: Option<SocketAddr>) -> Self {
        Self {
            name: name.map(|name| HASHER.hash_one(("name", name))),
            network: network.map(|network| HASHER.hash_one(("network", network))),
            connection: peer.map(|peer| HASHER.hash_one(("connection", peer))),
        }
    }

    /// The caller that this task works for.
    pub fn current() -> Self {
        RequestContext::caller()
    }

    /// The key under which it takes turns with others.
    pub fn turn(self) -> u64 {
        self.key(|_| false)
    }

    /// Its connection, 0 when there is none.
    pub(super) fn connection(self) -> u64 {
        self.connection.unwrap_or(0)
    }

    /// The key under which its failures are kept: its name; else its connection, if it is known from before; else the
    /// network, so that connections opened by the dozen are still one caller.
    pub(super) fn key(self, is_known: impl Fn(u64) -> bool) -> u64 {
        let connection = self.connection.filter(|connection| is_known(*connection));
        self.name.or(connection).or(self.network).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: Option<&str>, peer: &str) -> Caller {
        let peer: SocketAddr = peer.parse().unwrap();
        Caller::new(name, Some(peer.ip()), Some(peer))
    }

    #[test]
    fn a_name_goes_before_a_known_connection_and_that_before_the_network() {
        let one = caller(None, "10.0.0.1:1000");
        let other = caller(None, "10.0.0.1:2000");
        assert_eq!(one.key(|_| false), other.key(|_| false));
        assert_ne!(one.key(|_| true), other.key(|_| true));
        let far = caller(None, "10.0.0.2:1000");
        assert_ne!(one.key(|_| false), far.key(|_| false));
        let (here, there) = (
            caller(Some("a"), "10.0.0.1:1"),
            caller(Some("a"), "10.0.0.9:2"),
        );
        assert_eq!(here.key(|_| true), there.key(|_| false));
    }

    #[tokio::test]
    async fn a_task_knows_for_whom_it_works() {
        let one = caller(None, "10.0.0.1:1000");
        let context = RequestContext::from(one);
        assert_eq!(context.scope(async { Caller::current() }).await, one);
        assert_eq!(Caller::current(), Caller::default());
    }
}
