//! The reconciler: brings what is served to what is wanted, one action at a time, whatever fails on the way.
//!
//! One task owns all state and takes messages; loading has threads of its own. Level-triggered: it never acts on a
//! change, only on the difference between what is wanted and what is there. A change only says which models to look at:
//! whatever touches a record adds its name to the dirty ones, and a wake decides and shows no others.
//!
//! ```text
//! DesiredState ──► Manager ──policy──► load │ publish │ drain │ free
//!                    ▲   │
//!  reports of loads, │   └──► Catalog (what requests see), metrics, history
//!  commands, leases of versions that leave
//! ```

mod control;
mod handle;
mod leaving;
mod loads;
mod memory;
mod message;
mod probation;
mod publish;
mod timers;
#[cfg(test)]
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::handle::{Mailbox, ManagerHandle, mailbox};
use self::message::{AdminView, MemoryRequest, Message, PendingSwap, Reply};
#[cfg(test)]
pub(super) use self::totals::Totals;
use super::beginning::Beginning;
use super::load::{LoadEvent, Loader};
use super::policy::{Action, next_action};
use super::record::{OptionsOf, Record, Slot, Status};
use crate::model::{ModelId, ModelName, Version};
use crate::registry::{DesiredState, PastRuns, Served};
use crate::serving::{AdminError, Catalog, Cause, Leases, Released};
use crate::telemetry::{Metrics, Tracer};

/// What a manager works with.
pub struct ManagerParts {
    /// Makes servables.
    pub loader: Arc<dyn Loader>,
    /// What earlier runs left, and the next one will find.
    pub past: Option<Arc<dyn PastRuns>>,
    /// What requests see.
    pub catalog: Arc<Catalog>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Where loads are traced.
    pub tracer: Tracer,
    /// What the operator chose for a model.
    pub options: Box<OptionsOf>,
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

/// See the module.
pub struct Manager {
    records: BTreeMap<ModelName, Record>,
    /// Models that something happened to since they were last decided.
    dirty: BTreeSet<ModelName>,
    /// When models are due although nothing happens to them.
    timers: BTreeSet<(Instant, ModelName)>,
    on_probation: BTreeSet<ModelName>,
    /// Notified of requests of versions on probation.
    evidence: Arc<Notify>,
    /// Whether such requests are judged soon; until then no more notices are needed.
    has_evidence: bool,
    /// When versions on probation were judged last, and when they are next.
    judged: Option<Instant>,
    judge_at: Option<Instant>,
    /// The next look at what may give memory without an event.
    memory_look_at: Option<Instant>,
    parts: ManagerParts,
    inbox: Inbox,
    load_events: mpsc::Sender<LoadEvent>,
    leases: Leases,
    desired: watch::Receiver<DesiredState>,
    desires_end: bool,
    /// What served before this process began; each model takes its own.
    served: BTreeMap<ModelName, Served>,
    memory_requests: Vec<MemoryRequest>,
    /// Manual swaps that wait until their version serves.
    pending_swaps: Vec<PendingSwap>,
    /// What has been decided since the catalog was last shown, and who waits for it.
    outcomes: Vec<(Reply, Result<(), AdminError>)>,
    next_ticket: u64,
    view: Arc<Mutex<AdminView>>,
    settled: watch::Sender<u64>,
    stop: CancellationToken,
    known: bool,
    #[cfg(test)]
    work: Arc<super::tests::Work>,
}

/// What others send.
struct Inbox {
    messages: mpsc::Receiver<Message>,
    messages_end: bool,
    loads: mpsc::Receiver<LoadEvent>,
    released: mpsc::UnboundedReceiver<Released>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

/// Capacity of each queue of messages to the manager; when it is full, senders wait.
const INBOX: usize = 1024;

/// Messages of one kind that are taken before the next decision.
const BATCH: usize = 256;

impl Manager {
    /// A manager, which reads what comes to `mailbox`. Reads what earlier runs left.
    pub fn new(
        parts: ManagerParts,
        mailbox: Mailbox,
        desired: watch::Receiver<DesiredState>,
        stop: CancellationToken,
    ) -> Self {
        let Mailbox {
            messages,
            view,
            settled,
        } = mailbox;
        let (load_events, loads) = mpsc::channel(INBOX);
        let (leases, released) = Leases::new();
        let past = parts.past.as_ref();
        let served = past.map_or_else(BTreeMap::new, |past| past.served());
        Self {
            records: BTreeMap::new(),
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            on_probation: BTreeSet::new(),
            evidence: Arc::default(),
            has_evidence: false,
            judged: None,
            judge_at: None,
            memory_look_at: None,
            served,
            parts,
            inbox: Inbox {
                messages,
                messages_end: false,
                loads,
                released,
            },
            load_events,
            leases,
            desired,
            desires_end: false,
            memory_requests: Vec::new(),
            pending_swaps: Vec::new(),
            outcomes: Vec::new(),
            next_ticket: 0,
            view,
            settled,
            stop,
            known: false,
            #[cfg(test)]
            work: Arc::default(),
        }
    }

    /// Runs until the process stops.
    pub async fn run(mut self) {
        self.adopt();
        loop {
            self.reconcile();
            if !self.wait().await {
                return self.end();
            }
        }
    }

    /// Waits until something happens, and takes it in; false when the process stops.
    async fn wait(&mut self) -> bool {
        let wake = self.next_wake();
        let (mut messages, mut loads, mut released) = (Vec::new(), Vec::new(), Vec::new());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return false,
            changed = self.desired.changed(), if !self.desires_end => match changed {
                Ok(()) => self.adopt(),
                // The desired state cannot change any more; what is there is served on.
                Err(_) => self.desires_end = true,
            },
            _ = self.inbox.released.recv_many(&mut released, BATCH) => {}
            _ = self.inbox.loads.recv_many(&mut loads, BATCH) => {}
            received = self.inbox.messages.recv_many(&mut messages, BATCH), if !self.inbox.messages_end => {
                self.inbox.messages_end = received == 0;
            }
            () = self.evidence.notified(), if !self.has_evidence => self.evidence_came(Instant::now()),
            () = sleep_until(wake) => {}
        }
        released.into_iter().for_each(|lease| self.released(lease));
        loads.into_iter().for_each(|event| self.load_reports(event));
        messages
            .into_iter()
            .for_each(|message| self.receive(message));
        true
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Wake(model) => {
                if let Some(record) = self.records.get_mut(&model) {
                    record.wake(Instant::now());
                    self.dirty.insert(model);
                }
            }
            Message::Command(command) => self.command(command),
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
                record.forget_changed_packages(&self.leases);
                self.dirty.insert(name.clone());
            }
        }
        let started = self.known;
        for (name, wish) in desired.models {
            if self.records.contains_key(&name) {
                continue;
            }
            let mut record = Record::new((self.parts.options)(&name));
            record.remembered = self.served.remove(&name);
            let served = record.remembered.clone();
            record.beginning = served.and_then(|served| Beginning::resume(served, &wish));
            if let Some(beginning) = &record.beginning {
                let (version, wanted) = (beginning.version(), wish.default);
                let wanted = wanted.map(|wanted| wanted.to_string());
                tracing::info!(model = %name, %version, wanted, "begins with the version that served before");
            }
            record.desired = Some(wish);
            if started {
                record.cause = Cause::Registry;
            }
            self.dirty.insert(name.clone());
            self.records.insert(name, record);
        }
        self.known = desired.complete;
    }

    /// Acts until nothing is left to do now, then shows what came of it.
    fn reconcile(&mut self) {
        self.settle();
        if self.answer_swaps() {
            self.settle();
        }
        self.send_outcomes();
        #[cfg(test)]
        self.work.woke(self.totals());
    }

    fn settle(&mut self) {
        let now = Instant::now();
        self.mark_due(now);
        self.judge(now);
        let mut decided = BTreeSet::new();
        loop {
            while let Some(name) = self.dirty.pop_first() {
                self.reconcile_model(&name, now);
                decided.insert(name);
            }
            // Memory for one model may cost another one its place.
            self.grant_memory(now);
            if self.dirty.is_empty() {
                break;
            }
        }
        self.show(&decided, now);
    }

    fn reconcile_model(&mut self, name: &ModelName, now: Instant) {
        #[cfg(test)]
        self.work.decided(name);
        self.reap(name, now);
        if let Some(record) = self.records.get_mut(name) {
            record.end_probation_of_the_gone();
        }
        // Each action changes what the next decision sees, so this ends; the bound is for a bug.
        for _ in 0..1000 {
            self.move_paths(name, now);
            let Some(record) = self.records.get_mut(name) else {
                return;
            };
            if record.end_beginning(&self.leases) {
                continue;
            }
            let desired = record.effective();
            match next_action(&record.view(&desired), now) {
                Action::Rest => return,
                Action::Load(version) => self.load(name, version),
                Action::Cancel(version) | Action::Forget(version) => self.drop_slot(name, version),
                Action::Unload(version) => self.drain(name, version, now),
            }
        }
        tracing::error!(model = %name, "the reconciler does not come to rest");
    }

    fn load(&mut self, name: &ModelName, version: Version) {
        let mut records = self.records.values();
        let background = records.any(|record| record.serving().is_some());
        let id = ModelId {
            name: name.clone(),
            version,
        };
        self.next_ticket += 1;
        let record = self.records.get_mut(name);
        let job = record.and_then(|record| record.begin_load(id, self.next_ticket, background));
        if let Some(job) = job {
            let (loader, events) = (Arc::clone(&self.parts.loader), self.load_events.clone());
            // Owned by the slot: leaving it cancels the job.
            tokio::spawn(job.run(loader, events, self.parts.tracer.clone()));
        }
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

impl Drop for Manager {
    fn drop(&mut self) {
        // Whatever ends the process in an orderly way drops its tasks.
        if let Some(past) = &self.parts.past {
            past.stop();
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
