//! What to do next for one model, and where its paths should lead: pure functions of what is wanted and what is there.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::model::{Alias, Stage, Version};

/// Where one version stands, as far as a decision needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Wanted, not begun.
    New,
    /// On its way.
    Loading,
    /// Can answer.
    Ready,
    /// Being unloaded.
    Draining,
    /// Failed; tried again at this time, or not before something changes.
    Failed(Option<Instant>),
}

/// One model, as far as a decision needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelView {
    /// Versions that should be loaded and whose files can be had.
    pub(super) wanted: BTreeSet<Version>,
    /// The wanted version of paths without one.
    pub(super) target: Option<Version>,
    /// Every version there is.
    pub(super) versions: BTreeMap<Version, Phase>,
    /// Versions that a path leads to now.
    pub(super) published: BTreeSet<Version>,
    /// Versions that served before, last one first.
    pub(super) previous: Vec<Version>,
    /// The version to go back to when the one on probation fails.
    pub(super) fallback: Option<Version>,
    /// How many of `previous` stay loaded.
    pub(super) keep_previous: usize,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Stop loading a version that is no longer wanted.
    Cancel(Version),
    /// Fetch, compile and warm up a version.
    Load(Version),
    /// Drain and free a version.
    Unload(Version),
    /// Drop what is known of a version that is neither wanted nor loaded.
    Forget(Version),
    /// Nothing to do until something changes.
    Rest,
}

impl ModelView {
    /// Versions that can answer.
    pub(super) fn ready(&self) -> BTreeSet<Version> {
        let ready = self
            .versions
            .iter()
            .filter(|(_, phase)| **phase == Phase::Ready);
        ready.map(|(version, _)| *version).collect()
    }

    /// Ready versions that nothing needs any more.
    fn superfluous(&self) -> impl Iterator<Item = Version> {
        let kept = self
            .previous
            .iter()
            .filter(|version| !self.needs(**version));
        let kept: BTreeSet<Version> = kept.take(self.keep_previous).copied().collect();
        let ready = self.ready().into_iter();
        ready.filter(move |version| !self.needs(*version) && !kept.contains(version))
    }

    fn needs(&self, version: Version) -> bool {
        self.wanted.contains(&version)
            || self.published.contains(&version)
            || self.fallback == Some(version)
    }
}

/// The next thing to do for one model. What it asks for must be done, and be visible in the next view.
pub(super) fn next_action(model: &ModelView, now: Instant) -> Action {
    for (version, phase) in &model.versions {
        let wanted = model.wanted.contains(version);
        match phase {
            Phase::Loading if !wanted => return Action::Cancel(*version),
            Phase::New | Phase::Failed(_) if !wanted => return Action::Forget(*version),
            _ => {}
        }
    }
    if let Some(version) = model.superfluous().next() {
        return Action::Unload(version);
    }
    let due = |version: &Version| match model.versions.get(version) {
        None | Some(Phase::New) => true,
        Some(Phase::Failed(retry_at)) => retry_at.is_some_and(|at| at <= now),
        Some(_) => false,
    };
    let target_first = model.target.iter().chain(&model.wanted);
    let mut wanted = target_first.filter(|version| model.wanted.contains(version));
    match wanted.find(|version| due(version)) {
        Some(version) => Action::Load(*version),
        None => Action::Rest,
    }
}

/// Where the paths of a model lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Paths {
    /// Paths without a version; `None` is the highest version that can answer.
    pub(super) default: Option<Version>,
    pub(super) aliases: BTreeMap<Alias, Version>,
    pub(super) stages: BTreeMap<Stage, Version>,
}

impl Paths {
    /// Every version that one of them names.
    pub(super) fn versions(&self) -> BTreeSet<Version> {
        let pointed = self.aliases.values().chain(self.stages.values());
        pointed.chain(&self.default).copied().collect()
    }
}

/// Where the paths should lead now: to what is wanted once that can answer; until then to what they led to, or to
/// the last version that served.
pub(super) fn paths(
    wanted: &Paths,
    now: &Paths,
    ready: &BTreeSet<Version>,
    previous: &[Version],
) -> Paths {
    let ready_one =
        |version: Option<&Version>| version.copied().filter(|version| ready.contains(version));
    let lead = |wanted: Version, now: Option<&Version>| {
        let last_good = || ready_one(previous.iter().find(|version| ready.contains(version)));
        ready_one(Some(&wanted))
            .or_else(|| ready_one(now))
            .or_else(last_good)
            .unwrap_or(wanted)
    };
    // An alias of its own that was never served here has no last good version to fall back to.
    let lead_pointer = |wanted: Version, now: Option<&Version>| {
        ready_one(Some(&wanted))
            .or_else(|| ready_one(now))
            .unwrap_or(wanted)
    };
    let aliases = wanted.aliases.iter().map(|(alias, version)| {
        (
            alias.clone(),
            lead_pointer(*version, now.aliases.get(alias)),
        )
    });
    let stages = wanted
        .stages
        .iter()
        .map(|(stage, version)| (*stage, lead_pointer(*version, now.stages.get(stage))));
    Paths {
        default: wanted
            .default
            .map(|version| lead(version, now.default.as_ref())),
        aliases: aliases.collect(),
        stages: stages.collect(),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
