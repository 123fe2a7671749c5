//! Judges versions on probation, and takes back those that fail.

use std::time::Duration;

use tokio::time::Instant;

use super::Manager;
use super::publish::Change;
use crate::lifecycle::load::Phases;
use crate::lifecycle::probation::{Judgement, Probation};
use crate::lifecycle::record::Status;
use crate::model::ModelName;
use crate::serving::{Cause, FailureReason, SwapOutcome};

/// Versions on probation are judged no sooner after the last time, however many requests they get.
const PAUSE: Duration = Duration::from_millis(50);

impl Manager {
    /// Notes whether a model has a version on probation, and when that is judged without a request.
    pub(super) fn follow_probation(&mut self, name: &ModelName, now: Instant) {
        let record = self.records.get(name);
        if let Some(probation) = record.and_then(|record| record.probation) {
            self.on_probation.insert(name.clone());
            let look = probation.next_look(now);
            self.judge_at = self.judge_at.into_iter().chain(look).min();
        } else if self.on_probation.remove(name) && self.on_probation.is_empty() {
            self.judge_at = None;
            self.has_evidence = false;
        }
    }

    /// A version on probation got a request: it is judged soon.
    pub(super) fn evidence_came(&mut self, now: Instant) {
        if !self.on_probation.is_empty() {
            self.has_evidence = true;
            let soon = self.judged.map_or(now, |judged| now.max(judged + PAUSE));
            self.judge_at = Some(self.judge_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Looks at versions on probation, when it is time to.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.judge_at.is_none_or(|at| now < at) {
            return;
        }
        self.judged = Some(now);
        self.has_evidence = false;
        let mut failed = Vec::new();
        let mut looks = Vec::new();
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
                Judgement::Wait => looks.extend(probation.next_look(now)),
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
        self.judge_at = looks.into_iter().min();
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
        let change = Change {
            from: Some(probation.version),
            to: Some(fallback),
        };
        self.remember_change(name, change, outcome, Phases::new());
    }
}
