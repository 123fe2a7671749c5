//! What is seen of a version on probation, and the version that stands in for it meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::caller::Caller;
use super::evidence::{Evidence, Failure, Record};
use super::servable::{Servable, ServableHandle};

/// A version on probation: its requests are counted by caller, and those that it fails are run again on the version
/// that served before.
#[derive(Debug)]
pub struct Observation {
    /// Weak: nothing is kept loaded by being a stand-in.
    understudy: Weak<Servable>,
    /// Connections that the version before had answered.
    known: Known,
    record: Mutex<Record>,
    /// Present when nothing that the loader tried was answered.
    gate: Option<Gate>,
    /// Wakes whoever judges.
    news: Arc<Notify>,
}

/// Runs of a version in doubt that must succeed before it serves more than one request at a time.
const PROOFS: u32 = 10;

/// Lets one request at a time through, until enough of them have succeeded.
#[derive(Debug, Default)]
struct Gate {
    is_taken: AtomicBool,
    successes: AtomicU32,
}

/// The way through a gate, for as long as it is held.
#[derive(Debug)]
pub(super) struct Pass(Option<Arc<Observation>>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.0.as_ref().and_then(|seen| seen.gate.as_ref()) {
            gate.is_taken.store(false, Ordering::Release);
        }
    }
}

/// Nobody waits longer for the version before than this part of its time.
const RESERVED_PART: u32 = 8;

impl Observation {
    /// An observation beside `understudy`, which notifies `news` of each request that it counts. A version `in_doubt` has
    /// yet to succeed at all.
    pub fn new(understudy: &ServableHandle, in_doubt: bool, news: Arc<Notify>) -> Self {
        Self {
            understudy: Arc::downgrade(understudy),
            known: understudy.known().clone(),
            record: Mutex::default(),
            gate: in_doubt.then(Gate::default),
            news,
        }
    }

    /// What was counted so far.
    pub fn evidence(&self) -> Evidence {
        self.record.lock().evidence()
    }

    /// Whether it has yet to succeed as often as a version in doubt must.
    pub fn is_in_doubt(&self) -> bool {
        let open = |gate: &Gate| gate.successes.load(Ordering::Relaxed) >= PROOFS;
        self.gate.as_ref().is_some_and(|gate| !open(gate))
    }

    /// The version before, while it is loaded.
    pub(super) fn understudy(&self) -> Option<ServableHandle> {
        self.understudy.upgrade()
    }

    /// Lets a request through to the new version; `None` when the version before should answer it.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Pass> {
        let Some(gate) = self.gate.as_ref().filter(|_| self.is_in_doubt()) else {
            return Some(Pass(None));
        };
        let is_free = !gate.is_taken.swap(true, Ordering::Acquire);
        is_free.then(|| Pass(Some(Arc::clone(self))))
    }

    /// How much of a request's time is kept for the version before.
    pub(super) fn reserve(understudy: &Servable, timeout: Duration) -> Duration {
        let single = understudy.batcher().single_cost().unwrap_or_default();
        let wished = Duration::from_millis(50) + single * 8;
        wished.min(timeout / RESERVED_PART)
    }

    fn key(&self, caller: Caller) -> u64 {
        caller.key(|connection| self.known.holds(connection))
    }

    /// The new version answered.
    pub(super) fn succeeded(&self, caller: Caller) {
        if let Some(gate) = &self.gate {
            gate.successes.fetch_add(1, Ordering::Relaxed);
        }
        self.record.lock().succeeded(self.key(caller));
        self.news.notify_one();
    }

    /// The new version failed a request; `answered` says whether the version before answered it, when that was tried.
    pub(super) fn failed(&self, caller: Caller, failure: Failure, answered: Option<bool>) {
        let key = self.key(caller);
        self.record.lock().failed(key, failure, answered);
        self.news.notify_one();
    }
}

#[cfg(test)]
impl Observation {
    /// Counts requests of callers that are alike: so many that succeeded, then so many that failed in the engine.
    pub(crate) fn count(&self, succeeded: usize, failed: usize) {
        for _ in 0..succeeded {
            self.succeeded(Caller::default());
        }
        for _ in 0..failed {
            let failure = Failure {
                cause: super::evidence::Cause::Engine(crate::telemetry::EngineFailure::Run),
                process: None,
                message: "6 is out of range".to_owned(),
            };
            self.failed(Caller::default(), failure, Some(true));
        }
    }
}

/// Connections that were answered lately: few, of a fixed number, later ones in place of earlier ones. Each is the upper
/// part of what it is known by, and the second in which it was last answered.
#[derive(Debug)]
pub(super) struct Known(Box<[AtomicU64]>);

const KNOWN: u64 = 256;

/// The bits of the second.
const SECOND: u64 = (1 << 24) - 1;

/// A connection that was not heard of for so many seconds has gone.
const LATELY: u64 = 10;

impl Default for Known {
    fn default() -> Self {
        Self((0..KNOWN).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Clone for Known {
    fn clone(&self) -> Self {
        let load = |slot: &AtomicU64| AtomicU64::new(slot.load(Ordering::Relaxed));
        Self(self.0.iter().map(load).collect())
    }
}

impl Known {
    fn slot(&self, connection: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(connection % KNOWN).ok()?)
    }

    /// A request on this connection was answered in this second.
    pub(super) fn note(&self, caller: Caller, second: u64) {
        let connection = caller.connection();
        let value = connection & !SECOND | second & SECOND;
        if connection != 0
            && let Some(slot) = self.slot(connection)
            && slot.load(Ordering::Relaxed) != value
        {
            slot.store(value, Ordering::Relaxed);
        }
    }

    fn holds(&self, connection: u64) -> bool {
        let same =
            |slot: &AtomicU64| slot.load(Ordering::Relaxed) & !SECOND == connection & !SECOND;
        connection != 0 && self.slot(connection).is_some_and(same)
    }

    /// How many connections were answered lately.
    pub(super) fn lately(&self, second: u64) -> usize {
        let slots = self.0.iter().map(|slot| slot.load(Ordering::Relaxed));
        let is_recent = |value: &u64| {
            *value != 0 && (second & SECOND).saturating_sub(*value & SECOND) <= LATELY
        };
        slots.filter(is_recent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(port: u16) -> Caller {
        let peer = std::net::SocketAddr::from(([10, 0, 0, 1], port));
        Caller::new(None, None, Some(peer))
    }

    #[test]
    fn connections_are_known_once_they_were_answered() {
        let known = Known::default();
        assert!(!known.holds(caller(1).connection()));
        known.note(caller(1), 0);
        assert!(known.clone().holds(caller(1).connection()));
        for port in 2..5000 {
            known.note(caller(port), 7);
        }
        assert_eq!(known.0.len(), 256);
        assert!(known.holds(caller(4999).connection()));
        assert!(!known.holds(Caller::default().connection()));
    }

    #[test]
    fn a_connection_that_is_silent_for_long_is_not_there() {
        let known = Known::default();
        known.note(Caller::default(), 1);
        assert_eq!(known.lately(1), 0);
        known.note(caller(1), 1);
        assert_eq!((known.lately(11), known.lately(12)), (1, 0));
        known.note(caller(1), 12);
        known.note(caller(1), 13);
        assert_eq!(known.lately(14), 1);
    }
}
