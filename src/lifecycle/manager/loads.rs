//! What the manager makes of the reports of loads.

use super::Manager;
use super::leaving::free;
use super::message::MemoryRequest;
use crate::lifecycle::load::{LoadEnd, LoadError, LoadEvent, LoadUpdate, Loaded, Phases};
use crate::lifecycle::record::{OnStage, Record, Status};
use crate::model::ModelId;
use crate::serving::{FailureReason, SwapOutcome, VersionState};
use crate::telemetry::Trace;

impl Manager {
    pub(super) fn load_reports(&mut self, event: LoadEvent) {
        let LoadEvent { id, ticket, update } = event;
        match update {
            LoadUpdate::Entered(state) => self.progressed(&id, ticket, state),
            LoadUpdate::NeedsMemory { bytes, reply } => {
                if self.is_current(&id, ticket) {
                    self.memory_requests.push(MemoryRequest {
                        id,
                        ticket,
                        bytes,
                        reply,
                    });
                } else {
                    let _ = reply.send(Err(LoadError::Cancelled));
                }
            }
            LoadUpdate::Ended(end) => self.ended(&id, ticket, end),
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
            self.dirty.insert(id.name.clone());
        }
    }

    fn ended(&mut self, id: &ModelId, ticket: u64, end: LoadEnd) {
        if !self.is_current(id, ticket) {
            // A load that is no longer needed is freed in the background.
            end.result.into_iter().for_each(free);
            return;
        }
        let LoadEnd {
            result,
            phases,
            trace,
        } = end;
        self.dirty.insert(id.name.clone());
        for (phase, took) in &phases {
            self.parts.metrics.swap_phase(phase, *took);
        }
        let Some(record) = self.records.get_mut(&id.name) else {
            return;
        };
        match result {
            Ok(loaded) => self.loaded(id, loaded, phases, trace),
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

    fn loaded(&mut self, id: &ModelId, loaded: Loaded, phases: Phases, trace: Option<Trace>) {
        let record = self.records.get_mut(&id.name);
        let Some(slot) = record.and_then(|record| record.slots.get_mut(&id.version)) else {
            return;
        };
        let (servable, files, content) = loaded.keep();
        let took: std::time::Duration = phases.iter().map(|(_, took)| *took).sum();
        tracing::info!(model = %id.name, version = %id.version, engine = servable.engine(), ?took, "loaded");
        slot.phases = phases;
        slot.attempts = 0;
        // From here on it answers requests that name it.
        if let Some((past, content)) = self.parts.past.as_ref().zip(content) {
            past.has_served(&content);
        }
        slot.status = Status::Ready(OnStage {
            footprint: servable.footprint(),
            servable,
            files,
            trace,
        });
    }

    fn found_broken(&mut self, id: &ModelId, reason: FailureReason, phases: Phases) {
        let serving = self.records.get(&id.name).and_then(Record::serving);
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
