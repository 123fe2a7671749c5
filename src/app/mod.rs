//! The composition root: the only place that names concrete engines and protocols and puts the parts together.

mod download;
mod plan;
mod registry;
mod stage;
mod workers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::stage::Stage;
use crate::server::Servers;
use crate::server::admin::AdminServer;
use crate::server::trust::Trust;
pub use workers::{WorkerSettings, work};

use crate::batching::RunnerPool;
use crate::budget::Budget;
use crate::config::{self, Settings, request_limits};
use crate::engine::Engines;
use crate::lifecycle::{Compiler, LONGEST_HOSTING, WarmUp, Warmed};
use crate::middleware::auth::Guard;
use crate::middleware::{MiddlewareOptions, cors, layered, layered_grpc};
use crate::protocol::{self, ProtocolOptions, Shared};
use crate::registry::notify::endpoint;
use crate::registry::{Environment, ModelUri, UriError};
use crate::runtime::machine;
use crate::server::grpc;
use crate::server::listen::{self, Local};
use crate::serving::{Catalog, CatalogSnapshot, Demand as _, InferenceService, Servable};
use crate::shutdown::{self, LAST_STEPS, StopSignals};
use crate::telemetry::{DURATION_BUCKETS, Metrics};

/// What `onstage serve` was asked to do, checked as far as that goes without touching a package.
#[derive(Debug, Clone)]
pub struct ServeRequest {
    /// The settings; everything in them is built.
    pub settings: Settings,
    /// What to serve; each is required.
    pub targets: Vec<ServeTarget>,
    /// Another name for the only target.
    pub name: Option<String>,
    /// The directory below which models come and go by request, where a platform wants that.
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
#[derive(Debug)]
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
    let server = &settings.server;
    let http = listen::bind(&server.host, server.port, "--port")?;
    let grpc = server
        .grpc_port
        .map(|port| listen::bind(&server.host, port, "--grpc-port"))
        .transpose()?;
    let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
    let trust = Trust::load(settings, &metrics).await?;
    let shared = shared(&request, metrics)?;
    let admin = AdminServer::start(settings, &shared, &trust)?;
    let addresses = Addresses {
        http: http.address,
        grpc: grpc.as_ref().map(|grpc| grpc.address),
        admin: admin.as_ref().map(|admin| admin.address),
    };
    let stop = CancellationToken::new();
    let saturation =
        crate::runtime::saturation::watch(shared.service().shared_metrics(), stop.clone());
    tokio::spawn(saturation);
    let options = middleware_options(&request, &shared, &trust);
    let mut services = grpc::Services::new(&shared).await;
    let hint = Arc::new(Notify::new());
    let webhook = webhook(settings, &hint)?;
    let metrics = shared.service().shared_metrics();
    let listening = listen::Listening::new(settings, metrics, trust.tls.clone());
    let mut servers = Servers::new(listening);
    if let Some(grpc) = grpc {
        servers.start(grpc, layered_grpc(services.router(), &options));
    }
    let router = protocol::router(&shared).merge(webhook);
    let router = cors(router, &server.cors_origins);
    let mut service = layered(protocol::entry(&shared, router), options);
    if server.grpc_on_http {
        service = service.with_grpc(services.router_for_event_loops());
    }
    servers.start_on_event_loops(http, service)?;

    // Files of a model that was fetched stay as long as it may be loaded again.
    let mut _files = None;
    let stopped_early = tokio::select! {
        loaded = begin(&request, &shared, admin.as_ref(), (hint, &stop)) => {
            let (servables, progress, files) = loaded?;
            _files = files;
            services.follow(progress);
            tokio::spawn(on_stage(OnStage {
                addresses,
                settings: settings.clone(),
                servables,
                catalog: shared.service().catalog().snapshot(),
            }));
            false
        }
        signal = signals.next() => {
            tracing::info!(signal, "stopping while models load");
            true
        }
    };
    if !stopped_early {
        tokio::select! {
            signal = signals.next() => tracing::info!(signal, "draining"),
            ended = servers.tasks.join_next() => {
                ended.context("there is no server")?.context("a server panicked")??;
                anyhow::bail!("a server stopped by itself");
            }
        }
    }
    drain(
        &shared,
        services,
        settings,
        (&servers.handles, &stop),
        signals,
    )
    .await;
    while let Some(ended) = servers.tasks.join_next().await {
        ended.context("a server panicked")??;
    }
    if let Some(admin) = admin {
        admin.stop();
    }
    shared.tracer().stop(config::traces::LAST_SPANS).await;
    tracing::info!("stopped");
    Ok(())
}

/// What serves, how to hear of changes, and files that must stay.
type Begun = (Vec<Arc<Servable>>, watch::Receiver<u64>, Option<TempDir>);

/// Begins to load, and waits until everything that was wanted at the start serves.
async fn begin(
    request: &ServeRequest,
    shared: &Shared,
    admin: Option<&AdminServer>,
    (hint, stop): (Arc<Notify>, &CancellationToken),
) -> anyhow::Result<Begun> {
    let (request, files) = download::fetched(request.clone()).await?;
    let compiler = compiler(&request.settings, shared)?;
    let mut stage = Stage::begin(&request, shared, compiler, (hint, stop.clone())).await?;
    if let Some(admin) = admin {
        admin.manage(Arc::new(stage.manager.clone()));
    }
    let progress = stage.manager.progress();
    Ok((stage.ready(shared).await?, progress, files))
}

fn shared(request: &ServeRequest, metrics: Arc<Metrics>) -> anyhow::Result<Shared> {
    let settings = &request.settings;
    let tracer = config::traces::start(settings, &request.environment, &metrics)?;
    let guard = settings
        .auth
        .is_on()
        .then(|| Guard::new(Arc::clone(&metrics)));
    let catalog = Arc::new(Catalog::default());
    catalog.update(|snapshot| snapshot.discreet = guard.is_some());
    let budget = Budget::new(config::memory::of_requests(settings));
    metrics.watch_memory(budget.clone());
    let service = InferenceService::new(catalog, metrics);
    let options = ProtocolOptions {
        non_finite: settings.server.nonfinite,
        max_body: usize::try_from(settings.server.max_body).unwrap_or(usize::MAX),
        body_timeout: Some(settings.limits.body_timeout),
        base_path: settings.server.base_path.clone(),
        health_route: settings.server.health_route.clone(),
        predict_route: settings.server.predict_route.clone(),
        multi_model: request.multi_model.is_some(),
        guard,
        public_metrics: settings.auth.public_metrics,
        budget,
        tracer,
    };
    Ok(Shared::new(service, options))
}

/// The path where MLflow says that something changed, when a secret is configured.
fn webhook(settings: &Settings, hint: &Arc<Notify>) -> anyhow::Result<Router> {
    let registry = &settings.registry;
    let secret = registry.webhook_secret_file.as_deref();
    let secret =
        secret.map(|file| config::secret::read(Some("registry.webhook_secret_file"), file));
    let options = endpoint::Options {
        base_path: &settings.server.base_path,
        peers: &registry.peers,
        secret: secret.transpose()?,
    };
    let network = settings.network.config();
    endpoint::router(options, network, hint)
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
    let compiler = compiler.within(shared.budget().clone());
    workers::with_workers(compiler, settings, service.shared_metrics())
}

fn middleware_options(request: &ServeRequest, shared: &Shared, trust: &Trust) -> MiddlewareOptions {
    let settings = &request.settings;
    let timeouts = settings
        .models
        .values()
        .filter_map(|model| model.request_timeout);
    let mut longest = timeouts.fold(settings.server.request_timeout, Duration::max);
    if request.multi_model.is_some() {
        // A request to load a model is answered when it serves.
        longest = longest.max(LONGEST_HOSTING);
    }
    MiddlewareOptions {
        // A little longer than what one model may take, so that the model's own answer wins.
        request_timeout: longest + Duration::from_millis(250),
        access_log: settings.telemetry.access_log,
        authenticator: trust.authenticator(),
        tracer: shared.tracer().clone(),
        draining: shared.draining(),
        limits: request_limits(settings, shared.service().shared_metrics()),
    }
}

/// Not ready at once, still accepting for `shutdown_delay`, then at most `drain_timeout` for what is in flight. A
/// second signal cuts both short.
async fn drain(
    shared: &Shared,
    services: grpc::Services,
    settings: &Settings,
    (handles, stop): (&[Handle<Local>], &CancellationToken),
    mut signals: StopSignals,
) {
    let (delay, timeout) = (
        settings.server.shutdown_delay,
        settings.server.drain_timeout,
    );
    shutdown::end_after(delay.saturating_add(timeout).saturating_add(LAST_STEPS));
    shared.start_draining();
    services.start_draining().await;
    let give_up = CancellationToken::new();
    tokio::select! {
        () = tokio::time::sleep(settings.server.shutdown_delay) => {}
        signal = signals.next() => {
            tracing::warn!(signal, "not waiting for `shutdown_delay` and requests in flight");
            shutdown::end_after(LAST_STEPS);
            give_up.cancel();
        }
    }
    // They would keep their connections open.
    services.end_streams().await;
    for handle in handles {
        // A server that does not listen yet would miss this call.
        handle.listening().await;
        handle.graceful_shutdown(Some(settings.server.drain_timeout));
    }
    stop.cancel();
    let (handles, timeout) = (handles.to_vec(), settings.server.drain_timeout);
    tokio::spawn(async move {
        tokio::select! {
            () = give_up.cancelled() => {}
            () = tokio::time::sleep(timeout) => {}
            signal = signals.next() => {
                tracing::warn!(signal, "not waiting for requests in flight");
                shutdown::end_after(LAST_STEPS);
            }
        }
        handles.iter().for_each(Handle::shutdown);
    });
}
