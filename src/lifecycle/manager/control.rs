//! What people may ask of the manager while it runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Event, Manager};
use crate::lifecycle::job::Supply;
use crate::lifecycle::record::{Hold, Record, Status};
use crate::model::{ModelId, ModelName, Version};
use crate::registry::Wanted;
use crate::serving::{Admin, AdminError, Cause, Demand, HoldRecord, SwapRecord};

/// What the manager lets everyone read.
#[derive(Default)]
pub(super) struct Board {
    /// Newest first.
    pub(super) history: VecDeque<SwapRecord>,
    pub(super) holds: Vec<HoldRecord>,
}

/// A decision of a person.
pub(in crate::lifecycle) enum Command {
    Swap {
        model: ModelName,
        version: Version,
        wanted: Option<Wanted>,
        reply: Reply,
    },
    Load {
        model: ModelName,
        reply: Reply,
    },
    Hold {
        model: ModelName,
        reply: Reply,
    },
    Unload {
        model: ModelName,
        reply: Reply,
    },
    Resume {
        model: ModelName,
        reply: Reply,
    },
}

/// Where the outcome is told.
pub(in crate::lifecycle) type Reply = oneshot::Sender<Result<(), AdminError>>;

/// Someone who waits until a version serves.
pub(super) struct Waiting {
    model: ModelName,
    version: Version,
    /// Whether a change in the registry makes the wish void.
    by_hold: bool,
    reply: Reply,
}

/// The way to a running manager.
#[derive(Clone)]
pub struct ManagerHandle {
    events: mpsc::Sender<Event>,
    board: Arc<Mutex<Board>>,
    progress: watch::Receiver<u64>,
    supply: Option<Arc<dyn Supply>>,
}

/// How long someone waits for a version to serve.
const LONGEST_SWAP: Duration = Duration::from_secs(600);

impl ManagerHandle {
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        board: Arc<Mutex<Board>>,
        progress: watch::Receiver<u64>,
        supply: Option<Arc<dyn Supply>>,
    ) -> Self {
        Self {
            events,
            board,
            progress,
            supply,
        }
    }

    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), AdminError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.events.send(Event::Command(command(reply))).await;
        sent.map_err(|_| AdminError::Stopping)?;
        answer.await.unwrap_or(Err(AdminError::Stopping))
    }

    async fn ask_in_time(
        &self,
        model: &ModelName,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<(), AdminError> {
        let asked = tokio::time::timeout(LONGEST_SWAP, self.ask(command)).await;
        asked.unwrap_or_else(|_| {
            Err(AdminError::Failed(format!(
                "model `{model}` was not on stage within {LONGEST_SWAP:?}; it goes on loading"
            )))
        })
    }
}

#[async_trait]
impl Admin for ManagerHandle {
    async fn swap(&self, model: &ModelName, version: Version) -> Result<(), AdminError> {
        let id = ModelId {
            name: model.clone(),
            version,
        };
        // The registry is asked here, not by the manager, which waits for nobody.
        let wanted = match &self.supply {
            Some(supply) => supply.find(&id).await.ok().map(Wanted::Package),
            None => None,
        };
        let command = |reply| Command::Swap {
            model: model.clone(),
            version,
            wanted,
            reply,
        };
        self.ask_in_time(model, command).await
    }

    async fn load(&self, model: &ModelName) -> Result<(), AdminError> {
        let wanted = model.clone();
        let command = |reply| Command::Load {
            model: wanted,
            reply,
        };
        self.ask_in_time(model, command).await
    }

    async fn hold(&self, model: &ModelName) -> Result<(), AdminError> {
        let model = model.clone();
        self.ask(|reply| Command::Hold { model, reply }).await
    }

    async fn unload(&self, model: &ModelName) -> Result<(), AdminError> {
        let model = model.clone();
        self.ask(|reply| Command::Unload { model, reply }).await
    }

    async fn resume(&self, model: &ModelName) -> Result<(), AdminError> {
        let model = model.clone();
        self.ask(|reply| Command::Resume { model, reply }).await
    }

    fn holds(&self) -> Vec<HoldRecord> {
        self.board.lock().holds.clone()
    }

    fn history(&self) -> Vec<SwapRecord> {
        self.board.lock().history.iter().cloned().collect()
    }
}

#[async_trait]
impl Demand for ManagerHandle {
    async fn wake(&self, model: &ModelName) {
        // A manager that has gone wakes nobody; the request ends by its deadline.
        let _ = self.events.send(Event::Wake(model.clone())).await;
    }

    fn progress(&self) -> watch::Receiver<u64> {
        self.progress.clone()
    }
}

impl std::fmt::Debug for ManagerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerHandle").finish_non_exhaustive()
    }
}

impl Hold {
    pub(super) fn record(&self, model: &ModelName) -> HoldRecord {
        HoldRecord {
            model: model.clone(),
            version: self.version.as_ref().map(|(version, _)| *version),
            since: self.since,
        }
    }
}

impl Manager {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Swap {
                model,
                version,
                wanted,
                reply,
            } => self.swap_by_hand(&model, version, wanted, reply),
            Command::Load { model, reply } => self.load_by_hand(&model, reply),
            Command::Hold { model, reply } => {
                let held = self.hold_what_serves(&model);
                self.outcomes.push((reply, held));
            }
            Command::Unload { model, reply } => {
                let held = self.hold(&model, None);
                self.outcomes.push((reply, held));
            }
            Command::Resume { model, reply } => {
                let resumed = self.find(&model).map(Record::resume);
                self.outcomes.push((reply, resumed));
            }
        }
    }

    fn swap_by_hand(
        &mut self,
        model: &ModelName,
        version: Version,
        found: Option<Wanted>,
        reply: Reply,
    ) {
        let wanted = self.find(model).and_then(|record| {
            let known = record.known(version);
            known.or(found).ok_or_else(|| {
                AdminError::NotFound(format!("model `{model}` has no version {version} to serve"))
            })
        });
        match wanted.and_then(|wanted| self.hold(model, Some((version, wanted)))) {
            Ok(()) => self.answers.push(Waiting {
                model: model.clone(),
                version,
                by_hold: true,
                reply,
            }),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn load_by_hand(&mut self, model: &ModelName, reply: Reply) {
        let version = self.find(model).and_then(|record| {
            record.resume();
            let desired = record.effective();
            let newest = desired.versions.keys().next_back().copied();
            desired.default.or(newest).ok_or_else(|| {
                AdminError::NotFound(format!("nothing is wanted of model `{model}`"))
            })
        });
        match version {
            Ok(version) => self.answers.push(Waiting {
                model: model.clone(),
                version,
                by_hold: false,
                reply,
            }),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn hold_what_serves(&mut self, model: &ModelName) -> Result<(), AdminError> {
        let record = self.find(model)?;
        let serving = record.serving().and_then(|version| {
            let wanted = record.known(version)?;
            Some((version, wanted))
        });
        match serving {
            Some(serving) => self.hold(model, Some(serving)),
            None => Err(AdminError::Failed(format!(
                "no version of model `{model}` serves that could be held"
            ))),
        }
    }

    fn hold(
        &mut self,
        model: &ModelName,
        version: Option<(Version, Wanted)>,
    ) -> Result<(), AdminError> {
        let record = self.find(model)?;
        if let Some((version, _)) = &version {
            record.try_again(*version);
        }
        record.cause = Cause::Manual;
        record.beginning = None;
        record.hold = Some(Hold {
            version,
            since: SystemTime::now(),
        });
        Ok(())
    }

    fn find(&mut self, model: &ModelName) -> Result<&mut Record, AdminError> {
        let known = self.records.get_mut(model);
        known.ok_or_else(|| AdminError::NotFound(format!("no model named `{model}`")))
    }

    /// Tells what came of the decisions that need no waiting. Only after the catalog shows them: who has been told that a
    /// model is unloaded must not be answered by it.
    pub(super) fn tell_outcomes(&mut self) {
        for (reply, outcome) in self.outcomes.drain(..) {
            let _ = reply.send(outcome);
        }
    }

    /// Tells those who wait how it went, once it is known. A swap by hand that failed holds nothing; then it says so,
    /// as what the registry wants has to be seen to.
    pub(super) fn answer_swaps(&mut self) -> bool {
        let mut let_go = false;
        for wish in std::mem::take(&mut self.answers) {
            let Some(record) = self.records.get_mut(&wish.model) else {
                let gone = AdminError::NotFound(format!("no model named `{}`", wish.model));
                let _ = wish.reply.send(Err(gone));
                continue;
            };
            let Some(result) = wish.result(record) else {
                self.answers.push(wish);
                continue;
            };
            let held = record.hold.as_ref().and_then(|hold| hold.version.as_ref());
            if wish.by_hold && result.is_err() && held.is_some_and(|held| held.0 == wish.version) {
                record.hold = None;
                let_go = true;
            }
            let _ = wish.reply.send(result);
        }
        let_go
    }
}

impl Waiting {
    /// How it went; `None` while it is not known.
    fn result(&self, record: &Record) -> Option<Result<(), AdminError>> {
        let Self { model, version, .. } = self;
        if record.serving() == Some(*version) {
            return Some(Ok(()));
        }
        let failed = match record.slots.get(version).map(|slot| &slot.status) {
            Some(Status::Failed { reason, .. } | Status::Unsupported(reason)) => format!(
                "model `{model}` version {version} cannot be served: {}",
                reason.detail
            ),
            _ if self.by_hold && record.hold.is_none() => {
                "the registry changed meanwhile, which ends the manual swap".to_owned()
            }
            _ => return None,
        };
        Some(Err(AdminError::Failed(failed)))
    }
}

impl Record {
    /// Where a version comes from that is wanted, loaded or was served before.
    fn known(&self, version: Version) -> Option<Wanted> {
        let desired = self.desired.as_ref();
        let desired = desired.and_then(|desired| desired.versions.get(&version));
        let slot = self.slots.get(&version).map(|slot| &slot.wanted);
        desired.or(slot).cloned()
    }

    /// A version that failed gets another chance.
    fn try_again(&mut self, version: Version) {
        if let Some(slot) = self.slots.get_mut(&version)
            && matches!(slot.status, Status::Failed { .. } | Status::Unsupported(_))
        {
            slot.status = Status::New;
            slot.attempts = 0;
            slot.insisted = true;
        }
    }

    fn resume(&mut self) {
        self.hold = None;
        self.beginning = None;
        self.awake = true;
        self.cause = Cause::Manual;
        let versions: Vec<Version> = self.slots.keys().copied().collect();
        for version in versions {
            self.try_again(version);
        }
    }
}
