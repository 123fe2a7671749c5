//! What requests see: paths move in one step, probation may move them back, and everything is announced afterwards.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Manager;
use crate::lifecycle::job::Phases;
use crate::lifecycle::policy::paths;
use crate::lifecycle::probation::{Judgement, Probation};
use crate::lifecycle::record::{Record, Status};
use crate::model::{ModelName, Version};
use crate::registry::PastRuns;
use crate::serving::{
    CatalogSnapshot, Cause, FailureReason, ModelEntry, SwapOutcome, SwapRecord, VersionState,
};
use crate::telemetry::ModelOverview;

/// Swaps that are remembered.
const REMEMBERED: usize = 1000;

/// Versions that are remembered as served before; only `keep_previous` of them stay loaded.
const PREVIOUS: usize = 16;

impl Manager {
    /// Leads the paths of a model to the best versions there are.
    pub(super) fn move_paths(&mut self, name: &ModelName, now: Instant) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        let desired = record.effective();
        let previous: Vec<Version> = record.previous.iter().copied().collect();
        let wanted = record.wanted_paths(&desired);
        let next = paths(&wanted, &record.paths, &record.ready(), &previous);
        record.paths = next;
        let before = record.announced;
        let after = record.serving();
        if before == after {
            return;
        }
        record.announced = after;
        if let Some(before) = before {
            record.served_before(before);
        }
        let Some(after) = after else {
            return;
        };
        let wanted_source = record.slots.get(&after).map(|slot| slot.wanted.clone());
        record.last_good = wanted_source.map(|wanted| (after, wanted));
        if desired.default.is_some() {
            record.begin_probation(before, after, now);
        }
        let slot = record.slots.get_mut(&after);
        let phases = slot.as_ref().map(|slot| slot.phases.clone());
        let trace = slot.and_then(|slot| match &mut slot.status {
            Status::Ready(stage) => stage.trace.take(),
            _ => None,
        });
        // One store makes it true; only then is it announced.
        let published = Instant::now();
        self.store(name);
        self.parts
            .metrics
            .swap_phase("publish", published.elapsed());
        if let Some(trace) = trace {
            trace.child("publish", published).end();
        }
        let phases = phases.unwrap_or_default();
        self.remember(name, Some(after), SwapOutcome::Published, phases);
    }

    /// Looks at versions on probation.
    pub(super) fn judge(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for (name, record) in &mut self.records {
            let Some(probation) = record.probation else {
                continue;
            };
            let servable = record.servable(probation.version);
            let Some(observation) = servable.and_then(|servable| servable.observation()) else {
                record.pass_probation();
                continue;
            };
            match probation.judge(&observation.evidence(), observation.is_in_doubt(), now) {
                Judgement::Wait => {}
                Judgement::Passed => {
                    tracing::info!(model = %name, version = %probation.version, "passed its probation");
                    record.pass_probation();
                }
                Judgement::Failed(reason) => failed.push((name.clone(), probation, reason)),
            }
        }
        for (name, probation, reason) in failed {
            self.take_back(&name, &probation, reason, now);
        }
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
            tracing::error!(model = %name, version = %probation.version, reason, "fails its probation, and there is no version to go back to");
            return;
        };
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
            record.leaving_stage.push((now, stage));
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

    /// Writes down how a swap to `to` ended, and counts it.
    pub(super) fn remember(
        &mut self,
        name: &ModelName,
        to: Option<Version>,
        outcome: SwapOutcome,
        phases: Phases,
    ) {
        let Some(record) = self.records.get(name) else {
            return;
        };
        let from = match outcome {
            SwapOutcome::Published => record.previous.front().copied(),
            _ => record.serving(),
        };
        self.remember_from(name, (from, to), outcome, phases);
    }

    pub(super) fn remember_from(
        &mut self,
        name: &ModelName,
        (from, to): (Option<Version>, Option<Version>),
        outcome: SwapOutcome,
        phases: Phases,
    ) {
        let cause = self
            .records
            .get(name)
            .map_or(Cause::Registry, |record| record.cause);
        self.parts.metrics.swapped(name.as_str(), outcome.label());
        if matches!(outcome, SwapOutcome::Published) {
            let took: Duration = phases.iter().map(|(_, took)| *took).sum();
            let from = from.map(|version| version.to_string());
            let to = to.map(|version| version.to_string());
            tracing::info!(model = %name, version = to, from, cause = cause.as_str(), ?took, "on stage");
        }
        let mut board = self.board.lock();
        board.history.push_front(SwapRecord {
            model: name.clone(),
            from,
            to,
            cause,
            at: SystemTime::now(),
            phases,
            outcome,
        });
        board.history.truncate(REMEMBERED);
    }

    /// Shows one model to requests, in one step.
    fn store(&mut self, name: &ModelName) {
        let Some(record) = self.records.get(name) else {
            return;
        };
        let entry = record.entry(&record.effective());
        self.parts.catalog.update(|snapshot| {
            snapshot.models.insert(name.clone(), entry);
        });
    }

    /// Shows everything as it is now: to requests, and in the gauges.
    pub(super) fn show(&mut self, now: Instant) {
        self.records.retain(|name, record| {
            let gone = record.desired.is_none()
                && record.hold.is_none()
                && record.slots.is_empty()
                && record.leaving_stage.is_empty();
            if gone {
                for (_, metrics) in record.leaving.drain(..) {
                    metrics.remove();
                }
                if let Some(past) = &self.parts.past
                    && record.remembered.is_some()
                {
                    past.forget(name);
                }
                self.parts
                    .metrics
                    .forget_model(name.as_str(), &VersionState::LABELS);
            }
            !gone
        });
        let mut entries = Vec::new();
        for (name, record) in &mut self.records {
            let desired = record.effective();
            record.keep_time(desired.default, now);
            if let Some(past) = &self.parts.past {
                record.write_down(&**past);
            }
            let entry = record.entry(&desired);
            let overview: ModelOverview = record.overview(&entry, now);
            self.parts
                .metrics
                .describe_model(name.as_str(), overview, &VersionState::LABELS);
            // A model that nobody wants is not there for requests, while its last version drains.
            if record.desired.is_some() || record.hold.is_some() {
                entries.push((name.clone(), entry));
            }
        }
        self.update_catalog(entries);
        let holds = self.records.iter().filter_map(|(name, record)| {
            let hold = record.hold.as_ref()?;
            Some(hold.record(name))
        });
        self.board.lock().holds = holds.collect();
        self.settled.send_modify(|generation| *generation += 1);
    }

    fn update_catalog(&self, entries: Vec<(ModelName, ModelEntry)>) {
        let known = self.known;
        let current = self.parts.catalog.snapshot();
        let same = |snapshot: &Arc<CatalogSnapshot>| {
            snapshot.known == known
                && snapshot.models.len() == entries.len()
                && entries.iter().all(|(name, entry)| {
                    snapshot
                        .models
                        .get(name)
                        .is_some_and(|old| old.is_same(entry))
                })
        };
        if same(&current) {
            return;
        }
        drop(current);
        self.parts.catalog.update(|snapshot| {
            snapshot.known = known;
            snapshot.models = entries.into_iter().collect();
        });
    }
}

impl Record {
    /// Writes down what the next start begins with, when that has changed.
    fn write_down(&mut self, past: &dyn PastRuns) {
        if let Some(served) = self.proven()
            && self.remembered.as_ref() != Some(&served)
        {
            past.save(served.clone());
            self.remembered = Some(served);
        }
    }

    fn served_before(&mut self, version: Version) {
        self.previous.retain(|other| *other != version);
        self.previous.push_front(version);
        self.previous.truncate(PREVIOUS);
    }

    fn begin_probation(&mut self, before: Option<Version>, after: Version, now: Instant) {
        let earlier = self.probation;
        self.leave_probation();
        // A version that served before has passed already: going back to it must not begin another trial.
        let has_served = self
            .previous
            .iter()
            .skip(1)
            .any(|version| *version == after);
        let has_passed = has_served && !self.unproven.remove(&after);
        let Some(servable) = self.servable(after) else {
            return;
        };
        // What has not passed itself is nothing to fall back to, while there is something better.
        let proven = earlier
            .filter(|earlier| Some(earlier.version) == before)
            .and_then(|earlier| earlier.fallback)
            .filter(|version| *version != after && self.servable(*version).is_some());
        let fallback = proven.or(before);
        let beside = fallback.and_then(|version| self.servable(version));
        let Some(beside) = beside.filter(|_| !has_passed && !self.options.probation.is_zero())
        else {
            if servable.is_in_doubt() {
                tracing::warn!(model = %servable.id().name, version = %after, "serves although it answered nothing that was tried: there is no version, or no probation, to serve beside");
            }
            return;
        };
        servable.begin_probation(beside);
        self.probation = Some(Probation {
            version: after,
            fallback,
            since: now,
            until: now + self.options.probation,
            before: beside.vitals().bad_share(),
            crowded: beside.connections() > 1,
        });
    }

    /// The version on probation stands for itself from here on.
    fn pass_probation(&mut self) {
        if let Some(probation) = self.probation.take()
            && let Some(servable) = self.servable(probation.version)
        {
            servable.end_probation();
        }
    }

    /// The version on probation leaves the stage before it has passed.
    fn leave_probation(&mut self) {
        if let Some(probation) = self.probation {
            self.pass_probation();
            self.unproven.insert(probation.version);
        }
        let previous = &self.previous;
        self.unproven.retain(|version| previous.contains(version));
    }

    /// Since when another version is wanted than the one that serves.
    fn keep_time(&mut self, wanted: Option<Version>, now: Instant) {
        // What is no ONNX package will not be served, however long one waits.
        let is_unsupported = wanted.is_some_and(|version| self.is_unsupported(version));
        let in_sync =
            wanted.is_none() || self.serving() == wanted || self.is_asleep() || is_unsupported;
        self.out_of_sync_since = if in_sync {
            None
        } else {
            self.out_of_sync_since.or(Some(now))
        };
    }
}
