//! The composition root: the only place that names concrete engines and protocols and puts the parts together.

mod download;
mod endpoints;
mod logs;
mod plan;
mod registry;
mod stage;
mod workers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tempfile::TempDir;
use tokio::sync::watch;
use url::Url;

use self::endpoints::Endpoints;
pub(crate) use self::registry::cache_directory;
use self::stage::{Beginning, Stage};
pub use self::workers::{WorkerSettings, work};
use crate::batching::RunnerPool;
use crate::config::{self, Settings};
use crate::engine::Engines;
use crate::lifecycle::{self, Compiler, WarmUp, Warmed};
use crate::protocol::{self, Shared};
use crate::registry::{Environment, ModelUri, UriError};
use crate::runtime::machine;
use crate::serving::{CatalogSnapshot, Demand as _, Observers, Running, Servable};
use crate::shutdown::StopSignals;

/// What `onstage serve` does, checked as far as possible without touching a package.
#[derive(Debug, Clone)]
pub struct ServeRequest {
    /// The settings; everything in them is built.
    pub settings: Settings,
    /// What to serve; each is required.
    pub targets: Vec<ServeTarget>,
    /// Another name for the only target.
    pub name: Option<String>,
    /// The directory below which models are loaded and unloaded by request, on platforms that do so.
    pub multi_model: Option<PathBuf>,
    /// The environment, for the variables of registries and their credentials.
    pub environment: Arc<Environment>,
}

/// One TARGET of `onstage serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServeTarget {
    /// A package, a directory of packages, or an `.onnx` file.
    Path(PathBuf),
    /// A package in an object store, as a platform names it.
    Url(Url),
    /// A version in the registry; an error when the text is none.
    Registry(Result<ModelUri, UriError>),
}

impl ServeTarget {
    /// What a text on the command line, or in `models.<name>.source`, means.
    pub fn parse(text: &Path) -> Self {
        match text.to_str().filter(|text| ModelUri::is_meant(text)) {
            Some(uri) => Self::Registry(uri.parse()),
            None => Self::Path(text.to_owned()),
        }
    }

    /// What a platform says: a path, or the URL of an object store.
    pub fn of_platform(text: &str) -> Self {
        match text.parse::<Url>() {
            Ok(url) if text.contains("://") => Self::Url(url),
            _ => Self::Path(text.into()),
        }
    }
}

/// Where the server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// REST.
    pub http: SocketAddr,
    /// gRPC, where it has a port of its own.
    pub grpc: Option<SocketAddr>,
    /// The management API.
    pub admin: Option<SocketAddr>,
}

/// What serves once everything that the start waits for is loaded.
#[derive(Debug)]
pub struct OnStage {
    /// Where it listens.
    pub addresses: Addresses,
    /// By which it runs.
    pub settings: Settings,
    /// The versions that serve.
    pub servables: Vec<Arc<Servable>>,
    /// What the paths of requests mean.
    pub catalog: Arc<CatalogSnapshot>,
}

/// Serves until a stop signal, then drains. `on_stage` is called once, when everything serves; nothing waits for it.
///
/// # Errors
/// When a port is taken, a required model cannot be served, or a part stops by itself.
pub async fn serve<F>(
    request: ServeRequest,
    on_stage: impl FnOnce(OnStage) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let settings = &request.settings;
    let mut signals = StopSignals::listen().context("cannot listen for stop signals")?;
    let (manager, mailbox) = lifecycle::mailbox();
    let (running, later) = watch::channel(Running::default());
    let mut endpoints = Endpoints::open(&request, Arc::new(manager.clone()), later).await?;
    let beginning = Beginning {
        mailbox,
        manager,
        hint: Arc::clone(&endpoints.hint),
        stop: endpoints.stop.clone(),
    };
    // Files of a model that was fetched stay as long as it may be loaded again.
    let mut _files = None;
    tokio::select! {
        begun = begin(&request, &endpoints.shared, beginning, &running) => {
            let begun = begun?;
            _files = begun.files;
            endpoints.services.follow(begun.progress);
            tokio::spawn(on_stage(OnStage {
                addresses: endpoints.addresses,
                settings: settings.clone(),
                servables: begun.servables,
                catalog: endpoints.shared.service().catalog().snapshot(),
            }));
            tokio::select! {
                signal = signals.next() => tracing::info!(signal, "draining"),
                stopped = endpoints.stopped() => return stopped,
            }
        }
        signal = signals.next() => tracing::info!(signal, "stopping while models load"),
    }
    endpoints.close(settings, signals).await
}

/// What the start of the models came to.
struct Begun {
    servables: Vec<Arc<Servable>>,
    /// Changes whenever something may have come on stage or left it.
    progress: watch::Receiver<u64>,
    /// Files of a model that was fetched.
    files: Option<TempDir>,
}

/// Begins to load, and waits until everything that was wanted at the start serves.
async fn begin(
    request: &ServeRequest,
    shared: &Shared,
    beginning: Beginning,
    running: &watch::Sender<Running>,
) -> anyhow::Result<Begun> {
    let (request, files) = download::fetched(request.clone()).await?;
    let compiler = compiler(&request.settings, shared)?;
    let progress = beginning.manager.progress();
    let mut stage = Stage::begin(&request, shared, compiler, beginning).await?;
    running.send_replace(stage.running.clone());
    Ok(Begun {
        servables: stage.ready(shared).await?,
        progress,
        files,
    })
}

fn compiler(settings: &Settings, shared: &Shared) -> anyhow::Result<Compiler> {
    // The cgroup's quota counts, not the machine's cores.
    let threads = machine::threads();
    let pool = Arc::new(RunnerPool::new(threads).context("cannot start the runner threads")?);
    let runtime = tokio::runtime::Handle::current();
    let warm_up: WarmUp = Arc::new(move |servable, body| {
        let (non_finite, batch) = runtime.block_on(protocol::check_example(servable, body))?;
        Ok(Warmed { non_finite, batch })
    });
    let service = shared.service();
    let compiler = Compiler::new(
        Arc::new(Engines::new(config::engines(&settings.engine))),
        pool,
        service.shared_metrics(),
        warm_up,
    );
    let log = shared.options().payload_log.clone();
    let observers = log.map(|log| log as Arc<dyn Observers>);
    let compiler = compiler.observed_by(observers.into_iter().collect());
    let compiler = compiler.within(shared.budget().clone());
    workers::with_workers(compiler, settings, service.shared_metrics())
}
