//! Looks at a registry again and again, and says what is wanted now.
//!
//! A failed look changes nothing: what was wanted is wanted still. Before the first success the last known state, or a
//! fallback registry, stands in.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::linger::Lingering;
use super::{
    DesiredState, ModelUri, PackageRef, RegisteredModel, RegistryState, Selection, Source,
    SourceError,
};
use crate::jitter::jittered;
use crate::model::ModelName;
use crate::telemetry::Metrics;

/// Remembers the last complete answer of a registry, for a start without it.
pub trait LastKnown: Send + Sync {
    /// Keeps `state`. Failing is worth a warning of its own, no more.
    fn save(&self, state: &KnownState);

    /// What was kept last, and when.
    fn load(&self) -> Option<(KnownState, SystemTime)>;
}

/// All that must be known to serve without the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownState {
    /// Its answer.
    pub registry: RegistryState,
    /// The packages of targets that are no registered versions.
    pub resolved: BTreeMap<ModelUri, PackageRef>,
}

/// What a watcher works with.
pub struct WatcherParts {
    /// The registry.
    pub source: Arc<dyn Source>,
    /// Asked instead when the registry cannot be reached at the start.
    pub fallback: Option<Arc<dyn Source>>,
    /// What is wanted of it.
    pub selection: Selection,
    /// The time between two looks, when the registry is quick.
    pub interval: Duration,
    /// How long what has gone from it is wanted on.
    pub unload_delay: Duration,
    /// Where the last state is kept.
    pub memory: Option<Arc<dyn LastKnown>>,
    /// Where looks are counted.
    pub metrics: Arc<Metrics>,
    /// Notified to look at once.
    pub hint: Arc<Notify>,
}

impl std::fmt::Debug for WatcherParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatcherParts").finish_non_exhaustive()
    }
}

/// What the first look found, which decides whether a server can start at all.
#[derive(Debug)]
pub enum FirstLook {
    /// The registry, or what stands in for it, was read; these targets do not exist in it.
    Read {
        /// Targets that the registry does not have.
        missing: Vec<ModelUri>,
    },
    /// Nothing was read.
    Failed(SourceError),
}

/// See the module.
pub struct Watcher {
    parts: WatcherParts,
    /// Packages of targets that are no registered versions; they never change.
    resolved: BTreeMap<ModelUri, PackageRef>,
    failures: u32,
    /// What it said last of each model.
    last: BTreeMap<ModelName, RegisteredModel>,
    /// What of it could not be read then.
    broken: BTreeMap<ModelName, String>,
    /// How many models the registry had when it had any; `None` before the first answer.
    had: Option<usize>,
    /// Since when it says that it has none.
    empty_since: Option<Instant>,
    lingering: Lingering,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// A registry that says nothing for this long is as good as gone.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// A start waits for the registry's word this long before it begins with the last one.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A registry is looked at for at most one part in this many of the time.
const SHARE: u32 = 10;

/// A registry that had models and has none any more is believed after this long: an empty database, or a directory that
/// is not mounted, looks the same.
const EMPTY_BELIEVED: Duration = Duration::from_secs(60);

/// The longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A fleet must not ask all at once.
const JITTER: f64 = 0.2;

impl Watcher {
    /// A watcher that has not looked yet.
    pub fn new(parts: WatcherParts) -> Self {
        Self {
            lingering: Lingering::new(parts.unload_delay),
            parts,
            resolved: BTreeMap::new(),
            failures: 0,
            last: BTreeMap::new(),
            broken: BTreeMap::new(),
            had: None,
            empty_since: None,
        }
    }

    /// The first look: the registry, else what was last known of it, else its fallback.
    pub async fn first_look(&mut self) -> (Option<DesiredState>, FirstLook) {
        let source = Arc::clone(&self.parts.source);
        let remembered = self.parts.memory.as_ref().and_then(|memory| memory.load());
        // A registry that has lost all its models is no more believed than by a server that had them.
        if let Some((known, _)) = &remembered {
            self.had = Some(known.registry.models.len());
        }
        // While there is something to begin with, the start does not wait.
        let patience = if remembered.is_some() {
            FIRST_LOOK
        } else {
            LONGEST_LOOK
        };
        let looked = timeout(patience, self.look(&source)).await;
        let error = match looked.unwrap_or_else(|_| Err(silent(&source, patience))) {
            Ok((state, desired)) => {
                self.succeeded(&state);
                return (Some(desired), self.read(&state));
            }
            Err(error) => error,
        };
        self.failed(&error);
        if let Some((known, at)) = remembered {
            let age = SystemTime::now().duration_since(at).unwrap_or_default();
            let age = humantime::format_duration(Duration::from_secs(age.as_secs())).to_string();
            tracing::warn!(
                registry = self.parts.source.address(),
                age,
                "serving the last known state of the registry"
            );
            self.resolved = known.resolved;
            let state = known.registry;
            let desired = self.parts.selection.desired(&state, &self.resolved);
            return (Some(desired), self.read(&state));
        }
        if let Some(fallback) = self.parts.fallback.clone() {
            match self.look(&fallback).await {
                Ok((state, desired)) => {
                    tracing::warn!(
                        fallback = fallback.address(),
                        "serving what the fallback registry says"
                    );
                    return (Some(desired), self.read(&state));
                }
                Err(error) => {
                    tracing::error!(%error, "the fallback registry cannot be read either")
                }
            }
        }
        (None, FirstLook::Failed(error))
    }

    fn read(&self, state: &RegistryState) -> FirstLook {
        if let Some(reason) = self.parts.selection.unreadable(state) {
            return FirstLook::Failed(SourceError::Malformed {
                registry: self.parts.source.address().to_owned(),
                reason: reason.to_owned(),
            });
        }
        let missing = self.parts.selection.missing(state);
        FirstLook::Read {
            missing: missing.into_iter().cloned().collect(),
        }
    }

    /// Polls for ever, and passes each desired state to `publish`.
    pub async fn run(mut self, publish: impl Fn(DesiredState)) {
        let source = Arc::clone(&self.parts.source);
        let changes = source.changes().unwrap_or_default();
        let mut wait = jittered(self.parts.interval, JITTER);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changes.notified() => {}
                () = self.parts.hint.notified() => {}
            }
            let started = Instant::now();
            let looked = self.look(&source).await;
            let took = started.elapsed();
            wait = match looked {
                Ok((state, desired)) => {
                    self.succeeded(&state);
                    publish(desired);
                    jittered(self.parts.interval.max(share(took)), JITTER)
                }
                Err(error) => {
                    self.failed(&error);
                    self.after_failure(&error).max(share(took))
                }
            };
        }
    }

    async fn look(
        &mut self,
        source: &Arc<dyn Source>,
    ) -> Result<(RegistryState, DesiredState), SourceError> {
        let look = async {
            let state = source.snapshot(&self.parts.selection.query()).await?;
            for target in &self.parts.selection.targets {
                let uri = &target.uri;
                if !matches!(uri, ModelUri::Registered { .. }) && !self.resolved.contains_key(uri) {
                    self.resolved
                        .insert(uri.clone(), source.resolve(uri).await?);
                }
            }
            Ok::<_, SourceError>(state)
        };
        // A runtime that gets no thread panics, and the look after this one may go well.
        let looked = timeout(LONGEST_LOOK, AssertUnwindSafe(look).catch_unwind()).await;
        let looked = looked.map_err(|_| silent(source, LONGEST_LOOK))?;
        let mut state = looked.map_err(|_| SourceError::Unreachable {
            registry: source.address().to_owned(),
            reason: "the look at it panicked".to_owned(),
        })??;
        self.doubt_emptiness(source, &state)?;
        self.bridge(&mut state);
        let desired = self.parts.selection.desired(&state, &self.resolved);
        Ok((state, desired))
    }

    /// A model whose records cannot be read is what it was.
    fn bridge(&mut self, state: &mut RegistryState) {
        for (name, reason) in &state.broken {
            if self.broken.get(name) != Some(reason) {
                tracing::error!(model = %name, reason, "the registry's records of a model cannot be read; the others are followed");
            }
        }
        let is_news = |name: &&ModelName| !self.last.contains_key(*name);
        if state.broken.keys().any(|name| is_news(&name)) {
            // As before this process.
            let memory = self.parts.memory.as_ref();
            let known = memory.and_then(|memory| memory.load());
            let known = known.map(|(known, _)| known.registry.models);
            for (name, model) in known.unwrap_or_default() {
                self.last.entry(name).or_insert(model);
            }
        }
        for name in state.broken.keys() {
            if let Some(model) = self.last.get(name) {
                state.models.insert(name.clone(), model.clone());
            }
        }
        self.broken = state.broken.clone();
        state
            .broken
            .retain(|name, _| !state.models.contains_key(name));
        self.lingering.keep(state, &self.last, Instant::now());
        self.last = state.models.clone();
    }

    fn doubt_emptiness(
        &mut self,
        source: &Arc<dyn Source>,
        state: &RegistryState,
    ) -> Result<(), SourceError> {
        if !state.models.is_empty() {
            self.had = Some(state.models.len());
            self.empty_since = None;
            return Ok(());
        }
        let had = match self.had {
            Some(had) => had,
            // Before a restart it counts as well.
            None => self.remembered(),
        };
        self.had = Some(had);
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        if had == 0 || since.elapsed() >= EMPTY_BELIEVED {
            self.had = Some(0);
            return Ok(());
        }
        Err(SourceError::Malformed {
            registry: source.address().to_owned(),
            reason: format!(
                "it says that it has no model, and had {had}; that is believed when it lasts for {EMPTY_BELIEVED:?}"
            ),
        })
    }

    /// How many models the registry had before this process.
    fn remembered(&self) -> usize {
        let known = self.parts.memory.as_ref().and_then(|memory| memory.load());
        known.map_or(0, |(known, _)| known.registry.models.len())
    }

    fn succeeded(&mut self, state: &RegistryState) {
        if self.failures > 0 {
            tracing::info!(
                registry = self.parts.source.address(),
                "the registry answers again"
            );
        }
        self.failures = 0;
        self.parts.metrics.registry_synced(true);
        if let Some(memory) = &self.parts.memory {
            memory.save(&KnownState {
                registry: state.clone(),
                resolved: self.resolved.clone(),
            });
        }
    }

    fn failed(&mut self, error: &SourceError) {
        self.failures = self.failures.saturating_add(1);
        self.parts.metrics.registry_synced(false);
        // One line when it begins, then ever fewer.
        if self.failures.is_power_of_two() {
            tracing::error!(%error, failures = self.failures, "the registry could not be read; models that are loaded keep serving");
        }
    }

    fn after_failure(&self, error: &SourceError) -> Duration {
        let doubled = self
            .parts
            .interval
            .saturating_mul(1 << self.failures.min(6));
        let wait = jittered(doubled.min(LONGEST_WAIT).max(self.parts.interval), JITTER);
        wait.max(error.retry_after().unwrap_or_default())
    }
}

fn silent(source: &Arc<dyn Source>, patience: Duration) -> SourceError {
    SourceError::Unreachable {
        registry: source.address().to_owned(),
        reason: format!("no answer within {patience:?}"),
    }
}

/// The wait after a look that took so long.
fn share(took: Duration) -> Duration {
    took.saturating_mul(SHARE).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::*;
    use crate::model::{ModelName, Version};
    use crate::registry::{Query, RegisteredModel, RegisteredVersion, VersionStatus};
    use crate::telemetry::DURATION_BUCKETS;

    /// A registry whose answers are given one after the other; the last one stays.
    struct Scripted(Mutex<Vec<Result<u64, u16>>>);

    /// A registry with one model; 0 is an empty one.
    fn state(champion: u64) -> RegistryState {
        if champion == 0 {
            return RegistryState::default();
        }
        let version = RegisteredVersion {
            status: VersionStatus::Ready,
            location: String::new(),
            revision: String::new(),
            digest: None,
        };
        let model = RegisteredModel {
            aliases: [("champion".to_owned().try_into().unwrap(), Version(champion))].into(),
            versions: [(Version(champion), version)].into(),
            ..RegisteredModel::default()
        };
        RegistryState {
            models: [(ModelName::new("m").unwrap(), model)].into(),
            ..RegistryState::default()
        }
    }

    #[async_trait]
    impl Source for Scripted {
        fn address(&self) -> &str {
            "scripted"
        }

        async fn snapshot(&self, _: &Query) -> Result<RegistryState, SourceError> {
            let mut answers = self.0.lock();
            let next = if answers.len() > 1 {
                answers.remove(0)
            } else {
                answers[0]
            };
            next.map(state).map_err(|status| SourceError::Status {
                registry: "scripted".to_owned(),
                status,
                reason: "no".to_owned(),
                retry_after: None,
            })
        }

        async fn fetch(&self, _: &PackageRef, _: &Path) -> Result<(), SourceError> {
            unreachable!("a watcher fetches nothing")
        }
    }

    #[derive(Default)]
    struct Notebook(Mutex<Option<KnownState>>);

    impl LastKnown for Notebook {
        fn save(&self, state: &KnownState) {
            *self.0.lock() = Some(state.clone());
        }

        fn load(&self) -> Option<(KnownState, SystemTime)> {
            Some((self.0.lock().clone()?, SystemTime::now()))
        }
    }

    fn scripted(answers: &[Result<u64, u16>]) -> Arc<dyn Source> {
        Arc::new(Scripted(Mutex::new(answers.to_vec())))
    }

    fn watcher(
        source: Arc<dyn Source>,
        fallback: Option<Arc<dyn Source>>,
        memory: Arc<Notebook>,
    ) -> Watcher {
        Watcher::new(WatcherParts {
            source,
            fallback,
            selection: Selection {
                follow: vec!["@champion".parse().unwrap()],
                ..Selection::default()
            },
            interval: Duration::from_secs(5),
            unload_delay: Duration::ZERO,
            memory: Some(memory),
            metrics: Arc::new(Metrics::new(&DURATION_BUCKETS)),
            hint: Arc::new(Notify::new()),
        })
    }

    fn champion(desired: &DesiredState) -> u64 {
        desired.models[&ModelName::new("m").unwrap()]
            .default
            .unwrap()
            .0
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_publishes_nothing() {
        let source = scripted(&[Ok(1), Err(500), Err(401), Ok(2)]);
        let watcher = watcher(source, None, Arc::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let write = Arc::clone(&seen);
        let run = watcher.run(move |desired| write.lock().push(champion(&desired)));
        let _ = timeout(Duration::from_secs(120), run).await;
        let seen = seen.lock();
        assert_eq!(seen[..2], [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_asks_to_be_left_alone_for_a_year_is_asked_again_within_minutes() {
        struct Busy(Mutex<u32>);
        #[async_trait]
        impl Source for Busy {
            fn address(&self) -> &str {
                "busy"
            }

            async fn snapshot(&self, _: &Query) -> Result<RegistryState, SourceError> {
                let mut looks = self.0.lock();
                *looks += 1;
                if *looks > 1 {
                    return Ok(state(1));
                }
                Err(SourceError::Status {
                    registry: "busy".to_owned(),
                    status: 503,
                    reason: "later".to_owned(),
                    retry_after: Some(Duration::from_secs(365 * 24 * 3600)),
                })
            }

            async fn fetch(&self, _: &PackageRef, _: &Path) -> Result<(), SourceError> {
                unreachable!("a watcher fetches nothing")
            }
        }
        let watcher = watcher(Arc::new(Busy(Mutex::default())), None, Arc::default());
        let (described, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let started = Instant::now();
        tokio::spawn(watcher.run(move |desired| {
            let _ = described.send(champion(&desired));
        }));
        assert_eq!(heard.recv().await, Some(1));
        assert!(
            started.elapsed() < Duration::from_secs(400),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn a_start_without_the_registry_takes_the_last_known_state_then_the_fallback() {
        let memory = Arc::new(Notebook::default());
        let down = || scripted(&[Err(503)]);
        let (desired, look) = watcher(down(), None, Arc::clone(&memory))
            .first_look()
            .await;
        assert!(desired.is_none() && matches!(look, FirstLook::Failed(_)));

        let (desired, _) = watcher(down(), Some(scripted(&[Ok(7)])), Arc::clone(&memory))
            .first_look()
            .await;
        assert_eq!(champion(&desired.unwrap()), 7);

        memory.save(&KnownState {
            registry: state(3),
            ..KnownState::default()
        });
        let fallback = Some(scripted(&[Ok(7)]));
        let (desired, _) = watcher(down(), fallback, memory).first_look().await;
        assert_eq!(champion(&desired.unwrap()), 3);
    }

    #[tokio::test]
    async fn a_start_with_a_registry_that_is_suddenly_empty_takes_the_last_known_state() {
        let memory = Arc::new(Notebook::default());
        memory.save(&KnownState {
            registry: state(3),
            ..KnownState::default()
        });
        let (desired, _) = watcher(scripted(&[Ok(0)]), None, memory).first_look().await;
        assert_eq!(champion(&desired.unwrap()), 3);
        let mut nothing = watcher(scripted(&[Ok(0)]), None, Arc::default());
        let (desired, look) = nothing.first_look().await;
        assert!(desired.unwrap().models.is_empty());
        assert!(matches!(look, FirstLook::Read { .. }));
    }

    /// A registry that takes connections and says nothing.
    struct Silent;

    #[async_trait]
    impl Source for Silent {
        fn address(&self) -> &str {
            "silent"
        }

        async fn snapshot(&self, _: &Query) -> Result<RegistryState, SourceError> {
            std::future::pending().await
        }

        async fn fetch(&self, _: &PackageRef, _: &Path) -> Result<(), SourceError> {
            unreachable!("a watcher fetches nothing")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_a_silent_registry_no_longer_than_it_must() {
        let memory = Arc::new(Notebook::default());
        memory.save(&KnownState {
            registry: state(3),
            ..KnownState::default()
        });
        let started = Instant::now();
        let (desired, look) = watcher(Arc::new(Silent), None, memory).first_look().await;
        assert_eq!(champion(&desired.unwrap()), 3);
        assert!(matches!(look, FirstLook::Read { missing } if missing.is_empty()));
        assert_eq!(started.elapsed(), FIRST_LOOK);
        let mut unknown = watcher(Arc::new(Silent), None, Arc::default());
        let started = Instant::now();
        let (desired, _) = unknown.first_look().await;
        assert!(desired.is_none());
        assert_eq!(started.elapsed(), LONGEST_LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_is_suddenly_empty_is_believed_after_a_minute() {
        let source = Arc::new(Scripted(Mutex::new(vec![Ok(1), Ok(0)])));
        let watcher = watcher(source, None, Arc::default());
        let (described, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let started = Instant::now();
        tokio::spawn(watcher.run(move |desired| {
            let _ = described.send(desired.models.len());
        }));
        assert_eq!(heard.recv().await, Some(1));
        assert_eq!(heard.recv().await, Some(0));
        let waited = started.elapsed();
        assert!(
            waited >= EMPTY_BELIEVED && waited < EMPTY_BELIEVED * 4,
            "{waited:?}"
        );
    }

    #[tokio::test]
    async fn a_model_whose_records_cannot_be_read_is_what_it_was() {
        let memory = Arc::new(Notebook::default());
        let mut watcher = watcher(scripted(&[Ok(1)]), None, Arc::clone(&memory));
        let broken = || RegistryState {
            broken: [(ModelName::new("m").unwrap(), "garbage".to_owned())].into(),
            ..RegistryState::default()
        };
        let mut seen = broken();
        watcher.bridge(&mut seen);
        assert_eq!(seen, broken(), "nothing is known of it");
        watcher.bridge(&mut state(2));
        let mut seen = broken();
        watcher.bridge(&mut seen);
        assert_eq!(seen, state(2));
        // Nor after a restart.
        memory.save(&KnownState {
            registry: state(2),
            ..KnownState::default()
        });
        let mut restarted = super::tests::watcher(scripted(&[Ok(1)]), None, memory);
        let mut seen = broken();
        restarted.bridge(&mut seen);
        assert_eq!(seen, state(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_looks_at_once() {
        let watcher = watcher(scripted(&[Ok(1)]), None, Arc::default());
        let hint = Arc::clone(&watcher.parts.hint);
        let (described, mut heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(watcher.run(move |desired| {
            let _ = described.send(champion(&desired));
        }));
        hint.notify_one();
        let started = Instant::now();
        heard.recv().await.unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "long before the next poll"
        );
    }
}
