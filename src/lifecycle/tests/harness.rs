//! The manager in a test: what is wanted, loads in memory, and requests that hold versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::loader::InMemoryLoader;
use crate::engine::{EngineChoice, EngineOptions};
use crate::lifecycle::manager::Totals;
use crate::lifecycle::{
    BatchingOptions, Contract, ExamplePolicy, LoadLimits, LoadOptions, Manager, ManagerHandle,
    ManagerParts, ModelOptions, OnDemand, RowPolicy, Supply, SwapOrder, mailbox,
};
use crate::model::{Alias, ModelId, ModelName, ResponseForm, Version};
use crate::registry::{
    CachedPackage, DesiredModel, DesiredState, PackageRef, PastRuns, Served, SourceError, Wanted,
};
use crate::serving::{
    Catalog, ModelEntry, Selector, ServableHandle, SwapRecord, VersionSelector, VersionState,
};
use crate::signing::SealPolicy;
use crate::telemetry::{DURATION_BUCKETS, Metrics, Tracer};

/// What the manager has done so far, and what it holds.
#[derive(Debug, Default)]
pub(crate) struct Work(Mutex<Seen>);

/// See [`Work`].
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) decided: BTreeMap<ModelName, usize>,
    pub(super) shown: BTreeMap<ModelName, usize>,
    pub(super) wakes: usize,
    pub(super) totals: Totals,
}

impl Work {
    pub(crate) fn decided(&self, model: &ModelName) {
        *self.0.lock().decided.entry(model.clone()).or_default() += 1;
    }

    pub(crate) fn shown(&self, model: &ModelName) {
        *self.0.lock().shown.entry(model.clone()).or_default() += 1;
    }

    pub(crate) fn woke(&self, totals: Totals) {
        let mut seen = self.0.lock();
        seen.wakes += 1;
        seen.totals = totals;
    }

    /// What was counted since it was last asked.
    pub(super) fn take(&self) -> Seen {
        let mut seen = self.0.lock();
        let totals = seen.totals;
        let fresh = Seen {
            totals,
            ..Seen::default()
        };
        std::mem::replace(&mut *seen, fresh)
    }

    pub(super) fn totals(&self) -> Totals {
        self.0.lock().totals
    }
}

/// A running manager with everything around it.
pub(super) struct Harness {
    pub(super) handle: ManagerHandle,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) loader: Arc<InMemoryLoader>,
    pub(super) work: Arc<Work>,
    pub(super) past: Arc<Past>,
    pub(super) desired: watch::Sender<DesiredState>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// What a test chooses before the manager starts.
pub(super) struct Setup {
    options: Box<dyn Fn(&ModelName) -> ModelOptions + Send + Sync>,
    memory_budget: Option<u64>,
    drain_timeout: Duration,
    found: Vec<PackageRef>,
    past: Past,
    desired: DesiredState,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: Box::new(|_| options()),
            memory_budget: None,
            drain_timeout: DRAIN_TIMEOUT,
            found: Vec::new(),
            past: Past::default(),
            desired: DesiredState {
                complete: true,
                ..DesiredState::default()
            },
        }
    }
}

/// How long a version that leaves waits for its last requests.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

impl Setup {
    /// Every model has these options.
    pub(super) fn all(options: ModelOptions) -> Self {
        Self::each(move |_| options.clone())
    }

    pub(super) fn each(
        options: impl Fn(&ModelName) -> ModelOptions + Send + Sync + 'static,
    ) -> Self {
        Self {
            options: Box::new(options),
            ..Self::default()
        }
    }

    pub(super) fn budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// A version that the registry has although nobody wants it.
    pub(super) fn found(mut self, name: &str, version: u64) -> Self {
        self.found.push(package(name, version));
        self
    }

    pub(super) fn past(mut self, past: Past) -> Self {
        self.past = past;
        self
    }

    /// What is wanted from the beginning.
    pub(super) fn wanting(mut self, name: &str, wish: DesiredModel) -> Self {
        self.desired.models.insert(model(name), wish);
        self
    }

    /// The registry has not answered yet.
    pub(super) fn incomplete(mut self) -> Self {
        self.desired.complete = false;
        self
    }

    pub(super) fn start(self) -> Harness {
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        let catalog = Arc::new(Catalog::default());
        let loader = Arc::new(InMemoryLoader::new(Arc::clone(&metrics)));
        let (desired, wanted) = watch::channel(self.desired);
        let stop = CancellationToken::new();
        let past = Arc::new(self.past);
        let (handle, mailbox) = mailbox();
        let handle = handle.with_supply(Some(Arc::new(Found(self.found))));
        let parts = ManagerParts {
            loader: Arc::clone(&loader) as _,
            past: Some(Arc::clone(&past) as _),
            catalog: Arc::clone(&catalog),
            metrics: Arc::clone(&metrics),
            tracer: Tracer::default(),
            options: self.options,
            memory_budget: self.memory_budget,
            drain_timeout: self.drain_timeout,
        };
        let manager = Manager::new(parts, mailbox, wanted, stop.clone());
        let work = manager.work();
        Harness {
            handle,
            catalog,
            metrics,
            loader,
            work,
            past,
            desired,
            stop,
            task: tokio::spawn(manager.run()),
        }
    }
}

impl Harness {
    /// Models without probation, of which one previous version stays loaded.
    pub(super) fn start() -> Self {
        Setup::default().start()
    }

    /// Wants a model like this, and lets the manager act.
    pub(super) async fn want(&self, name: &str, wish: DesiredModel) {
        // What is wanted before the manager first looks is wanted by the start.
        settle().await;
        self.desired.send_modify(|desired| {
            desired.models.insert(model(name), wish);
        });
        settle().await;
    }

    pub(super) async fn remove(&self, name: &str) {
        self.desired.send_modify(|desired| {
            desired.models.remove(&model(name));
        });
        settle().await;
    }

    pub(super) fn entry(&self, name: &str) -> Option<ModelEntry> {
        self.catalog.snapshot().models.get(&model(name)).cloned()
    }

    /// The version that paths without one lead to, when it can answer.
    pub(super) fn serving(&self, name: &str) -> Option<u64> {
        let version = self.entry(name)?.serving()?;
        Some(version.0)
    }

    /// The version that an alias leads to, when it can answer.
    pub(super) fn alias(&self, name: &str, alias: &str) -> Option<u64> {
        let entry = self.entry(name)?;
        let version = entry.aliases.get(&Alias::new(alias).unwrap())?;
        entry.versions.get(version)?.servable.as_ref()?;
        Some(version.0)
    }

    pub(super) fn state(&self, name: &str, version: u64) -> Option<VersionState> {
        let entry = self.entry(name)?;
        Some(entry.versions.get(&Version(version))?.state.clone())
    }

    /// The state of a version in one word; `-` when requests do not see it.
    pub(super) fn label(&self, name: &str, version: u64) -> &'static str {
        self.state(name, version).map_or("-", |state| state.label())
    }

    /// A request that has found the model's default version.
    pub(super) fn request(&self, name: &str) -> ServableHandle {
        self.request_for(name, VersionSelector::Default)
    }

    pub(super) fn request_for(&self, name: &str, version: VersionSelector) -> ServableHandle {
        let model = Some(model(name));
        self.catalog.lookup(&Selector { model, version }).unwrap()
    }

    pub(super) fn history(&self) -> Vec<SwapRecord> {
        use crate::serving::Admin as _;
        self.handle.history()
    }

    /// Each swap, oldest first: from, to, cause, outcome.
    pub(super) fn swaps(&self) -> Vec<(Option<u64>, Option<u64>, &'static str, &'static str)> {
        let number = |version: Option<Version>| version.map(|version| version.0);
        let mut swaps = self.history();
        swaps.reverse();
        let swaps = swaps.into_iter();
        swaps
            .map(|swap| {
                let (from, to) = (number(swap.from), number(swap.to));
                (from, to, swap.cause.as_str(), swap.outcome.label())
            })
            .collect()
    }

    /// Whether a series whose line begins so is there.
    pub(super) fn has_series(&self, start: &str) -> bool {
        let text = self.metrics.render();
        text.lines().any(|line| line.starts_with(start))
    }

    /// The lines of every series that names the model, but for what is counted of its swaps: counters stay.
    pub(super) fn series_of(&self, name: &str) -> Vec<String> {
        let label = format!("model=\"{name}\"");
        let text = self.metrics.render();
        let counters = ["onstage_swaps_total", "onstage_candidate_failures_total"];
        let is_counter = |line: &str| counters.iter().any(|counter| line.starts_with(counter));
        let lines = text.lines();
        let lines = lines.filter(|line| line.contains(&label) && !is_counter(line));
        lines.map(ToOwned::to_owned).collect()
    }
}

/// Lets everything happen that needs no time to pass.
pub(super) async fn settle() {
    after(Duration::from_millis(1)).await;
}

pub(super) async fn after(time: Duration) {
    sleep(time).await;
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn model(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

pub(super) fn id(name: &str, version: u64) -> ModelId {
    ModelId {
        name: model(name),
        version: Version(version),
    }
}

pub(super) fn package(name: &str, version: u64) -> PackageRef {
    PackageRef {
        id: id(name, version),
        location: format!("{name}/{version}"),
        revision: "1".to_owned(),
        digest: None,
    }
}

/// The same version with other files.
pub(super) fn changed(name: &str, version: u64) -> PackageRef {
    PackageRef {
        revision: "2".to_owned(),
        ..package(name, version)
    }
}

/// These versions of a model; the first one is the default.
pub(super) fn wish(name: &str, versions: &[u64]) -> DesiredModel {
    let wanted = |version: &u64| (Version(*version), Wanted::Package(package(name, *version)));
    DesiredModel {
        default: versions.first().copied().map(Version),
        versions: versions.iter().map(wanted).collect(),
        ..DesiredModel::default()
    }
}

/// The same with an alias.
pub(super) fn with_alias(mut wish: DesiredModel, alias: &str, version: u64) -> DesiredModel {
    let alias = Alias::new(alias).unwrap();
    wish.aliases.insert(alias, Version(version));
    wish
}

/// No probation, one previous version stays loaded, and whatever contract is fine.
pub(super) fn options() -> ModelOptions {
    ModelOptions {
        load: LoadOptions {
            engine: EngineChoice::Auto,
            isolated: false,
            engine_options: EngineOptions::default(),
            batching: BatchingOptions {
                max_rows: None,
                max_delay: None,
                max_queue_size: 16,
                instances: None,
            },
            rows: RowPolicy::Proven,
            max_concurrency: None,
            max_rows: None,
            request_timeout: seconds(10),
            warmup: None,
            example: ExamplePolicy::Require,
            response: ResponseForm::default(),
            seal: SealPolicy::default(),
            limits: LoadLimits {
                fetch: seconds(600),
                phase: seconds(600),
            },
        },
        keep_previous: 1,
        swap: SwapOrder::MakeBeforeBreak,
        contract: Contract(Arc::new(|_, _| Ok(()))),
        probation: Duration::ZERO,
        required: false,
        on_demand: OnDemand::default(),
    }
}

/// Options of models that are on probation for a minute.
pub(super) fn with_probation() -> ModelOptions {
    ModelOptions {
        probation: seconds(60),
        keep_previous: 0,
        ..options()
    }
}

/// Options of models that give up their memory for others.
pub(super) fn evictable() -> ModelOptions {
    ModelOptions {
        on_demand: OnDemand {
            lazy: false,
            evictable: true,
        },
        ..options()
    }
}

/// Options of models that nobody loads before the first request.
pub(super) fn lazy() -> ModelOptions {
    ModelOptions {
        on_demand: OnDemand {
            lazy: true,
            evictable: true,
        },
        ..options()
    }
}

/// A registry that knows these versions.
struct Found(Vec<PackageRef>);

#[async_trait]
impl Supply for Found {
    async fn fetch(&self, package: &PackageRef) -> Result<CachedPackage, SourceError> {
        Err(SourceError::NotFound(package.id.to_string()))
    }

    async fn discard(&self, _: &PackageRef) {}

    async fn find(&self, id: &ModelId) -> Result<PackageRef, SourceError> {
        let found = self.0.iter().find(|package| package.id == *id);
        found
            .cloned()
            .ok_or_else(|| SourceError::NotFound(id.to_string()))
    }
}

/// What an earlier run left, and what this one writes down.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) before: BTreeMap<ModelName, Served>,
    pub(super) notes: Mutex<Notes>,
}

/// See [`Past`].
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) saved: Vec<(ModelName, Version)>,
    pub(super) forgotten: Vec<ModelName>,
    pub(super) has_served: Vec<String>,
    pub(super) stopped: bool,
}

impl Past {
    /// An earlier run that served this version.
    pub(super) fn new(name: &str, version: u64) -> Self {
        let served = Served {
            model: model(name),
            default: Version(version),
            aliases: BTreeMap::new(),
            stages: BTreeMap::new(),
            packages: [(Version(version), package(name, version))].into(),
        };
        Self {
            before: [(model(name), served)].into(),
            notes: Mutex::default(),
        }
    }

    pub(super) fn saved(&self) -> Vec<u64> {
        let notes = self.notes.lock();
        notes.saved.iter().map(|(_, version)| version.0).collect()
    }
}

impl PastRuns for Past {
    fn served(&self) -> BTreeMap<ModelName, Served> {
        self.before.clone()
    }

    fn save(&self, served: Served) {
        let saved = (served.model, served.default);
        self.notes.lock().saved.push(saved);
    }

    fn forget(&self, model: &ModelName) {
        self.notes.lock().forgotten.push(model.clone());
    }

    fn load_begins(&self, _: &str) {}

    fn load_ends(&self, _: &str) {}

    fn has_served(&self, content: &str) {
        self.notes.lock().has_served.push(content.to_owned());
    }

    fn stop(&self) {
        self.notes.lock().stopped = true;
    }
}
