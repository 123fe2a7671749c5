//! Tells the manager when the last handle of a version that leaves is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::batching::Batcher;
use crate::model::{ModelId, Package};

/// Reports its own drop. A version gets one when it begins to leave, so that those that stay pay nothing for it.
#[derive(Debug)]
pub struct Lease {
    released: mpsc::UnboundedSender<Released>,
    id: ModelId,
    number: u64,
}

/// The last handle of a version that leaves is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Which version.
    pub id: ModelId,
    /// The number of its lease: the same version may leave more than once.
    pub number: u64,
}

/// Issues leases; all of them report to the same receiver.
#[derive(Debug)]
pub struct Leases {
    released: mpsc::UnboundedSender<Released>,
    next: AtomicU64,
}

/// The parts of a servable that take long to free. While someone keeps them, dropping the servable itself is cheap.
#[derive(Debug)]
pub struct Remains {
    _batcher: Batcher,
    _package: Arc<Package>,
}

impl Leases {
    /// Leases, and where they report to. The channel has no bound of its own: it never holds more than one message for
    /// each version that leaves.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Released>) {
        let (released, receiver) = mpsc::unbounded_channel();
        let next = AtomicU64::new(1);
        (Self { released, next }, receiver)
    }

    /// A lease for a version that leaves.
    pub fn issue(&self, id: ModelId) -> Lease {
        Lease {
            released: self.released.clone(),
            id,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Lease {
    /// Tells it from earlier leases of the same version.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let released = Released {
            id: self.id.clone(),
            number: self.number,
        };
        // Without a manager the process ends, and its memory with it.
        let _ = self.released.send(released);
    }
}

impl Remains {
    pub(super) fn new(batcher: Batcher, package: Arc<Package>) -> Self {
        Self {
            _batcher: batcher,
            _package: package,
        }
    }
}
