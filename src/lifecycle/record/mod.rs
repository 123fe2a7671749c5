//! What the manager knows of one model, and what of it the policy sees.

mod failure;
mod leaving;
mod loading;
mod options;
mod probation;
mod shown;
mod slot;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

pub use self::options::{Contract, ContractCheck, ModelOptions, OnDemand, OptionsOf, SwapOrder};
pub(super) use self::slot::{Leaving, OnStage, Slot, Status};
use super::beginning::Beginning;
use super::policy::{ModelView, Paths, Phase};
use super::probation::Probation;
use crate::model::Version;
use crate::registry::{DesiredModel, Served, Wanted};
use crate::serving::{Cause, Servable};
use crate::telemetry::VersionMetrics;

/// One model.
pub(crate) struct Record {
    pub(crate) options: ModelOptions,
    /// The desired state, from the registry or the command line.
    pub(crate) desired: Option<DesiredModel>,
    /// What a start begins with instead.
    pub(crate) beginning: Option<Beginning>,
    /// What was last written down of it for the next start.
    pub(crate) remembered: Option<Served>,
    /// What a person decided instead.
    pub(crate) hold: Option<Hold>,
    pub(crate) slots: BTreeMap<Version, Slot>,
    /// Where paths lead now.
    pub(crate) paths: Paths,
    /// The version behind paths without one, as it was last announced.
    pub(crate) announced: Option<Version>,
    /// Versions that served, last one first.
    pub(crate) previous: VecDeque<Version>,
    /// The last version that served and where it came from, for the way back when nothing is loaded.
    pub(crate) last_good: Option<(Version, Wanted)>,
    pub(crate) probation: Option<Probation>,
    /// Versions that left the stage before their probation was over.
    pub(crate) unproven: BTreeSet<Version>,
    /// What brought the current change about.
    pub(crate) cause: Cause,
    /// Whether it should be loaded now; others than those on demand always are.
    pub(crate) awake: bool,
    /// When a request last needed it loaded.
    pub(crate) woken: Option<Instant>,
    pub(crate) out_of_sync_since: Option<Instant>,
    /// Versions that were taken back, and finish their last requests.
    pub(crate) rolled_back: Vec<Leaving>,
    /// Series to take away, and when: they stay for a while, so that the last values are scraped.
    pub(crate) lingering_metrics: Vec<(Instant, Arc<VersionMetrics>)>,
    /// When the manager looks at it although nothing happened.
    pub(crate) timer: Option<Instant>,
}

/// A manual decision.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    /// The version and where it comes from; `None` holds the model unloaded.
    pub(crate) version: Option<(Version, Wanted)>,
    pub(crate) since: SystemTime,
}

impl Record {
    pub(crate) fn new(options: ModelOptions) -> Self {
        Self {
            awake: !options.on_demand.lazy,
            woken: None,
            options,
            desired: None,
            beginning: None,
            remembered: None,
            hold: None,
            slots: BTreeMap::new(),
            paths: Paths::default(),
            announced: None,
            previous: VecDeque::new(),
            last_good: None,
            probation: None,
            unproven: BTreeSet::new(),
            cause: Cause::Start,
            out_of_sync_since: None,
            rolled_back: Vec::new(),
            lingering_metrics: Vec::new(),
            timer: None,
        }
    }

    /// What is wanted after all: the registry's wish, after what a start begins with, under a manual hold.
    pub(crate) fn effective(&self) -> DesiredModel {
        let mut desired = self.desired.clone().unwrap_or_default();
        match &self.hold {
            None => {
                if let (Some(beginning), Some(wish)) = (&self.beginning, &self.desired) {
                    desired = beginning.desired(wish);
                }
            }
            Some(Hold { version: None, .. }) => {
                desired.versions.clear();
                desired.aliases.clear();
                desired.stages.clear();
            }
            Some(Hold {
                version: Some((version, wanted)),
                ..
            }) => {
                desired.default = Some(*version);
                desired
                    .versions
                    .entry(*version)
                    .or_insert_with(|| wanted.clone());
            }
        }
        desired
    }

    /// Whether it waits for a request before it is loaded.
    pub(crate) fn is_asleep(&self) -> bool {
        !self.awake && self.hold.is_none()
    }

    /// A request needs it loaded.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.woken = Some(now);
        if !self.awake {
            self.awake = true;
            self.cause = Cause::Demand;
        }
    }

    /// When it was used last, or wanted.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        let servables = self.slots.values().filter_map(Slot::servable);
        let used = servables.map(|servable| servable.health().last_used());
        used.chain(self.woken).max()
    }

    /// Whether a version of it was loaded for a request that has not come yet.
    pub(crate) fn is_unused(&self, now: Instant) -> bool {
        let mut servables = self.slots.values().filter_map(Slot::servable);
        servables.any(|servable| servable.health().is_unused(now))
    }

    /// Whether a load of it has been granted memory and goes on.
    pub(crate) fn is_loading(&self) -> bool {
        let loading = |slot: &Slot| matches!(slot.status, Status::Loading { reserved: 1.., .. });
        self.slots.values().any(loading)
    }

    /// The paths that are wanted, wherever they lead now.
    pub(crate) fn wanted_paths(&self, desired: &DesiredModel) -> Paths {
        Paths {
            default: desired.default,
            aliases: desired.aliases.clone(),
            stages: desired.stages.clone(),
        }
    }

    /// What the policy decides by.
    pub(crate) fn view(&self, desired: &DesiredModel) -> ModelView {
        let is_there = |wanted: &Wanted| !matches!(wanted, Wanted::Unready(_));
        let wanted = desired
            .versions
            .iter()
            .filter(|(_, wanted)| is_there(wanted));
        let mut wanted: BTreeSet<Version> = wanted.map(|(version, _)| *version).collect();
        if self.is_asleep() {
            wanted.clear();
        } else if !wanted.is_empty() && self.nothing_serves_and_the_target_failed(desired) {
            wanted.extend(self.last_good.iter().map(|(version, _)| *version));
        }
        let unwanted_whole = desired.versions.is_empty() || self.is_asleep();
        ModelView {
            wanted,
            target: desired.default,
            versions: self
                .slots
                .iter()
                .map(|(version, slot)| (*version, slot.phase()))
                .collect(),
            published: if unwanted_whole {
                BTreeSet::new()
            } else {
                self.paths.versions()
            },
            previous: self.previous.iter().copied().collect(),
            fallback: self
                .probation
                .as_ref()
                .and_then(|probation| probation.fallback),
            keep_previous: if unwanted_whole {
                0
            } else {
                self.options.keep_previous
            },
        }
    }

    /// Whether a version is known to be no ONNX package.
    pub(crate) fn is_unsupported(&self, version: Version) -> bool {
        let slot = self.slots.get(&version);
        slot.is_some_and(|slot| matches!(slot.status, Status::Unsupported(_)))
    }

    /// After a break-before-make swap went wrong, the last good version has to come back.
    fn nothing_serves_and_the_target_failed(&self, desired: &DesiredModel) -> bool {
        let failed = |version| {
            let slot = self.slots.get(&version);
            matches!(slot.map(Slot::phase), Some(Phase::Failed(_)))
        };
        let nothing_serves = || {
            let mut others = self
                .slots
                .iter()
                .filter(|(version, _)| Some(**version) != desired.default);
            let last = self.last_good.as_ref().map(|(version, _)| *version);
            // The last good one itself may be on its way or back already.
            others.all(|(version, slot)| Some(*version) == last || slot.servable().is_none())
        };
        desired.default.is_some_and(failed) && nothing_serves()
    }

    pub(crate) fn phase(&self, version: Version) -> Option<Phase> {
        self.slots.get(&version).map(Slot::phase)
    }

    pub(crate) fn ready(&self) -> BTreeSet<Version> {
        let ready = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.servable().is_some());
        ready.map(|(version, _)| *version).collect()
    }

    /// The version behind paths without one, when it can answer.
    pub(crate) fn serving(&self) -> Option<Version> {
        match self.paths.default {
            Some(version) => self.servable(version).map(|_| version),
            None => {
                let mut newest_first = self.slots.iter().rev();
                let newest = newest_first.find(|(_, slot)| slot.servable().is_some());
                newest.map(|(version, _)| *version)
            }
        }
    }

    pub(crate) fn servable(&self, version: Version) -> Option<&Arc<Servable>> {
        self.slots.get(&version).and_then(Slot::servable)
    }

    /// Bytes that it holds, and may take yet.
    pub(crate) fn memory(&self) -> u64 {
        let bytes = |slot: &Slot| match &slot.status {
            Status::Ready(stage) => stage.footprint,
            Status::Draining(leaving) => leaving.footprint,
            Status::Loading { reserved, .. } => *reserved,
            Status::New | Status::Failed { .. } | Status::Unsupported(_) => 0,
        };
        self.slots.values().map(bytes).sum()
    }
}
