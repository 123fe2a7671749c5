//! The composition root: the only place that names concrete engines and protocols and puts the parts together.

mod admin;
mod banner;
mod callers;
mod download;
mod guests;
mod local;
mod measure;
mod memory;
mod offline;
mod peers;
mod plan;
pub mod registry;
mod saturation;
mod seals;
pub mod secret;
mod stage;
mod traces;
mod trust;
mod webhook;
mod workers;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::admin::AdminServer;
use self::stage::Stage;
use self::trust::Trust;
pub use measure::{Cost, Point, measure};
pub use offline::{Offline, Refusal, Trial, try_request};
pub use peers::check_peer;
pub use workers::{WorkerSettings, work};

use crate::batching::RunnerPool;
use crate::budget::Budget;
use crate::config::{EngineSettings, Nonfinite, Settings};
use crate::engine::onnxruntime::library::Surroundings;
use crate::engine::onnxruntime::{self, OperatorLibrary, Outcome, Tried};
use crate::engine::{Engine, Engines, OnnxRuntime, Tract};
use crate::lifecycle::{Compiler, WarmUp, Warmed};
use crate::machine;
use crate::middleware::auth::Guard;
use crate::middleware::{
    ClientLimits, Clients, Inner, Layered, MiddlewareOptions, RequestLimits, Streams, cors,
    layered, layered_grpc,
};
use crate::protocol::{self, NonFinite, ProtocolOptions, Shared};
use crate::registry::{Environment, ModelUri, UriError};
use crate::server::grpc;
use crate::server::listen::{self, EventLoops, Local};
use crate::serving::{Catalog, Demand as _, InferenceService, Servable};
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
    pub fn of(text: &Path) -> Self {
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

/// One place where a library of ONNX Runtime was looked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LibraryPlace {
    /// The file, or the pattern.
    pub path: String,
    /// Why it was looked at: `engine.libonnxruntime`, `ORT_DYLIB_PATH`, beside the executable, …
    pub origin: String,
    /// What was found there.
    pub outcome: String,
}

/// The engines of this build, in the order in which `auto` prefers them. The one table of engines.
pub fn engines(settings: &EngineSettings) -> Vec<Arc<dyn Engine>> {
    vec![Arc::new(onnxruntime(settings)), Arc::new(Tract)]
}

/// Where a library of ONNX Runtime is looked for, in order, and what is there.
pub fn library_search(settings: &EngineSettings) -> Vec<LibraryPlace> {
    let engine = onnxruntime(settings);
    let place = |tried: &Tried| LibraryPlace {
        path: tried.path.display().to_string(),
        origin: tried.origin.to_string(),
        outcome: match &tried.outcome {
            Outcome::NotFound => "not there".to_owned(),
            Outcome::Loaded { version } => format!("loaded, version {version}"),
            Outcome::Refused(reason) => reason.clone(),
            Outcome::NotTried => "not needed".to_owned(),
        },
    };
    engine.tried().iter().map(place).collect()
}

/// The libraries of custom operators that are configured, and whether they are what they should be.
pub fn custom_operators(settings: &EngineSettings) -> Vec<LibraryPlace> {
    let engine = onnxruntime(settings);
    let libraries = engine.custom_operators().into_iter();
    let place = |(library, checked): (&OperatorLibrary, Result<(), String>)| LibraryPlace {
        path: library.path.display().to_string(),
        origin: "engine.custom_operators".to_owned(),
        outcome: checked
            .err()
            .unwrap_or_else(|| format!("sha256:{} agrees", library.sha256)),
    };
    libraries.map(place).collect()
}

fn onnxruntime(settings: &EngineSettings) -> OnnxRuntime {
    OnnxRuntime::new(onnxruntime::Config {
        surroundings: Surroundings::of_process(settings.libonnxruntime.clone()),
        intra_op_threads: settings.intra_op_threads,
        inter_op_threads: settings.inter_op_threads,
        // What is none was refused when the configuration was checked.
        custom_operators: settings
            .custom_operators
            .iter()
            .filter_map(|library| library.parse().ok())
            .collect(),
    })
}

/// Serves until a stop signal, then drains.
///
/// # Errors
/// When a port is taken, a required model cannot be served, or a part stops by itself.
pub async fn serve(request: ServeRequest) -> anyhow::Result<()> {
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
    let addresses = banner::Addresses {
        http: http.address,
        grpc: grpc.as_ref().map(|grpc| grpc.address),
        admin: admin.as_ref().map(|admin| admin.address),
    };
    let stop = CancellationToken::new();
    let saturation = saturation::watch(shared.service().shared_metrics(), stop.clone());
    tokio::spawn(saturation);
    let options = middleware_options(&request, &shared, &trust);
    let mut services = grpc::Services::new(&shared).await;
    let hint = Arc::new(Notify::new());
    let webhook = webhook::router(settings, &hint)?;
    let metrics = shared.service().shared_metrics();
    let listening = listen::Listening::of(settings, metrics, trust.tls.clone());
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
            // It tries a request first, and nothing waits for that.
            tokio::spawn(banner::Banner {
                addresses,
                settings: settings.clone(),
                servables,
                catalog: shared.service().catalog().snapshot(),
            }.print());
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
    shared.tracer().stop(traces::LAST_SPANS).await;
    tracing::info!("stopped");
    Ok(())
}

/// The servers of clients; each ends when its handle says so.
struct Servers {
    listening: listen::Listening,
    handles: Vec<Handle<Local>>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Servers {
    fn new(listening: listen::Listening) -> Self {
        Self {
            listening,
            handles: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    fn start(&mut self, bound: listen::Bound, service: Layered<impl Inner>) {
        let listening = self.listening.clone();
        let served = listening.serve(bound, service, self.handle());
        self.tasks.spawn(served);
    }

    fn start_on_event_loops(
        &mut self,
        bound: listen::Bound,
        service: Layered<impl Inner>,
    ) -> anyhow::Result<()> {
        let event_loops = EventLoops::start().context("cannot start the threads of connections")?;
        let listening = self.listening.clone();
        let served = listening.serve_on(event_loops, bound, service, self.handle());
        self.tasks.spawn(served);
        Ok(())
    }

    fn handle(&mut self) -> Handle<Local> {
        let handle = Handle::new();
        self.handles.push(handle.clone());
        handle
    }
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
    let tracer = traces::start(settings, &request.environment, &metrics)?;
    let guard = settings
        .auth
        .is_on()
        .then(|| Guard::new(Arc::clone(&metrics)));
    let catalog = Arc::new(Catalog::default());
    catalog.update(|snapshot| snapshot.discreet = guard.is_some());
    let budget = Budget::new(memory::of_requests(settings));
    metrics.watch_memory(budget.clone());
    let service = InferenceService::new(catalog, metrics);
    let options = ProtocolOptions {
        non_finite: non_finite(settings),
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

fn non_finite(settings: &Settings) -> NonFinite {
    match settings.server.nonfinite {
        Nonfinite::Null => NonFinite::Null,
        Nonfinite::Bare => NonFinite::Bare,
    }
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
        Arc::new(Engines::new(engines(&settings.engine))),
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
        longest = longest.max(guests::LONGEST);
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

fn request_limits(settings: &Settings, metrics: Arc<Metrics>) -> RequestLimits {
    let limits = &settings.limits;
    let clients = ClientLimits {
        rate: limits.client_rate.and_then(NonZeroU32::new),
        burst: limits.client_burst.and_then(NonZeroU32::new),
        concurrency: limits.client_concurrency,
    };
    RequestLimits {
        headers: limits.max_headers,
        header_bytes: usize::try_from(limits.max_header_size).unwrap_or(usize::MAX),
        streams: Some(Streams::new(limits.client_streams, Arc::clone(&metrics))),
        clients: Clients::of(clients, metrics).map(Arc::new),
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
        // A server that does not listen yet would miss what it is told here.
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
