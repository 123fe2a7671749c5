//! All versions under watch, those that have left lately included.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::version::{Limits, Subject, VersionMonitor};
use super::watched::{Origin, Watched};
use crate::model::{ModelName, Package};
use crate::serving::{Arrival, Observable, Observed, Observer, Observers};

/// Versions of a model that have left and may come back.
const MOST_GONE: usize = 2;

/// What a scrape gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Export {
    /// The index of each feature, and how many have drifted.
    #[default]
    Scores,
    /// The counts of each bin, too, which several replicas can be summed from.
    Bins,
}

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct MonitorOptions {
    /// Whether anything is looked at.
    pub enabled: bool,
    /// The time between two evaluations.
    pub interval: Duration,
    /// How much is looked at.
    pub limits: Limits,
    /// What a scrape gets.
    pub export: Export,
    /// Baselines of models that are not those of their packages.
    pub baselines: Vec<(ModelName, PathBuf)>,
}

/// All versions under watch.
#[derive(Debug)]
pub struct Monitors {
    pub(super) options: MonitorOptions,
    versions: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    monitor: Arc<VersionMonitor>,
    /// Gone when no servable has it.
    loaded: Weak<Watcher>,
}

/// What a servable has of its monitor.
#[derive(Debug)]
struct Watcher(Arc<VersionMonitor>);

impl Observer for Watcher {
    fn wants(&self, arrival: &Arrival<'_>) -> Option<f64> {
        let rows = arrival.rows?;
        self.0.share(arrival.id.as_str(), arrival.at, rows)
    }

    fn observe(&self, seen: Arc<Observed>, share: f64) {
        let monitor = Arc::clone(&self.0);
        let work = async move { monitor.count(&seen, share).await };
        // On this thread, which sends the answer before it turns to other tasks.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

impl Observers for Monitors {
    fn observer(&self, version: &Observable<'_>) -> Option<Arc<dyn Observer>> {
        if !self.options.enabled {
            return None;
        }
        let package = version.package;
        let mut versions = self.versions.lock();
        let is_it = |kept: &&mut Kept| {
            *kept.monitor.id() == package.id && kept.monitor.digest() == package.digest
        };
        if let Some(kept) = versions.iter_mut().find(is_it) {
            let watcher = kept.loaded.upgrade();
            let watcher = watcher.unwrap_or_else(|| Arc::new(Watcher(Arc::clone(&kept.monitor))));
            kept.loaded = Arc::downgrade(&watcher);
            return Some(watcher);
        }
        let watched = self.watched(package, &versions);
        let subject = Subject {
            id: package.id.clone(),
            digest: package.digest.clone(),
            graph: version.signature.clone(),
            declared: package.manifest.signature.clone(),
        };
        let monitor = VersionMonitor::new(subject, watched, self.options.limits);
        let monitor = Arc::new(monitor);
        let watcher = Arc::new(Watcher(Arc::clone(&monitor)));
        let loaded = Arc::downgrade(&watcher);
        versions.retain(|kept| *kept.monitor.id() != package.id);
        versions.push(Kept { monitor, loaded });
        tidy(&mut versions, &package.id.name);
        Some(watcher)
    }
}

/// Forgets what nobody may come back to.
fn tidy(versions: &mut Vec<Kept>, model: &ModelName) {
    let is_gone = |kept: &Kept| kept.loaded.strong_count() == 0;
    versions.retain(|kept| !is_gone(kept) || !kept.monitor.is_past());
    let of_model = |kept: &Kept| is_gone(kept) && kept.monitor.id().name == *model;
    let gone = versions.iter().filter(|kept| of_model(kept)).count();
    let mut surplus = gone.saturating_sub(MOST_GONE);
    versions.retain(|kept| {
        let goes = surplus > 0 && of_model(kept);
        surplus -= usize::from(goes);
        !goes
    });
}

impl Monitors {
    /// None yet.
    pub fn new(options: MonitorOptions) -> Self {
        Self {
            options,
            versions: Mutex::default(),
        }
    }

    /// What the operator chose.
    pub fn options(&self) -> &MonitorOptions {
        &self.options
    }

    /// What a version is compared with: the first of its sources that has something.
    fn watched(&self, package: &Package, versions: &[Kept]) -> Option<Watched> {
        let most = self.options.limits.features;
        let name = &package.id.name;
        let set = self.options.baselines.iter();
        let set = set.filter(|(model, _)| model == name);
        let set = set.map(|(_, path)| (path.clone(), Origin::Setting));
        let own = package.manifest.hints.baseline.iter();
        let own = own.map(|path| (package.root.join(path), Origin::Package));
        for (path, origin) in set.chain(own) {
            match Baseline::read(&path) {
                Ok(baseline) => return Some(Watched::new(baseline, origin, most)),
                Err(error) => {
                    let version = package.id.version;
                    tracing::warn!(model = %name, %version, %error, "the baseline is not used");
                }
            }
        }
        let before = versions
            .iter()
            .filter(|kept| kept.monitor.id().name == *name && kept.loaded.strong_count() > 0);
        let before = before.max_by_key(|kept| kept.monitor.totals().1)?;
        let baseline = before.monitor.as_baseline()?;
        Some(Watched::new(baseline, Origin::Itself, most))
    }

    /// Those that are loaded, in the order of their names and versions.
    pub fn loaded(&self) -> Vec<Arc<VersionMonitor>> {
        let versions = self.versions.lock();
        let loaded = versions
            .iter()
            .filter(|kept| kept.loaded.strong_count() > 0);
        let mut loaded: Vec<_> = loaded.map(|kept| Arc::clone(&kept.monitor)).collect();
        drop(versions);
        loaded.sort_by(|one, other| {
            let key = |monitor: &VersionMonitor| {
                let id = monitor.id();
                (id.name.as_str().to_owned(), id.version)
            };
            key(one).cmp(&key(other))
        });
        loaded
    }

    /// Gives a verdict on every feature of every version that is loaded.
    pub fn evaluate(&self) {
        for monitor in self.loaded() {
            monitor.evaluate();
        }
    }

    /// Evaluates from time to time, for as long as it is polled.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(self.options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one is at once.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.evaluate();
        }
    }
}
