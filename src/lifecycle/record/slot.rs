//! One version of a model: whether it is loaded, on its way, or why not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::CancelToken;
use crate::lifecycle::load::Phases;
use crate::lifecycle::policy::Phase;
use crate::registry::{Lease, Wanted};
use crate::serving::{FailureReason, Leases, Remains, Servable, VersionState};
use crate::telemetry::{Trace, VersionMetrics};

/// One version.
pub(crate) struct Slot {
    pub(crate) wanted: Wanted,
    pub(crate) status: Status,
    pub(crate) attempts: u32,
    /// Whether a person wants it tried although loads of it never returned.
    pub(crate) insisted: bool,
    /// How long the phases of its last load took.
    pub(crate) phases: Phases,
}

pub(crate) enum Status {
    New,
    Loading {
        ticket: u64,
        cancel: CancelToken,
        state: VersionState,
        /// Memory that it may take and has not been counted yet.
        reserved: u64,
    },
    Ready(OnStage),
    Draining(Leaving),
    Failed {
        reason: FailureReason,
        retry_at: Option<Instant>,
    },
    /// It is no ONNX package.
    Unsupported(FailureReason),
}

/// A loaded version.
pub(crate) struct OnStage {
    pub(crate) servable: Arc<Servable>,
    /// Keeps its files in the cache.
    pub(crate) files: Option<Lease>,
    pub(crate) footprint: u64,
    /// The trace of its load, until it is first published.
    pub(crate) trace: Option<Trace>,
}

/// A version that new requests no longer find, while earlier ones may still hold it.
pub(crate) struct Leaving {
    pub(crate) since: Instant,
    pub(crate) footprint: u64,
    pub(crate) metrics: Arc<VersionMetrics>,
    /// The number of its lease.
    lease: u64,
    /// Whether its last handle is gone.
    is_released: bool,
    /// Dropped by the manager and not by the last request: freeing a large model takes longer than a request may.
    _remains: Remains,
    _files: Option<Lease>,
}

impl OnStage {
    /// Gives up the manager's handle.
    pub(crate) fn leave(self, leases: &Leases, now: Instant) -> Leaving {
        let metrics = Arc::clone(self.servable.metrics());
        let lease = leases.issue(self.servable.id().clone());
        Leaving {
            since: now,
            footprint: self.footprint,
            metrics,
            lease: lease.number(),
            is_released: false,
            _remains: self.servable.leave(lease),
            _files: self.files,
        }
    }
}

impl Leaving {
    /// Whether nobody waits for it any longer.
    pub(crate) fn is_over(&self, timeout: Duration, now: Instant) -> bool {
        self.is_released || now >= self.since + timeout
    }

    /// Notes that its last handle is gone, when this is its lease.
    pub(super) fn release(&mut self, lease: u64) {
        self.is_released |= self.lease == lease;
    }
}

impl Slot {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            status: Status::New,
            attempts: 0,
            insisted: false,
            phases: Phases::new(),
        }
    }

    pub(crate) fn servable(&self) -> Option<&Arc<Servable>> {
        match &self.status {
            Status::Ready(stage) => Some(&stage.servable),
            _ => None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match &self.status {
            Status::New => Phase::New,
            Status::Loading { .. } => Phase::Loading,
            Status::Ready(_) => Phase::Ready,
            Status::Draining(_) => Phase::Draining,
            Status::Failed { retry_at, .. } => Phase::Failed(*retry_at),
            Status::Unsupported(_) => Phase::Failed(None),
        }
    }

    pub(super) fn state(&self) -> VersionState {
        match &self.status {
            Status::New => VersionState::New,
            Status::Loading { state, .. } => state.clone(),
            Status::Ready(_) => VersionState::Ready,
            Status::Draining(_) => VersionState::Draining,
            Status::Failed { reason, .. } => VersionState::Failed(reason.clone()),
            Status::Unsupported(reason) => VersionState::Unsupported(reason.clone()),
        }
    }

    /// Whether a server that starts need not wait for it any longer, although it may be tried again.
    pub(super) fn is_given_up(&self) -> bool {
        let patience = match &self.wanted {
            // Nobody is away for a moment who could bring the files.
            Wanted::Local(_) | Wanted::Unready(_) => 1,
            Wanted::Package(_) => PATIENCE,
        };
        match self.status {
            Status::New | Status::Loading { .. } => self.attempts > patience,
            Status::Failed { .. } => self.attempts >= patience,
            Status::Ready(_) | Status::Draining(_) | Status::Unsupported(_) => true,
        }
    }
}

pub(super) fn unready(reason: &str) -> FailureReason {
    let message = format!("the registry has no complete files of it: {reason}");
    FailureReason {
        label: "unready",
        detail: message.clone(),
        message,
        attempt: 0,
        retry_at: None,
    }
}

/// Failed attempts to get a package out of a registry that a server waits for before it is ready without it: some fifteen
/// seconds.
const PATIENCE: u32 = 5;
