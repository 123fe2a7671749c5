//! How much one client may ask for: requests a second, and requests at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Extensions;
use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::telemetry::Metrics;

/// In the extensions of a request: where its connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

impl ClientAddress {
    /// The network of one client.
    pub fn network(self) -> IpAddr {
        place(self.0.ip())
    }
}

/// In the extensions of a request: who its client has proved to be, as [`Identity::id`](super::auth::Identity::id) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(pub Arc<str>);

/// What one client may have; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientLimits {
    /// Requests a second.
    pub rate: Option<NonZeroU32>,
    /// Requests at once after a pause; as many as a second's when it is `None`.
    pub burst: Option<NonZeroU32>,
    /// Requests at a time.
    pub concurrency: Option<usize>,
}

/// Whom limits are for: whoever proved to be somebody, else a place of the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Name(Arc<str>),
    Address(IpAddr),
}

/// The clients of a server.
#[derive(Debug)]
pub struct Clients {
    rate: Option<DefaultKeyedRateLimiter<Key>>,
    concurrency: Option<usize>,
    in_work: Mutex<HashMap<Key, usize>>,
    checked: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Leave to work on one request.
#[derive(Debug)]
pub(super) struct Admitted<'a>(Option<(&'a Clients, Key)>);

/// A client asks for too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct TooMuch {
    message: String,
    /// When it may try again.
    pub(super) wait: Duration,
}

impl TooMuch {
    /// It may try again after `wait`.
    pub(super) fn new(message: &str, wait: Duration) -> Self {
        let message = format!("this client sends {message}");
        Self { message, wait }
    }
}

/// Clients that were not heard of for a while are forgotten each time that so many requests have come.
const SWEEP: usize = 1024;

impl Clients {
    /// `None` when there is no limit.
    pub fn new(limits: ClientLimits, metrics: Arc<Metrics>) -> Option<Self> {
        if limits.rate.is_none() && limits.concurrency.is_none() {
            return None;
        }
        let quota = limits
            .rate
            .map(|rate| Quota::per_second(rate).allow_burst(limits.burst.unwrap_or(rate)));
        Some(Self {
            rate: quota.map(RateLimiter::keyed),
            concurrency: limits.concurrency,
            in_work: Mutex::default(),
            checked: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Lets a request of this client in.
    pub(super) fn admit(&self, client: &Extensions) -> Result<Admitted<'_>, TooMuch> {
        let Some(key) = Key::from_extensions(client) else {
            return Ok(Admitted(None));
        };
        if let Some(rate) = &self.rate {
            self.sweep(rate);
            if let Err(until) = rate.check_key(&key) {
                let wait = until.wait_time_from(rate.clock().now());
                return Err(self.refuse(
                    "client_rate",
                    wait,
                    "more requests a second than `limits.client_rate`",
                ));
            }
        }
        let Some(most) = self.concurrency else {
            return Ok(Admitted(None));
        };
        let mut in_work = self.in_work.lock();
        let count = in_work.entry(key.clone()).or_default();
        if *count >= most {
            let message = "more requests at a time than `limits.client_concurrency`";
            return Err(self.refuse("client_concurrency", Duration::ZERO, message));
        }
        *count += 1;
        Ok(Admitted(Some((self, key))))
    }

    fn refuse(&self, reason: &'static str, wait: Duration, message: &str) -> TooMuch {
        self.metrics.client_refused(reason);
        TooMuch::new(message, wait)
    }

    /// Whoever changes their address must not fill the memory.
    fn sweep(&self, rate: &DefaultKeyedRateLimiter<Key>) {
        let count = self.checked.fetch_add(1, Ordering::Relaxed);
        if count % SWEEP == SWEEP - 1 {
            rate.retain_recent();
            rate.shrink_to_fit();
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let Some((clients, key)) = self.0.take() else {
            return;
        };
        let mut in_work = clients.in_work.lock();
        if let Some(count) = in_work.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                in_work.remove(&key);
            }
        }
    }
}

impl Key {
    /// Of the client of a request.
    pub(super) fn from_extensions(client: &Extensions) -> Option<Self> {
        if let Some(ClientName(name)) = client.get() {
            return Some(Self::Name(Arc::clone(name)));
        }
        let address: &ClientAddress = client.get()?;
        Some(Self::Address(address.network()))
    }
}

/// One customer of a provider has 2^64 addresses of IPv6.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::DURATION_BUCKETS;

    fn clients(limits: ClientLimits) -> Clients {
        Clients::new(limits, Arc::new(Metrics::new(&DURATION_BUCKETS))).unwrap()
    }

    fn from(address: &str) -> Extensions {
        let mut client = Extensions::new();
        client.insert(ClientAddress(
            (address.parse::<IpAddr>().unwrap(), 1).into(),
        ));
        client
    }

    #[test]
    fn as_many_requests_as_the_burst_are_let_in_and_one_more_is_told_to_wait() {
        let clients = clients(ClientLimits {
            rate: NonZeroU32::new(1),
            burst: NonZeroU32::new(3),
            concurrency: None,
        });
        for _ in 0..3 {
            assert!(clients.admit(&from("10.0.0.1")).is_ok());
        }
        let refused = clients.admit(&from("10.0.0.1")).unwrap_err();
        assert!(!refused.wait.is_zero(), "{refused:?}");
        assert!(clients.admit(&from("10.0.0.2")).is_ok(), "another client");
        assert!(clients.admit(&Extensions::new()).is_ok(), "nobody");
    }

    #[test]
    fn as_many_requests_at_a_time_as_may_be_and_the_next_when_one_has_ended() {
        let clients = clients(ClientLimits {
            concurrency: Some(2),
            ..ClientLimits::default()
        });
        let client = from("2001:db8::1");
        let first = clients.admit(&client).unwrap();
        let _second = clients.admit(&from("2001:db8::ffff")).unwrap();
        assert!(clients.admit(&client).is_err(), "the same network of IPv6");
        let _other = clients.admit(&from("2001:db8:0:1::1")).unwrap();
        drop(first);
        let _third = clients.admit(&client).unwrap();
        drop(_other);
        assert_eq!(clients.in_work.lock().len(), 1, "who has gone is forgotten");
    }

    #[test]
    fn a_name_counts_more_than_the_address() {
        let clients = clients(ClientLimits {
            concurrency: Some(1),
            ..ClientLimits::default()
        });
        let mut named = from("10.0.0.1");
        named.insert(ClientName("ci".into()));
        let _first = clients.admit(&named).unwrap();
        let _second = clients.admit(&from("10.0.0.1")).unwrap();
        let mut elsewhere = from("10.0.0.9");
        elsewhere.insert(ClientName("ci".into()));
        assert!(clients.admit(&elsewhere).is_err());
    }

    #[test]
    fn clients_that_never_come_again_are_forgotten() {
        let clients = clients(ClientLimits {
            rate: NonZeroU32::new(1_000_000),
            ..ClientLimits::default()
        });
        for number in 0..20 * SWEEP {
            let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
            assert!(clients.admit(&from(&format!("10.{a}.{b}.{c}"))).is_ok());
        }
        let known = clients.rate.as_ref().unwrap().len();
        assert!(known <= 4 * SWEEP, "{known}");
    }
}
