//! Manual decisions: swap, load, hold, unload, resume.

use std::time::SystemTime;

use super::Manager;
use super::message::{Command, PendingSwap, Reply};
use crate::lifecycle::record::{Hold, Record, Status};
use crate::model::{ModelName, Version};
use crate::registry::Wanted;
use crate::serving::{AdminError, Cause};

impl Command {
    fn model(&self) -> &ModelName {
        match self {
            Self::Swap { model, .. }
            | Self::Load { model, .. }
            | Self::Hold { model, .. }
            | Self::Unload { model, .. }
            | Self::Resume { model, .. } => model,
        }
    }
}

impl Manager {
    pub(super) fn command(&mut self, command: Command) {
        self.dirty.insert(command.model().clone());
        match command {
            Command::Swap {
                model,
                version,
                wanted,
                reply,
            } => self.swap_manually(&model, version, wanted, reply),
            Command::Load { model, reply } => self.load_manually(&model, reply),
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

    fn swap_manually(
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
            Ok(()) => self.pending_swaps.push(PendingSwap {
                model: model.clone(),
                version,
                by_hold: true,
                reply,
            }),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn load_manually(&mut self, model: &ModelName, reply: Reply) {
        let version = self.find(model).and_then(|record| {
            record.resume();
            let desired = record.effective();
            let newest = desired.versions.keys().next_back().copied();
            desired.default.or(newest).ok_or_else(|| {
                AdminError::NotFound(format!("nothing is wanted of model `{model}`"))
            })
        });
        match version {
            Ok(version) => self.pending_swaps.push(PendingSwap {
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

    /// Replies to the decisions that need no waiting. Only after the catalog shows them: once a caller knows that a model
    /// is unloaded, the model must not answer.
    pub(super) fn send_outcomes(&mut self) {
        for (reply, outcome) in self.outcomes.drain(..) {
            let _ = reply.send(outcome);
        }
    }

    /// Replies to those who wait, once it is known how it went. A manual swap that failed holds nothing: then this is true,
    /// and what the registry wants is due again.
    pub(super) fn answer_swaps(&mut self) -> bool {
        let mut let_go = false;
        for wish in std::mem::take(&mut self.pending_swaps) {
            let Some(record) = self.records.get_mut(&wish.model) else {
                let gone = AdminError::NotFound(format!("no model named `{}`", wish.model));
                let _ = wish.reply.send(Err(gone));
                continue;
            };
            let Some(result) = wish.result(record) else {
                self.pending_swaps.push(wish);
                continue;
            };
            let held = record.hold.as_ref().and_then(|hold| hold.version.as_ref());
            if wish.by_hold && result.is_err() && held.is_some_and(|held| held.0 == wish.version) {
                record.hold = None;
                self.dirty.insert(wish.model.clone());
                let_go = true;
            }
            let _ = wish.reply.send(result);
        }
        let_go
    }
}

impl PendingSwap {
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
