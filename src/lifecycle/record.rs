//! What the manager knows of one model, and what of it the policy and the catalog see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::beginning::Beginning;
use super::job::Phases;
use super::loader::LoadOptions;
use super::policy::{ModelView, Paths, Phase};
use super::probation::Probation;
use crate::engine::CancelToken;
use crate::model::{Package, Version};
use crate::registry::{DesiredModel, Lease, Served, Wanted};
use crate::serving::{Cause, FailureReason, ModelEntry, Servable, VersionEntry, VersionState};
use crate::telemetry::{ModelOverview, Trace, VersionMetrics};

/// What the operator chose for one model's life.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// How it is loaded.
    pub load: LoadOptions,
    /// How many versions stay loaded after a swap, for a quick way back.
    pub keep_previous: usize,
    /// Whether the old version goes before the new one is compiled.
    pub swap: SwapOrder,
    /// Whether a new version may take the place of the one that serves.
    pub contract: Contract,
    /// How long a new version may be taken back.
    pub probation: Duration,
    /// Whether the server is not ready without it.
    pub required: bool,
    /// Whether it may be unloaded although it is wanted.
    pub on_demand: OnDemand,
}

/// When a wanted model need not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnDemand {
    /// It is loaded by its first request.
    pub lazy: bool,
    /// It is unloaded when others need the memory, and loaded again by the next request.
    pub evictable: bool,
}

/// Says what clients of the first package would miss in the second one.
#[derive(Clone)]
pub struct Contract(pub Arc<ContractCheck>);

/// Compares the package that serves with the one that should take its place.
pub type ContractCheck = dyn Fn(&Package, &Package) -> Result<(), String> + Send + Sync;

impl std::fmt::Debug for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contract").finish_non_exhaustive()
    }
}

/// The order of loading the new version and unloading the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SwapOrder {
    /// The old version serves until the new one can.
    #[default]
    MakeBeforeBreak,
    /// For models that do not fit twice: nothing serves in between.
    BreakBeforeMake,
}

/// One model.
pub(super) struct Record {
    pub(super) options: ModelOptions,
    /// What the registry, or the command line, wants.
    pub(super) desired: Option<DesiredModel>,
    /// What a start begins with instead.
    pub(super) beginning: Option<Beginning>,
    /// What was last written down of it for the next start.
    pub(super) remembered: Option<Served>,
    /// What a person decided instead.
    pub(super) hold: Option<Hold>,
    pub(super) slots: BTreeMap<Version, Slot>,
    /// Where paths lead now.
    pub(super) paths: Paths,
    /// The version behind paths without one, as it was last announced.
    pub(super) announced: Option<Version>,
    /// Versions that served, last one first.
    pub(super) previous: VecDeque<Version>,
    /// The last version that served and where it came from, for the way back when nothing is loaded.
    pub(super) last_good: Option<(Version, Wanted)>,
    pub(super) probation: Option<Probation>,
    /// Versions that left the stage before their probation was over.
    pub(super) unproven: BTreeSet<Version>,
    /// Whether the current change was asked for by hand.
    pub(super) cause: Cause,
    /// Whether it should be loaded now; others than those on demand always are.
    pub(super) awake: bool,
    /// When a request last asked for it to be loaded.
    pub(super) woken: Option<Instant>,
    pub(super) out_of_sync_since: Option<Instant>,
    /// Versions that were taken back, and finish their last requests.
    pub(super) leaving_stage: Vec<(Instant, OnStage)>,
    /// Series to take away, and when.
    pub(super) leaving: Vec<(Instant, Arc<VersionMetrics>)>,
}

/// A manual decision.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    /// The version and where it comes from; `None` holds the model unloaded.
    pub(super) version: Option<(Version, Wanted)>,
    pub(super) since: SystemTime,
}

/// One version.
pub(super) struct Slot {
    pub(super) wanted: Wanted,
    pub(super) status: Status,
    pub(super) attempts: u32,
    /// Whether a person wants it tried although loads of it never returned.
    pub(super) insisted: bool,
    /// How long the phases of its last load took.
    pub(super) phases: Phases,
}

pub(super) enum Status {
    New,
    Loading {
        ticket: u64,
        cancel: CancelToken,
        state: VersionState,
        /// Memory that it may take and has not been counted yet.
        reserved: u64,
    },
    Ready(OnStage),
    Draining {
        stage: OnStage,
        since: Instant,
    },
    Failed {
        reason: FailureReason,
        retry_at: Option<Instant>,
    },
    /// It is no ONNX package.
    Unsupported(FailureReason),
}

/// A loaded version.
pub(super) struct OnStage {
    pub(super) servable: Arc<Servable>,
    /// Keeps its files in the cache.
    pub(super) _lease: Option<Lease>,
    pub(super) footprint: u64,
    /// The trace of its load, until it is first published.
    pub(super) trace: Option<Trace>,
}

impl Slot {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            status: Status::New,
            attempts: 0,
            insisted: false,
            phases: Phases::new(),
        }
    }

    pub(super) fn servable(&self) -> Option<&Arc<Servable>> {
        match &self.status {
            Status::Ready(stage) => Some(&stage.servable),
            _ => None,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.status {
            Status::New => Phase::New,
            Status::Loading { .. } => Phase::Loading,
            Status::Ready(_) => Phase::Ready,
            Status::Draining { .. } => Phase::Draining,
            Status::Failed { retry_at, .. } => Phase::Failed(*retry_at),
            Status::Unsupported(_) => Phase::Failed(None),
        }
    }

    fn state(&self) -> VersionState {
        match &self.status {
            Status::New => VersionState::New,
            Status::Loading { state, .. } => state.clone(),
            Status::Ready(_) => VersionState::Ready,
            Status::Draining { .. } => VersionState::Draining,
            Status::Failed { reason, .. } => VersionState::Failed(reason.clone()),
            Status::Unsupported(reason) => VersionState::Unsupported(reason.clone()),
        }
    }

    /// Whether a server that starts need not wait for it any longer, although it may be tried again.
    fn is_given_up(&self) -> bool {
        let patience = match &self.wanted {
            // Nobody is away for a moment who could bring the files.
            Wanted::Local(_) | Wanted::Unready(_) => 1,
            Wanted::Package(_) => PATIENCE,
        };
        match self.status {
            Status::New | Status::Loading { .. } => self.attempts > patience,
            Status::Failed { .. } => self.attempts >= patience,
            Status::Ready(_) | Status::Draining { .. } | Status::Unsupported(_) => true,
        }
    }
}

fn unready(reason: &str) -> FailureReason {
    let message = format!("the registry has no complete files of it: {reason}");
    FailureReason {
        label: "unready",
        detail: message.clone(),
        message,
        attempt: 0,
        retry_at: None,
    }
}

/// Failed attempts to get a package out of a registry that a server waits for before it is ready without it: some fifteen
/// seconds.
const PATIENCE: u32 = 5;

impl Record {
    pub(super) fn new(options: ModelOptions) -> Self {
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
            leaving_stage: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// What is wanted after all: the registry's wish, after what a start begins with, under a manual hold.
    pub(super) fn effective(&self) -> DesiredModel {
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
    pub(super) fn is_asleep(&self) -> bool {
        !self.awake && self.hold.is_none()
    }

    /// A request wants it loaded.
    pub(super) fn wake(&mut self, now: Instant) {
        self.woken = Some(now);
        if !self.awake {
            self.awake = true;
            self.cause = Cause::Demand;
        }
    }

    /// When it was used last, or wanted.
    pub(super) fn last_used(&self) -> Option<Instant> {
        let servables = self.slots.values().filter_map(Slot::servable);
        let used = servables.map(|servable| servable.vitals().last_used());
        used.chain(self.woken).max()
    }

    /// Whether a version of it was loaded for a request that has not come yet.
    pub(super) fn is_unused(&self, now: Instant) -> bool {
        let mut servables = self.slots.values().filter_map(Slot::servable);
        servables.any(|servable| servable.vitals().is_unused(now))
    }

    /// Whether a load of it has been granted memory and goes on.
    pub(super) fn is_loading(&self) -> bool {
        let loading = |slot: &Slot| matches!(slot.status, Status::Loading { reserved: 1.., .. });
        self.slots.values().any(loading)
    }

    /// The paths that are wanted, wherever they lead now.
    pub(super) fn wanted_paths(&self, desired: &DesiredModel) -> Paths {
        Paths {
            default: desired.default,
            aliases: desired.aliases.clone(),
            stages: desired.stages.clone(),
        }
    }

    /// What the policy decides by.
    pub(super) fn view(&self, desired: &DesiredModel) -> ModelView {
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
    pub(super) fn is_unsupported(&self, version: Version) -> bool {
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
            let others = self
                .slots
                .iter()
                .filter(|(version, _)| Some(**version) != desired.default);
            let last = self.last_good.as_ref().map(|(version, _)| *version);
            // The last good one itself may be on its way or back already.
            { others }.all(|(version, slot)| Some(*version) == last || slot.servable().is_none())
        };
        desired.default.is_some_and(failed) && nothing_serves()
    }

    pub(super) fn phase(&self, version: Version) -> Option<Phase> {
        self.slots.get(&version).map(Slot::phase)
    }

    pub(super) fn ready(&self) -> BTreeSet<Version> {
        let ready = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.servable().is_some());
        ready.map(|(version, _)| *version).collect()
    }

    /// The version behind paths without one, when it can answer.
    pub(super) fn serving(&self) -> Option<Version> {
        let ready = self.ready();
        match self.paths.default {
            Some(version) => ready.contains(&version).then_some(version),
            None => ready.last().copied(),
        }
    }

    pub(super) fn servable(&self, version: Version) -> Option<&Arc<Servable>> {
        self.slots.get(&version).and_then(Slot::servable)
    }

    /// Bytes that it holds, and may take yet.
    pub(super) fn memory(&self) -> u64 {
        let bytes = |slot: &Slot| match &slot.status {
            Status::Ready(stage) | Status::Draining { stage, .. } => stage.footprint,
            Status::Loading { reserved, .. } => *reserved,
            Status::New | Status::Failed { .. } | Status::Unsupported(_) => 0,
        };
        self.slots.values().map(bytes).sum()
    }

    /// What requests see.
    pub(super) fn entry(&self, desired: &DesiredModel) -> ModelEntry {
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
            given_up: { desired.versions.iter() }.all(|(version, wanted)| {
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
    pub(super) fn overview(&self, entry: &ModelEntry, now: Instant) -> ModelOverview {
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
}
