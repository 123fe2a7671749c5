//! The reconciler: brings what is served to what is wanted, one action at a time, whatever fails on the way.
//!
//! One task owns all state and takes messages; loading has threads of its own. Level-triggered: it never acts on a
//! change, only on the difference between what is wanted and what is there.
//!
//! ```text
//! DesiredState ──► Manager ──policy──► load │ publish │ drain │ free
//!                    ▲   │
//!              Event │   └──► Catalog (what requests see), metrics, history
//!                  jobs
//! ```

mod control;
mod events;
mod publish;
mod room;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use control::ManagerHandle;
pub(super) use events::Event;

use self::control::{Board, Reply, Waiting};
use self::room::RoomRequest;
use super::background::Background;
use super::beginning::Beginning;
use super::job::{Gate, Job, Opened, Supply, Workshop};
use super::loader::{LoadError, Loader};
use super::policy::{Action, next_action};
use super::record::{ModelOptions, Record, Slot, Status};
use crate::jitter::jittered;
use crate::machine;
use crate::model::{ModelId, ModelName, Package, Version};
use crate::registry::{DesiredState, PastRuns, Served};
use crate::serving::{AdminError, Catalog, Cause, FailureReason, VersionState};
use crate::telemetry::{Metrics, Tracer, VersionMetrics};

/// What a manager works with.
pub struct ManagerParts {
    /// Makes servables.
    pub loader: Loader,
    /// Gets packages that are not on this machine yet.
    pub supply: Option<Arc<dyn Supply>>,
    /// What earlier runs left, and the next one will find.
    pub past: Option<Arc<dyn PastRuns>>,
    /// What requests see.
    pub catalog: Arc<Catalog>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Where loads are traced.
    pub tracer: Tracer,
    /// What the operator chose for a model.
    pub options: Box<dyn Fn(&ModelName) -> ModelOptions + Send + Sync>,
    /// Bytes that all models may take together.
    pub memory_budget: Option<u64>,
    /// How long a version that leaves waits for its last requests.
    pub drain_timeout: Duration,
}

impl std::fmt::Debug for ManagerParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerParts").finish_non_exhaustive()
    }
}

/// How many versions compile at a time.
const COMPILERS: usize = 4;

/// How often something that cannot wake us is looked at: requests of a version that drains, or is on probation.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A version's series stay this long after it is gone, so that the last values are scraped.
const SERIES_LINGER: Duration = Duration::from_secs(600);

/// The wait before the second attempt; it doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A fleet must not come back all at once.
const JITTER: f64 = 0.25;

/// See the module.
pub struct Manager {
    records: BTreeMap<ModelName, Record>,
    workshop: Workshop,
    parts: Parts,
    events: mpsc::Receiver<Event>,
    desired: watch::Receiver<DesiredState>,
    desires_end: bool,
    opened: HashMap<ModelId, Opened>,
    /// What served before this process began; each model takes its own.
    served: BTreeMap<ModelName, Served>,
    waiting: Vec<RoomRequest>,
    /// Who waits to hear how a manual swap went.
    answers: Vec<Waiting>,
    /// What has been decided since the catalog was last shown, and whom to tell.
    outcomes: Vec<(Reply, Result<(), AdminError>)>,
    next_ticket: u64,
    board: Arc<Mutex<Board>>,
    settled: watch::Sender<u64>,
    stop: CancellationToken,
    known: bool,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

/// The parts that stay with the manager.
struct Parts {
    past: Option<Arc<dyn PastRuns>>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    options: Box<dyn Fn(&ModelName) -> ModelOptions + Send + Sync>,
    memory_budget: Option<u64>,
    drain_timeout: Duration,
}

impl Manager {
    /// A manager and the way to talk to it. `opened` are packages of `desired` that were opened already, or could
    /// not be. Reads what earlier runs left.
    pub fn new(
        parts: ManagerParts,
        desired: watch::Receiver<DesiredState>,
        opened: Vec<(ModelId, Opened)>,
        stop: CancellationToken,
    ) -> (Self, ManagerHandle) {
        let (sender, events) = mpsc::channel(1024);
        let board = Arc::new(Mutex::new(Board::default()));
        let (settled, progress) = watch::channel(0);
        let places = machine::threads().clamp(1, COMPILERS);
        let workshop = Workshop {
            loader: Arc::new(parts.loader),
            supply: parts.supply,
            past: parts.past.clone(),
            slots: Arc::new(Semaphore::new(places)),
            places: u32::try_from(places).unwrap_or(1),
            events: sender.clone(),
            tracer: parts.tracer,
            background: Background::default(),
        };
        let supply = workshop.supply.clone();
        let handle = ManagerHandle::new(sender, Arc::clone(&board), progress, supply);
        let manager = Self {
            records: BTreeMap::new(),
            workshop,
            served: { parts.past.as_ref() }.map_or_else(BTreeMap::new, |past| past.served()),
            parts: Parts {
                past: parts.past,
                catalog: parts.catalog,
                metrics: parts.metrics,
                options: parts.options,
                memory_budget: parts.memory_budget,
                drain_timeout: parts.drain_timeout,
            },
            events,
            desired,
            desires_end: false,
            opened: opened.into_iter().collect(),
            waiting: Vec::new(),
            answers: Vec::new(),
            outcomes: Vec::new(),
            next_ticket: 0,
            board,
            settled,
            stop,
            known: false,
        };
        (manager, handle)
    }

    /// Runs until the process stops.
    pub async fn run(mut self) {
        self.adopt();
        let mut batch = Vec::new();
        loop {
            self.reconcile();
            let wake = self.next_look();
            tokio::select! {
                () = self.stop.cancelled() => return self.end(),
                changed = self.desired.changed(), if !self.desires_end => match changed {
                    Ok(()) => self.adopt(),
                    // Nobody will want anything else; what is there is served on.
                    Err(_) => self.desires_end = true,
                },
                received = self.events.recv_many(&mut batch, 256) => {
                    if received == 0 {
                        return self.end();
                    }
                    for event in batch.drain(..) {
                        self.handle(event);
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes what is wanted now.
    fn adopt(&mut self) {
        let desired = self.desired.borrow_and_update().clone();
        for (name, record) in &mut self.records {
            let wish = desired.models.get(name);
            if record.desired.as_ref() != wish {
                // The registry has moved on: a manual decision was about what it said before.
                if record.hold.take().is_some() {
                    tracing::info!(model = %name, "the registry changed: the hold is over");
                }
                record.desired = wish.cloned();
                record.cause = Cause::Registry;
                record.forget_changed_packages();
            }
        }
        let started = self.known;
        for (name, wish) in desired.models {
            self.records.entry(name.clone()).or_insert_with(|| {
                let mut record = Record::new((self.parts.options)(&name));
                record.remembered = self.served.remove(&name);
                let served = record.remembered.clone();
                record.beginning = served.and_then(|served| Beginning::of(served, &wish));
                if let Some(beginning) = &record.beginning {
                    let (version, wanted) = (beginning.version(), wish.default);
                    let wanted = wanted.map(|wanted| wanted.to_string());
                    tracing::info!(model = %name, %version, wanted, "begins with the version that served before");
                }
                record.desired = Some(wish);
                if started {
                    record.cause = Cause::Registry;
                }
                record
            });
        }
        self.known = desired.complete;
    }

    /// Acts until nothing is left to do now, then shows what came of it.
    fn reconcile(&mut self) {
        self.settle();
        if self.answer_swaps() {
            self.settle();
        }
        self.tell_outcomes();
    }

    fn settle(&mut self) {
        let now = Instant::now();
        self.judge(now);
        let names: Vec<ModelName> = self.records.keys().cloned().collect();
        for name in &names {
            self.reconcile_model(name, now);
        }
        self.grant_room(now);
        if self.collect_drained(now) {
            // What has drained may be wanted again by now, and nothing else would come to say so.
            for name in &names {
                self.reconcile_model(name, now);
            }
        }
        self.show(now);
    }

    fn reconcile_model(&mut self, name: &ModelName, now: Instant) {
        // Each action changes what the next decision sees, so this ends; the bound is for a bug.
        for _ in 0..1000 {
            self.move_paths(name, now);
            let Some(record) = self.records.get_mut(name) else {
                return;
            };
            if record.end_beginning() {
                continue;
            }
            let desired = record.effective();
            match next_action(&record.view(&desired), now) {
                Action::Rest => return,
                Action::Load(version) => self.load(name, version),
                Action::Cancel(version) | Action::Forget(version) => self.drop_slot(name, version),
                Action::Unload(version) => self.unload(name, version, now),
            }
        }
        tracing::error!(model = %name, "the reconciler does not come to rest");
    }

    fn load(&mut self, name: &ModelName, version: Version) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let background = self
            .records
            .values()
            .any(|record| record.serving().is_some());
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let desired = record.effective();
        let last_good = record.last_good.as_ref();
        let again = last_good
            .filter(|(last, _)| *last == version)
            .map(|(_, wanted)| wanted);
        let Some(wanted) = desired.versions.get(&version).or(again).cloned() else {
            return;
        };
        let gate = record.gate(version);
        let cancel = CancellationToken::new();
        let slot = record
            .slots
            .entry(version)
            .or_insert_with(|| Slot::new(wanted.clone()));
        slot.wanted = wanted.clone();
        slot.attempts += 1;
        let insisted = std::mem::take(&mut slot.insisted);
        slot.status = Status::Loading {
            ticket,
            cancel: cancel.clone(),
            state: VersionState::New,
            reserved: 0,
        };
        let id = ModelId {
            name: name.clone(),
            version,
        };
        let job = Job {
            ticket,
            opened: self.opened.remove(&id),
            id,
            wanted,
            options: record.options.load.clone(),
            gate,
            insisted,
            cancel,
            background,
        };
        // Owned by the slot: leaving it cancels the job.
        tokio::spawn(job.run(self.workshop.clone()));
    }

    fn drop_slot(&mut self, name: &ModelName, version: Version) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        if let Some(Slot {
            status: Status::Loading { cancel, .. },
            ..
        }) = record.slots.remove(&version)
        {
            tracing::info!(model = %name, %version, "no longer wanted: loading it is cancelled");
            cancel.cancel();
        }
    }

    fn unload(&mut self, name: &ModelName, version: Version, now: Instant) {
        let Some(slot) = self
            .records
            .get_mut(name)
            .and_then(|record| record.slots.get_mut(&version))
        else {
            return;
        };
        slot.status = match std::mem::replace(&mut slot.status, Status::New) {
            Status::Ready(stage) => {
                tracing::debug!(model = %name, %version, "draining");
                Status::Draining { stage, since: now }
            }
            other => other,
        };
    }

    /// Frees what has drained, and says whether there was any; a free takes longer than a request may, so it has a thread
    /// of its own.
    fn collect_drained(&mut self, now: Instant) -> bool {
        let mut collected = false;
        for (name, record) in &mut self.records {
            let timeout = self.parts.drain_timeout;
            record.free_taken_back(timeout, now);
            let mut gone = Vec::new();
            for (version, slot) in &record.slots {
                if let Status::Draining { stage, since } = &slot.status
                    // One is ours; the catalog's went with the last snapshot that had it.
                    && (Arc::strong_count(&stage.servable) == 1 || now >= *since + timeout)
                {
                    gone.push(*version);
                }
            }
            for version in gone {
                let Some(Slot {
                    status: Status::Draining { stage, since },
                    ..
                }) = record.slots.remove(&version)
                else {
                    continue;
                };
                collected = true;
                let drained = now - since;
                self.parts.metrics.swap_phase("drain", drained);
                tracing::info!(model = %name, %version, ?drained, "unloaded");
                record.let_series_linger(Arc::clone(stage.servable.metrics()), now);
                free(stage);
            }
            record.leaving.retain(|(at, metrics)| {
                let stays = *at > now;
                if !stays {
                    metrics.remove();
                }
                stays
            });
        }
        collected
    }

    /// The time at which something has to be looked at without an event.
    fn next_look(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut soonest: Option<Instant> = None;
        let mut at =
            |time: Instant| soonest = Some(soonest.map_or(time, |before| before.min(time)));
        if !self.waiting.is_empty() {
            at(now + LOOK_AGAIN);
        }
        for record in self.records.values() {
            if record.probation.is_some() || !record.leaving_stage.is_empty() {
                at(now + LOOK_AGAIN);
            }
            if record.out_of_sync_since.is_some() {
                at(now + Duration::from_secs(1));
            }
            for slot in record.slots.values() {
                match &slot.status {
                    Status::Draining { .. } => at(now + LOOK_AGAIN),
                    Status::Failed {
                        retry_at: Some(time),
                        ..
                    } => at(*time),
                    _ => {}
                }
            }
            record.leaving.iter().for_each(|(time, _)| at(*time));
        }
        soonest
    }

    /// Nothing is loaded any more; what is loaded serves until the process ends.
    fn end(self) {
        for slot in self
            .records
            .values()
            .flat_map(|record| record.slots.values())
        {
            if let Status::Loading { cancel, .. } = &slot.status {
                cancel.cancel();
            }
        }
    }
}

impl Record {
    /// Decides whether `version` may take the place of what serves; `None` when it takes no place.
    fn gate(&self, version: Version) -> Option<Gate> {
        let serving = self.serving().filter(|serving| *serving != version)?;
        let old = self.servable(serving)?.package().clone();
        let contract = self.options.contract.clone();
        Some(Arc::new(move |new: &Package| {
            (contract.0)(&old, new).map_err(LoadError::Contract)
        }))
    }

    /// A version number may stand for other files than before: those are another version.
    pub(super) fn forget_changed_packages(&mut self) {
        let Some(desired) = &self.desired else {
            return;
        };
        for (version, slot) in &mut self.slots {
            let changed = desired
                .versions
                .get(version)
                .is_some_and(|wanted| *wanted != slot.wanted);
            if !changed {
                continue;
            }
            slot.attempts = 0;
            slot.status = match std::mem::replace(&mut slot.status, Status::New) {
                Status::Failed { .. } | Status::Unsupported(_) | Status::New => Status::New,
                Status::Loading { cancel, .. } => {
                    cancel.cancel();
                    Status::New
                }
                Status::Ready(stage) => Status::Draining {
                    stage,
                    since: Instant::now(),
                },
                draining @ Status::Draining { .. } => draining,
            };
        }
    }

    fn let_series_linger(&mut self, metrics: Arc<VersionMetrics>, now: Instant) {
        // Those of an earlier load of the same version stay as long as these do.
        self.leaving
            .retain(|(_, earlier)| !earlier.is_of_same_version(&metrics));
        self.leaving.push((now + SERIES_LINGER, metrics));
    }

    /// Frees versions that were taken back once their last request has gone.
    fn free_taken_back(&mut self, timeout: Duration, now: Instant) {
        for (since, stage) in std::mem::take(&mut self.leaving_stage) {
            if Arc::strong_count(&stage.servable) == 1 || now >= since + timeout {
                let metrics = Arc::clone(stage.servable.metrics());
                self.let_series_linger(metrics, now);
                free(stage);
            } else {
                self.leaving_stage.push((since, stage));
            }
        }
    }

    /// What a failure means for the slot.
    fn failed(&mut self, version: Version, error: &LoadError) -> Option<FailureReason> {
        let slot = self.slots.get_mut(&version)?;
        let backoff = FIRST_BACKOFF.saturating_mul(1 << slot.attempts.saturating_sub(1).min(6));
        let asked = match error {
            LoadError::Fetch(error) => error.retry_after(),
            _ => None,
        };
        let wait = asked
            .unwrap_or(Duration::ZERO)
            .max(jittered(backoff.min(LONGEST_BACKOFF), JITTER));
        // What did not fit may fit when the next request asks for it.
        let has_room_later =
            self.options.on_demand.evictable && matches!(error, LoadError::Memory(_));
        let retries = error.is_transient() || has_room_later;
        let reason = FailureReason {
            label: error.label(),
            message: error.for_clients(),
            detail: error.chain(),
            attempt: slot.attempts,
            retry_at: retries.then(|| SystemTime::now() + wait),
        };
        slot.status = if error.is_foreign() {
            Status::Unsupported(reason.clone())
        } else {
            Status::Failed {
                reason: reason.clone(),
                retry_at: retries.then(|| Instant::now() + wait),
            }
        };
        Some(reason)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Whatever ends the process in an orderly way drops its tasks.
        if let Some(past) = &self.parts.past {
            past.stop();
        }
    }
}

/// Drops a version where nobody waits for it.
fn free<T: Send + 'static>(stage: T) {
    let freed = std::thread::Builder::new().name("unload".to_owned());
    // Without a thread it is freed here.
    let _ = freed.spawn(move || {
        machine::Priority::Background.take();
        drop(stage);
    });
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
