//! What requests and gauges see of a record.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::slot::{Slot, unready};
use super::{OnDemand, Record};
use crate::model::{ModelName, Version};
use crate::registry::{DesiredModel, Wanted};
use crate::serving::{HoldRecord, ModelEntry, VersionEntry, VersionState};
use crate::telemetry::ModelOverview;

impl Record {
    /// What requests see.
    pub(crate) fn entry(&self, desired: &DesiredModel) -> ModelEntry {
        let mut versions: BTreeMap<Version, VersionEntry> = self
            .slots
            .iter()
            .map(|(version, slot)| {
                let entry = VersionEntry {
                    state: slot.state(),
                    servable: slot.servable().cloned(),
                };
                (*version, entry)
            })
            .collect();
        for (version, wanted) in &desired.versions {
            let state = || match wanted {
                Wanted::Unready(reason) => VersionState::Failed(unready(reason)),
                _ if self.is_asleep() => VersionState::Unloaded,
                _ => VersionState::New,
            };
            versions.entry(*version).or_insert_with(|| VersionEntry {
                state: state(),
                servable: None,
            });
        }
        let absent = desired.absent.clone().filter(|_| versions.is_empty());
        let wanted = self.desired.as_ref().and_then(|desired| desired.default);
        ModelEntry {
            instead_of: wanted.filter(|wanted| {
                self.hold.is_none() && self.serving().is_some_and(|serving| serving != *wanted)
            }),
            versions,
            default: self.paths.default,
            aliases: self.paths.aliases.clone(),
            stages: self.paths.stages.clone(),
            required: self.options.required,
            on_demand: self.waits_for(),
            absent,
            given_up: desired.versions.iter().all(|(version, wanted)| {
                let slot = self.slots.get(version);
                matches!(wanted, Wanted::Unready(_)) || slot.is_some_and(Slot::is_given_up)
            }),
        }
    }

    /// How long a request may wait until it is loaded.
    fn waits_for(&self) -> Option<Duration> {
        let OnDemand { lazy, evictable } = self.options.on_demand;
        (lazy || evictable).then_some(self.options.load.request_timeout)
    }

    /// What the gauges show.
    pub(crate) fn overview(&self, entry: &ModelEntry, now: Instant) -> ModelOverview {
        let states = entry.versions.iter();
        let states = states.map(|(version, entry)| (version.to_string(), entry.state.label()));
        // No version is known that could have failed.
        let absent = entry.absent.iter();
        let absent = absent.map(|_| (String::new(), VersionState::FAILED));
        let aliases = entry.aliases.iter();
        let stages = entry.stages.iter();
        let aliases = aliases.map(|(alias, version)| (format!("@{alias}"), version.to_string()));
        let stages = stages.map(|(stage, version)| (stage.to_string(), version.to_string()));
        ModelOverview {
            states: states.chain(absent).collect(),
            pointers: aliases.chain(stages).collect(),
            held: self.hold.is_some(),
            out_of_sync: self
                .out_of_sync_since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        }
    }

    /// Since when another version is wanted than the one that serves.
    pub(crate) fn keep_time(&mut self, wanted: Option<Version>, now: Instant) {
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

    /// The manual override of the registry.
    pub(crate) fn held(&self, model: &ModelName) -> Option<HoldRecord> {
        let hold = self.hold.as_ref()?;
        Some(HoldRecord {
            model: model.clone(),
            version: hold.version.as_ref().map(|(version, _)| *version),
            since: hold.since,
        })
    }
}
