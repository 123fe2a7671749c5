//! Judges versions on probation, and takes back those that fail.

use std::time::Duration;

use tokio::time::Instant;

use super::Manager;
use crate::lifecycle::load::Phases;
use crate::lifecycle::probation::{Judgement, Probation};
use crate::lifecycle::record::Status;
use crate::model::ModelName;
use crate::serving::{Cause, FailureReason, SwapOutcome};

/// How often the requests of versions on probation are looked at: they send no events.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Manager {
    /// Looks at versions on probation, when it is time to.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.judge_at.is_none_or(|at| now < at) {
            return;
        }
        let mut failed = Vec::new();
        for name in &self.on_probation {
            let Some(record) = self.records.get_mut(name) else {
                continue;
            };
            let Some(probation) = record.probation else {
                continue;
            };
            let servable = record.servable(probation.version);
            let Some(observation) = servable.and_then(|servable| servable.observation()) else {
                record.pass_probation();
                self.dirty.insert(name.clone());
                continue;
            };
            match probation.judge(&observation.evidence(), observation.is_in_doubt(), now) {
                Judgement::Wait => {}
                Judgement::Passed => {
                    tracing::info!(model = %name, version = %probation.version, "passed its probation");
                    record.pass_probation();
                    self.dirty.insert(name.clone());
                }
                Judgement::Failed(reason) => failed.push((name.clone(), probation, reason)),
            }
        }
        for (name, probation, reason) in failed {
            self.take_back(&name, &probation, reason, now);
        }
        self.judge_at = (!self.on_probation.is_empty()).then(|| now + LOOK_AGAIN);
    }

    /// The old version is back at once; the new one has failed until something changes.
    fn take_back(&mut self, name: &ModelName, probation: &Probation, reason: String, now: Instant) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let Some(fallback) = probation
            .fallback
            .filter(|version| record.servable(*version).is_some())
        else {
            record.pass_probation();
            self.dirty.insert(name.clone());
            tracing::error!(model = %name, version = %probation.version, reason, "fails its probation, and there is no version to go back to");
            return;
        };
        self.dirty.insert(name.clone());
        // What it still has goes on being run by the version before where it fails.
        record.probation = None;
        let Some(slot) = record.slots.get_mut(&probation.version) else {
            return;
        };
        let failure = FailureReason {
            label: "probation",
            message: reason.clone(),
            detail: reason.clone(),
            attempt: slot.attempts,
            retry_at: None,
        };
        let status = Status::Failed {
            reason: failure,
            retry_at: None,
        };
        if let Status::Ready(stage) = std::mem::replace(&mut slot.status, status) {
            record.rolled_back.push(stage.leave(&self.leases, now));
        }
        record.paths.default = Some(fallback);
        record.announced = Some(fallback);
        record
            .previous
            .retain(|version| *version != probation.version);
        let wanted = record.slots.get(&fallback).map(|slot| slot.wanted.clone());
        record.last_good = wanted.map(|wanted| (fallback, wanted));
        record.cause = Cause::Probation;
        self.store(name);
        let metrics = &self.parts.metrics;
        metrics.candidate_failed(name.as_str(), "probation");
        tracing::error!(model = %name, version = %probation.version, back_to = %fallback, reason, "taken back");
        let outcome = SwapOutcome::RolledBack(reason);
        self.remember_from(
            name,
            (Some(probation.version), Some(fallback)),
            outcome,
            Phases::new(),
        );
    }
}
