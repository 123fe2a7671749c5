//! The memory budget: a load reserves memory before it compiles, and gets it, waits, or gets figures.

use std::time::Duration;

use tokio::time::Instant;

use super::Manager;
use super::message::MemoryRequest;
use super::publish::Change;
use crate::lifecycle::load::LoadError;
use crate::lifecycle::record::{Record, Status, SwapOrder};
use crate::model::{ModelId, ModelName, Version};
use crate::serving::{Cause, SwapOutcome};

/// The next look at a version that was loaded just now, and whose first request sends no event.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The answer to a load that waits for memory.
enum Answer {
    Granted,
    /// Something leaves or ends loading, and says so.
    Wait,
    /// A version was loaded just now, and its first use says nothing.
    LookAgain,
    Refused(String),
}

impl Manager {
    /// Answers the loads that can be answered.
    pub(super) fn grant_memory(&mut self, now: Instant) {
        self.memory_look_at = None;
        for request in std::mem::take(&mut self.memory_requests) {
            if !self.is_current(&request.id, request.ticket) {
                let _ = request.reply.send(Err(LoadError::Cancelled));
                continue;
            }
            match self.memory_for(&request, now) {
                Answer::Wait => self.memory_requests.push(request),
                Answer::LookAgain => {
                    self.memory_look_at = Some(now + LOOK_AGAIN);
                    self.memory_requests.push(request);
                }
                Answer::Refused(figures) => {
                    let _ = request.reply.send(Err(LoadError::Memory(figures)));
                }
                Answer::Granted => {
                    self.reserve_memory(&request);
                    let _ = request.reply.send(Ok(()));
                }
            }
        }
    }

    fn memory_for(&mut self, request: &MemoryRequest, now: Instant) -> Answer {
        if let Some(wait) = self.break_first(&request.id, now) {
            return wait;
        }
        let Some(budget) = self.parts.memory_budget else {
            return Answer::Granted;
        };
        let used: u64 = self.records.values().map(Record::memory).sum();
        if used.saturating_add(request.bytes) <= budget {
            return Answer::Granted;
        }
        let is_leaving = |status: &Status| matches!(status, Status::Draining(_));
        let mut slots = self
            .records
            .values()
            .flat_map(|record| record.slots.values());
        if slots.any(|slot| is_leaving(&slot.status)) {
            return Answer::Wait;
        }
        if let Some((name, version)) = self.expendable() {
            tracing::info!(model = %name, %version, for_model = %request.id.name, "unloaded to make room");
            if let Some(record) = self.records.get_mut(&name) {
                record.previous.retain(|previous| *previous != version);
            }
            self.drain(&name, version, now);
            return Answer::Wait;
        }
        if let Some(wait) = self.evict(&request.id.name, now) {
            return wait;
        }
        Answer::Refused(format!(
            "it needs about {}, and {} of the budget of {} (`engine.memory_budget`) are taken: raise the budget, \
             serve fewer models, or let them be unloaded (`evictable`, `--lazy`)",
            iec(request.bytes),
            iec(used),
            iec(budget)
        ))
    }

    /// Puts the model to sleep that was used longest ago, of those that may be; or waits for one that may soon.
    fn evict(&mut self, for_model: &ModelName, now: Instant) -> Option<Answer> {
        let others = self.records.iter_mut();
        let mut may_go: Vec<_> = others
            .filter(|(name, record)| {
                *name != for_model && record.options.on_demand.evictable && record.hold.is_none()
            })
            .collect();
        let is_unused = may_go.iter().any(|(_, record)| record.is_unused(now));
        let is_loading = may_go.iter().any(|(_, record)| record.is_loading());
        may_go.retain(|(_, record)| !record.ready().is_empty() && !record.is_unused(now));
        let oldest = may_go
            .into_iter()
            .min_by_key(|(_, record)| record.last_used());
        let Some((name, record)) = oldest else {
            return match (is_unused, is_loading) {
                (true, _) => Some(Answer::LookAgain),
                (false, true) => Some(Answer::Wait),
                (false, false) => None,
            };
        };
        let (name, served) = (name.clone(), record.serving());
        tracing::info!(model = %name, for_model = %for_model, "unloaded to make room; its next request loads it again");
        record.awake = false;
        record.cause = Cause::Memory;
        let gone: Vec<Version> = record.ready().into_iter().collect();
        for version in gone {
            self.drain(&name, version, now);
        }
        let change = Change {
            from: served,
            to: None,
        };
        self.remember_change(&name, change, SwapOutcome::Unloaded, Vec::new());
        Some(Answer::Wait)
    }

    /// With `break-before-make` the version that serves goes before the new one is compiled.
    fn break_first(&mut self, id: &ModelId, now: Instant) -> Option<Answer> {
        let record = self.records.get(&id.name)?;
        let is_target = record.effective().default == Some(id.version);
        if record.options.swap != SwapOrder::BreakBeforeMake || !is_target {
            return None;
        }
        let others = record
            .slots
            .iter()
            .filter(|(version, _)| **version != id.version);
        let loaded = |status: &Status| matches!(status, Status::Ready(_) | Status::Draining(_));
        let loaded: Vec<Version> = others
            .filter(|(_, slot)| loaded(&slot.status))
            .map(|(version, _)| *version)
            .collect();
        if loaded.is_empty() {
            return None;
        }
        for version in loaded {
            self.drain(&id.name, version, now);
        }
        Some(Answer::Wait)
    }

    /// A loaded version that no path leads to and that is no fallback: the one that served longest ago.
    fn expendable(&self) -> Option<(ModelName, Version)> {
        let kept = self.records.iter().flat_map(|(name, record)| {
            let desired = record.effective();
            let fallback = record
                .probation
                .as_ref()
                .and_then(|probation| probation.fallback);
            let versions = record.previous.iter().enumerate();
            versions
                .filter(move |(_, version)| {
                    let needed = desired.versions.contains_key(version)
                        || record.paths.versions().contains(version)
                        || fallback == Some(**version);
                    !needed && record.servable(**version).is_some()
                })
                .map(move |(age, version)| (age, name.clone(), *version))
        });
        kept.max().map(|(_, name, version)| (name, version))
    }

    fn reserve_memory(&mut self, request: &MemoryRequest) {
        let record = self.records.get_mut(&request.id.name);
        let slot = record.and_then(|record| record.slots.get_mut(&request.id.version));
        if let Some(Status::Loading { reserved, .. }) = slot.map(|slot| &mut slot.status) {
            *reserved = request.bytes;
        }
    }
}

fn iec(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
