//! What the manager is told, and what it makes of it.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::control::Command;
use super::room::RoomRequest;
use super::{Manager, free};
use crate::lifecycle::job::{Loaded, Phases};
use crate::lifecycle::loader::LoadError;
use crate::lifecycle::record::{OnStage, Record, Status};
use crate::model::{ModelId, ModelName};
use crate::serving::{FailureReason, SwapOutcome, VersionState};

/// A message to the manager.
pub(in crate::lifecycle) enum Event {
    /// A job entered a state.
    Progress {
        id: ModelId,
        ticket: u64,
        state: VersionState,
    },
    /// A job wants to compile and asks for memory.
    Room {
        id: ModelId,
        ticket: u64,
        bytes: u64,
        reply: oneshot::Sender<Result<(), LoadError>>,
    },
    /// A job ended.
    Loaded {
        id: ModelId,
        ticket: u64,
        result: Result<Loaded, LoadError>,
        phases: Phases,
    },
    /// A request waits for a model that is not loaded.
    Wake(ModelName),
    /// A person decides.
    Command(Command),
}

impl Manager {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Progress { id, ticket, state } => self.progressed(&id, ticket, state),
            Event::Room {
                id,
                ticket,
                bytes,
                reply,
            } => {
                if self.is_current(&id, ticket) {
                    self.waiting.push(RoomRequest {
                        id,
                        ticket,
                        bytes,
                        reply,
                    });
                } else {
                    let _ = reply.send(Err(LoadError::Cancelled));
                }
            }
            Event::Loaded {
                id,
                ticket,
                result,
                phases,
            } => self.loaded(&id, ticket, result, phases),
            Event::Wake(model) => {
                if let Some(record) = self.records.get_mut(&model) {
                    record.wake(Instant::now());
                }
            }
            Event::Command(command) => self.command(command),
        }
    }

    /// Whether a job is the one that its slot waits for; an older one was cancelled.
    pub(super) fn is_current(&self, id: &ModelId, ticket: u64) -> bool {
        let slot = self
            .records
            .get(&id.name)
            .and_then(|record| record.slots.get(&id.version));
        matches!(slot.map(|slot| &slot.status), Some(Status::Loading { ticket: current, .. }) if *current == ticket)
    }

    fn progressed(&mut self, id: &ModelId, job: u64, entered: VersionState) {
        let record = self.records.get_mut(&id.name);
        if let Some(slot) = record.and_then(|record| record.slots.get_mut(&id.version))
            && let Status::Loading { ticket, state, .. } = &mut slot.status
            && *ticket == job
        {
            tracing::debug!(model = %id.name, version = %id.version, state = entered.label(), "loading");
            *state = entered;
        }
    }

    fn loaded(
        &mut self,
        id: &ModelId,
        ticket: u64,
        result: Result<Loaded, LoadError>,
        phases: Phases,
    ) {
        if !self.is_current(id, ticket) {
            // What nobody wants any more is freed where nobody waits.
            result.into_iter().for_each(free);
            return;
        }
        for (phase, took) in &phases {
            self.parts.metrics.swap_phase(phase, *took);
        }
        let Some(record) = self.records.get_mut(&id.name) else {
            return;
        };
        match result {
            Ok(loaded) => {
                let Some(slot) = record.slots.get_mut(&id.version) else {
                    return;
                };
                let servable = loaded.servable;
                let took: std::time::Duration = phases.iter().map(|(_, took)| *took).sum();
                tracing::info!(model = %id.name, version = %id.version, engine = servable.engine(), ?took, "loaded");
                slot.phases = phases;
                slot.attempts = 0;
                // From here on it answers whoever names it.
                if let Some((past, content)) = self.parts.past.as_ref().zip(loaded.content) {
                    past.has_served(&content);
                }
                slot.status = Status::Ready(OnStage {
                    footprint: servable.footprint(),
                    servable,
                    _lease: loaded.lease,
                    trace: loaded.trace,
                });
            }
            Err(error) => {
                let Some(reason) = record.failed(id.version, &error) else {
                    return;
                };
                if error.is_foreign() {
                    self.found_unsupported(id, reason, phases);
                } else {
                    self.found_broken(id, reason, phases);
                }
            }
        }
    }

    fn found_broken(&mut self, id: &ModelId, reason: FailureReason, phases: Phases) {
        let serving = { self.records.get(&id.name) }.and_then(Record::serving);
        let instead = serving.map(|version| version.to_string());
        tracing::error!(
            model = %id.name,
            version = %id.version,
            serving_instead = instead,
            reason = reason.label,
            attempt = reason.attempt,
            retries = reason.retry_at.is_some(),
            error = reason.detail,
            "cannot be served"
        );
        let metrics = &self.parts.metrics;
        metrics.candidate_failed(id.name.as_str(), reason.label);
        let outcome = SwapOutcome::Failed(reason.label, reason.detail);
        let is_first = reason.attempt == 1;
        if is_first || reason.retry_at.is_none() {
            self.remember(&id.name, Some(id.version), outcome, phases);
        }
    }

    /// A registry may hold models of every kind: one that is not for this server is worth a line, and a failed swap only
    /// where it should have taken the place of one that is.
    fn found_unsupported(&mut self, id: &ModelId, reason: FailureReason, phases: Phases) {
        tracing::warn!(
            model = %id.name,
            version = %id.version,
            reason = reason.label,
            error = reason.detail,
            "is not for this server"
        );
        let record = self.records.get(&id.name);
        if record.is_some_and(|record| record.serving().is_some()) {
            let metrics = &self.parts.metrics;
            metrics.candidate_failed(id.name.as_str(), reason.label);
            let outcome = SwapOutcome::Failed(reason.label, reason.detail);
            self.remember(&id.name, Some(id.version), outcome, phases);
        }
    }
}
