//! What requests see: paths move in one step, and everything is announced afterwards.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Manager;
use crate::lifecycle::load::Phases;
use crate::lifecycle::policy::paths;
use crate::lifecycle::record::{Record, Status};
use crate::model::{ModelName, Version};
use crate::serving::{Cause, ModelEntry, SwapOutcome, SwapRecord, VersionState};

/// Swaps that are remembered.
const REMEMBERED: usize = 1000;

/// What served before a change of versions, and what serves after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: Option<Version>,
    pub(super) to: Option<Version>,
}

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
            record.begin_probation(before, after, (now, &self.evidence));
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
        self.remember_change(name, Change { from, to }, outcome, phases);
    }

    /// The same of a change whose ends are known.
    pub(super) fn remember_change(
        &mut self,
        name: &ModelName,
        change: Change,
        outcome: SwapOutcome,
        phases: Phases,
    ) {
        let Change { from, to } = change;
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
        let mut view = self.view.lock();
        view.history.push_front(SwapRecord {
            model: name.clone(),
            from,
            to,
            cause,
            at: SystemTime::now(),
            phases,
            outcome,
        });
        view.history.truncate(REMEMBERED);
    }

    /// Shows one model to requests, in one step.
    pub(super) fn store(&mut self, name: &ModelName) {
        let Some(record) = self.records.get(name) else {
            return;
        };
        let entry = record.entry(&record.effective());
        self.parts.catalog.update(|snapshot| {
            snapshot.models.insert(name.clone(), entry);
        });
    }

    /// Shows what was decided: to requests, and in the gauges.
    pub(super) fn show(&mut self, decided: &BTreeSet<ModelName>, now: Instant) {
        let mut changes = Vec::new();
        for name in decided {
            #[cfg(test)]
            self.work.shown(name);
            let is_gone = self.records.get(name).is_some_and(Record::is_gone);
            if is_gone {
                self.forget(name);
            }
            changes.push((name, self.describe(name, now)));
            self.set_timer(name, now);
        }
        self.update_catalog(changes);
        self.settled.send_modify(|generation| *generation += 1);
    }

    /// Removes a model of which nothing is left.
    fn forget(&mut self, name: &ModelName) {
        let Some(mut record) = self.records.remove(name) else {
            return;
        };
        for (_, metrics) in record.lingering_metrics.drain(..) {
            metrics.remove();
        }
        if let Some(timer) = record.timer {
            self.timers.remove(&(timer, name.clone()));
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

    /// Sets the gauges of a model and notes its hold and its probation. What requests see of it; `None` when they see
    /// nothing.
    fn describe(&mut self, name: &ModelName, now: Instant) -> Option<ModelEntry> {
        self.follow_probation(name, now);
        let mut view = self.view.lock();
        let Some(record) = self.records.get_mut(name) else {
            view.holds.remove(name);
            return None;
        };
        match record.held(name) {
            Some(hold) => drop(view.holds.insert(name.clone(), hold)),
            None => drop(view.holds.remove(name)),
        }
        drop(view);
        let desired = record.effective();
        record.keep_time(desired.default, now);
        if let Some(past) = &self.parts.past {
            record.write_down(&**past);
        }
        let entry = record.entry(&desired);
        let overview = record.overview(&entry, now);
        self.parts
            .metrics
            .describe_model(name.as_str(), overview, &VersionState::LABELS);
        // Requests do not see a model that is not desired, while its last version drains.
        (record.desired.is_some() || record.hold.is_some()).then_some(entry)
    }

    fn update_catalog(&self, mut changes: Vec<(&ModelName, Option<ModelEntry>)>) {
        let known = self.known;
        let current = self.parts.catalog.snapshot();
        changes.retain(|(name, entry)| match (current.models.get(name), entry) {
            (Some(old), Some(entry)) => !old.is_same(entry),
            (old, entry) => old.is_some() || entry.is_some(),
        });
        if changes.is_empty() && current.known == known {
            return;
        }
        drop(current);
        self.parts.catalog.update(|snapshot| {
            snapshot.known = known;
            for (name, entry) in changes {
                match entry {
                    Some(entry) => drop(snapshot.models.insert(name.clone(), entry)),
                    None => drop(snapshot.models.remove(name)),
                }
            }
        });
    }
}
