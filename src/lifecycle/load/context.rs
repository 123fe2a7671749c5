//! What a load reports to the manager while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::error::LoadError;
use super::request::Loaded;
use crate::engine::CancelToken;
use crate::model::ModelId;
use crate::serving::VersionState;
use crate::telemetry::Trace;

/// The way from a load to the manager.
#[derive(Clone)]
pub struct LoadContext {
    id: ModelId,
    ticket: u64,
    events: mpsc::Sender<LoadEvent>,
    cancel: CancelToken,
    clock: Arc<Clock>,
}

/// A message of one load to the manager.
pub(crate) struct LoadEvent {
    pub(crate) id: ModelId,
    /// Tells events of this load from those of an earlier one.
    pub(crate) ticket: u64,
    pub(crate) update: LoadUpdate,
}

/// What happened to a load.
pub(crate) enum LoadUpdate {
    /// It entered a state.
    Entered(VersionState),
    /// It waits for memory before it compiles.
    NeedsMemory {
        bytes: u64,
        reply: oneshot::Sender<Result<(), LoadError>>,
    },
    /// It ended.
    Ended(LoadEnd),
}

/// How a load ended.
pub(crate) struct LoadEnd {
    pub(crate) result: Result<Loaded, LoadError>,
    pub(crate) phases: Phases,
    /// The trace of the load, where traces are kept; what follows belongs to it.
    pub(crate) trace: Option<Trace>,
}

/// How long each phase took.
pub(crate) type Phases = Vec<(&'static str, Duration)>;

impl std::fmt::Debug for LoadContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadContext")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl LoadContext {
    pub(super) fn new(
        (id, ticket): (ModelId, u64),
        events: mpsc::Sender<LoadEvent>,
        cancel: CancelToken,
    ) -> Self {
        Self {
            id,
            ticket,
            events,
            cancel,
            clock: Arc::default(),
        }
    }

    /// Stops the load.
    pub fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// Reports the state that the load enters.
    pub async fn enter(&self, state: VersionState) {
        self.clock.enter(&state);
        let _ = self.send(LoadUpdate::Entered(state)).await;
    }

    /// The same from a thread that may block.
    pub(super) fn enter_blocking(&self, state: VersionState) {
        self.clock.enter(&state);
        let _ = self.send_blocking(LoadUpdate::Entered(state));
    }

    /// Waits until the load may take this much memory.
    ///
    /// # Errors
    /// [`LoadError::Memory`] when it never may, [`LoadError::Cancelled`].
    pub async fn reserve_memory(&self, bytes: u64) -> Result<(), LoadError> {
        let (reply, granted) = oneshot::channel();
        let request = LoadUpdate::NeedsMemory { bytes, reply };
        self.send(request).await?;
        granted.await.unwrap_or(Err(LoadError::Cancelled))
    }

    /// The same from a thread that may block.
    pub(super) fn reserve_memory_blocking(&self, bytes: u64) -> Result<(), LoadError> {
        let (reply, granted) = oneshot::channel();
        let request = LoadUpdate::NeedsMemory { bytes, reply };
        self.send_blocking(request)?;
        granted.blocking_recv().unwrap_or(Err(LoadError::Cancelled))
    }

    /// # Errors
    /// When the manager is gone: the model is not needed any more.
    pub(super) async fn send(&self, update: LoadUpdate) -> Result<(), LoadError> {
        let sent = self.events.send(self.event(update)).await;
        sent.map_err(|_| LoadError::Cancelled)
    }

    fn send_blocking(&self, update: LoadUpdate) -> Result<(), LoadError> {
        let sent = self.events.blocking_send(self.event(update));
        sent.map_err(|_| LoadError::Cancelled)
    }

    fn event(&self, update: LoadUpdate) -> LoadEvent {
        LoadEvent {
            id: self.id.clone(),
            ticket: self.ticket,
            update,
        }
    }

    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }
}

/// Takes the time of each state that a load enters.
#[derive(Default)]
pub(super) struct Clock(Mutex<Vec<(&'static str, Instant)>>);

impl Clock {
    pub(super) fn enter(&self, state: &VersionState) {
        let phase = match state {
            VersionState::Fetching => "fetch",
            VersionState::Verifying => "verify",
            VersionState::Compiling => "compile",
            VersionState::WarmingUp => "warm_up",
            _ => return,
        };
        let mut entered = self.0.lock();
        if entered.last().is_none_or(|(last, _)| *last != phase) {
            entered.push((phase, Instant::now()));
        }
    }

    /// Comes back when a phase takes longer than it may, with the phase.
    pub(super) async fn overdue(&self, limit: Duration) -> &'static str {
        loop {
            let last = self.0.lock().last().copied();
            let (phase, since) = last.unwrap_or_else(|| ("verify", Instant::now()));
            let end = since + limit;
            if Instant::now() >= end {
                return phase;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// A span of each phase; the last one ends now.
    pub(super) fn report(&self, trace: &Trace) {
        for (phase, start, end) in self.spans() {
            trace.child(phase, start).end_at(end);
        }
    }

    pub(super) fn phases(&self) -> Phases {
        let spans = self.spans().into_iter();
        spans
            .map(|(phase, start, end)| (phase, end - start))
            .collect()
    }

    /// Each phase with its beginning and its end; the last one ends now.
    fn spans(&self) -> Vec<(&'static str, Instant, Instant)> {
        let entered = self.0.lock();
        let ends = entered.iter().skip(1).map(|(_, at)| *at);
        let ends = ends.chain([Instant::now()]);
        let phases = entered.iter().zip(ends);
        phases
            .map(|((phase, start), end)| (*phase, *start, end))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_a_time_of_its_own() {
        let second = Duration::from_secs(1);
        let clock = Arc::new(Clock::default());
        clock.enter(&VersionState::Verifying);
        let began = Instant::now();
        let watched = Arc::clone(&clock);
        let overdue = tokio::spawn(async move {
            let phase = watched.overdue(10 * second).await;
            (phase, Instant::now() - began)
        });
        tokio::time::sleep(8 * second).await;
        clock.enter(&VersionState::Compiling);
        tokio::time::sleep(8 * second).await;
        // To say it again is no progress.
        clock.enter(&VersionState::Compiling);
        assert_eq!(overdue.await.unwrap(), ("compile", 18 * second));
    }
}
