//! A loader without files, threads or engines: a script says how long each load takes and what comes of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::harness::id;
use crate::batching::{BatchObserver, Batcher, BatcherConfig, RunnerPool};
use crate::engine::fake::{self, Fake};
use crate::engine::{CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Session};
use crate::lifecycle::{LoadContext, LoadError, LoadRequest, Loaded, Loader};
use crate::model::{ModelId, Signature};
use crate::serving::{Limits, Servable, ServableParts, VersionState};
use crate::telemetry::Metrics;
use crate::tensor::DType;

/// See the module.
pub(super) struct InMemoryLoader {
    metrics: Arc<Metrics>,
    scripts: Mutex<BTreeMap<ModelId, VecDeque<Script>>>,
    begun: Mutex<Vec<ModelId>>,
    memory: Arc<Memory>,
}

/// One load.
#[derive(Clone)]
pub(super) struct Script {
    takes: Duration,
    bytes: u64,
    in_doubt: bool,
    ends: Ends,
}

#[derive(Clone)]
enum Ends {
    Serves,
    Fails(Arc<dyn Fn() -> LoadError + Send + Sync>),
    Hangs,
    Panics,
}

/// How long a load takes that has no script.
pub(super) const LOAD: Duration = Duration::from_millis(100);

/// Bytes of a version that has no script.
pub(super) const BYTES: u64 = 100;

impl Script {
    pub(super) fn serves() -> Self {
        Self {
            takes: LOAD,
            bytes: BYTES,
            in_doubt: false,
            ends: Ends::Serves,
        }
    }

    pub(super) fn fails(error: impl Fn() -> LoadError + Send + Sync + 'static) -> Self {
        Self {
            ends: Ends::Fails(Arc::new(error)),
            ..Self::serves()
        }
    }

    pub(super) fn hangs() -> Self {
        Self {
            ends: Ends::Hangs,
            ..Self::serves()
        }
    }

    pub(super) fn panics() -> Self {
        Self {
            ends: Ends::Panics,
            ..Self::serves()
        }
    }

    pub(super) fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    pub(super) fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// It answered nothing that was tried.
    pub(super) fn in_doubt(self) -> Self {
        Self {
            in_doubt: true,
            ..self
        }
    }
}

/// Models that are loaded, and the threads that freed others.
#[derive(Debug, Default)]
struct Memory(Mutex<(usize, Vec<String>)>);

impl InMemoryLoader {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            scripts: Mutex::default(),
            begun: Mutex::default(),
            memory: Arc::default(),
        }
    }

    /// The next loads of a version go like this, in this order; those after them serve.
    pub(super) fn script(&self, name: &str, version: u64, script: Script) {
        let mut scripts = self.scripts.lock();
        let scripts = scripts.entry(id(name, version)).or_default();
        scripts.push_back(script);
    }

    /// Each load that has begun, in order.
    pub(super) fn begun(&self) -> Vec<String> {
        let begun = self.begun.lock();
        let text = |id: &ModelId| format!("{}:{}", id.name, id.version);
        begun.iter().map(text).collect()
    }

    /// How often a version was loaded.
    pub(super) fn loads_of(&self, name: &str, version: u64) -> usize {
        let wanted = id(name, version);
        let begun = self.begun.lock();
        begun.iter().filter(|id| **id == wanted).count()
    }

    /// Models in memory.
    pub(super) fn loaded(&self) -> usize {
        self.memory.0.lock().0
    }

    /// Waits until so many models are in memory: a thread frees them, whatever the clock of the test says.
    pub(super) fn wait_until_loaded(&self, count: usize) {
        for _ in 0..2000 {
            if self.loaded() == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{} models are in memory, not {count}", self.loaded());
    }

    /// The threads that freed models.
    pub(super) fn freed_by(&self) -> Vec<String> {
        self.memory.0.lock().1.clone()
    }

    fn servable(&self, id: &ModelId, script: &Script) -> Arc<Servable> {
        let (name, version) = (id.name.as_str(), id.version);
        let package = fake::package(name, version.0, &[("x", DType::F32)]);
        let series = self
            .metrics
            .version(name, &version.to_string(), "fake", "d");
        let compiled =
            Fake::default().compile(&package, &EngineOptions::default(), &CancelToken::new());
        let model: Arc<dyn CompiledModel> = Arc::new(Tracked::new(
            compiled.expect("the fake compiles everything"),
            Arc::clone(&self.memory),
        ));
        let config = BatcherConfig {
            max_queue_size: 16,
            instances: 1,
            groups: false,
            max_rows: None,
            max_delay: Duration::ZERO,
            in_place: Duration::ZERO,
        };
        let observer = Arc::clone(&series) as Arc<dyn BatchObserver>;
        let batcher = Batcher::new(Arc::clone(&model), Arc::clone(&POOL), config, observer);
        let limits = Limits {
            request_timeout: Duration::from_secs(10),
            max_concurrency: None,
            max_rows: None,
        };
        let servable = Servable::new(ServableParts {
            package,
            engine: "fake",
            model: &*model,
            batcher,
            limits,
            metrics: series,
        });
        Arc::new(
            servable
                .with_footprint(script.bytes)
                .in_doubt(script.in_doubt),
        )
    }
}

/// No test runs a model; a pool is there because a batcher needs one.
static POOL: LazyLock<Arc<RunnerPool>> =
    LazyLock::new(|| Arc::new(RunnerPool::new(1).expect("there is a thread for it")));

#[async_trait]
impl Loader for InMemoryLoader {
    async fn load(&self, request: LoadRequest, context: &LoadContext) -> Result<Loaded, LoadError> {
        self.begun.lock().push(request.id.clone());
        let script = {
            let mut scripts = self.scripts.lock();
            scripts.get_mut(&request.id).and_then(VecDeque::pop_front)
        };
        let script = script.unwrap_or_else(Script::serves);
        context.enter(VersionState::Verifying).await;
        if let Some(gate) = &request.gate {
            let (name, version) = (request.id.name.as_str(), request.id.version);
            gate(&fake::package(name, version.0, &[("x", DType::F32)]))?;
        }
        context.reserve_memory(script.bytes).await?;
        context.enter(VersionState::Compiling).await;
        tokio::time::sleep(script.takes).await;
        match &script.ends {
            Ends::Serves => {
                let servable = self.servable(&request.id, &script);
                let content = Some(request.id.to_string());
                Ok(Loaded::new(servable, None, content))
            }
            Ends::Fails(error) => Err(error()),
            Ends::Hangs => std::future::pending().await,
            Ends::Panics => panic!("on purpose"),
        }
    }
}

/// A model that notes who frees it.
struct Tracked {
    model: Arc<dyn CompiledModel>,
    memory: Arc<Memory>,
}

impl Tracked {
    fn new(model: Arc<dyn CompiledModel>, memory: Arc<Memory>) -> Self {
        memory.0.lock().0 += 1;
        Self { model, memory }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let thread = std::thread::current();
        let mut memory = self.memory.0.lock();
        memory.0 -= 1;
        memory.1.push(thread.name().unwrap_or_default().to_owned());
    }
}

impl CompiledModel for Tracked {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn footprint(&self) -> u64 {
        self.model.footprint()
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        self.model.session()
    }
}
