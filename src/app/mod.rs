//! The composition root: the only place that names concrete engines and protocols and puts the parts together.

mod admin;
mod banner;
mod download;
mod guests;
mod listen;
mod measure;
mod offline;
mod plan;
pub mod registry;
pub mod secret;
mod stage;
mod webhook;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use url::Url;

use self::admin::AdminServer;
use self::stage::Stage;
pub use measure::{Cost, Point, measure};
pub use offline::{Offline, Refusal, Trial, try_request};

use crate::batching::RunnerPool;
use crate::config::{EngineSettings, Nonfinite, Settings};
use crate::engine::onnxruntime::library::Surroundings;
use crate::engine::onnxruntime::{self, OperatorLibrary, Outcome, Tried};
use crate::engine::{Engine, Engines, OnnxRuntime, Tract};
use crate::lifecycle::{Loader, WarmUp, Warmed};
use crate::middleware::{MiddlewareOptions, layered};
use crate::protocol::{self, NonFinite, ProtocolOptions, Shared};
use crate::registry::{Environment, ModelUri, UriError};
use crate::serving::{Catalog, InferenceService, Servable};
use crate::shutdown::StopSignals;
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
    let shared = shared(&request);
    let admin = AdminServer::start(settings, &shared)?;
    let addresses = banner::Addresses {
        http: http.address,
        grpc: grpc.as_ref().map(|grpc| grpc.address),
        admin: admin.as_ref().map(|admin| admin.address),
    };
    let stop = CancellationToken::new();
    let (reporter, grpc_task) = start_grpc(grpc, &stop).await?;
    let handle = Handle::new();
    let hint = Arc::new(Notify::new());
    let secret = settings.registry.webhook_secret_file.as_deref();
    let webhook = webhook::router(secret, &server.base_path, &hint)?;
    let router = protocol::router(&shared).merge(webhook);
    let mut http_task = start_http(http, router, &request, handle.clone());

    // Files of a model that was fetched stay as long as it may be loaded again.
    let mut _files = None;
    let stopped_early = tokio::select! {
        loaded = begin(&request, &shared, admin.as_ref(), (hint, &stop)) => {
            let (servables, files) = loaded?;
            _files = files;
            if let Some(reporter) = &reporter {
                reporter.set_service_status("", ServingStatus::Serving).await;
            }
            banner::print(&addresses, settings, &servables);
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
            ended = &mut http_task => {
                ended.context("the HTTP server panicked")??;
                anyhow::bail!("the HTTP server stopped by itself");
            }
        }
    }
    let give_up = drain(&shared, reporter, settings, (&handle, &stop), signals).await;
    http_task.await.context("the HTTP server panicked")??;
    if let Some(task) = grpc_task {
        end_grpc(task, &give_up).await?;
    }
    if let Some(admin) = admin {
        admin.stop();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Begins to load, and waits until everything that was wanted at the start serves.
async fn begin(
    request: &ServeRequest,
    shared: &Shared,
    admin: Option<&AdminServer>,
    (hint, stop): (Arc<Notify>, &CancellationToken),
) -> anyhow::Result<(Vec<Arc<Servable>>, Option<TempDir>)> {
    let (request, files) = download::fetched(request.clone()).await?;
    let loader = loader(&request.settings, shared)?;
    let mut stage = Stage::begin(&request, shared, loader, (hint, stop.clone())).await?;
    if let Some(admin) = admin {
        admin.manage(Arc::new(stage.manager.clone()));
    }
    Ok((stage.ready(shared).await?, files))
}

fn shared(request: &ServeRequest) -> Shared {
    let settings = &request.settings;
    let service = InferenceService::new(
        Arc::new(Catalog::default()),
        Arc::new(Metrics::new(&DURATION_BUCKETS)),
    );
    let options = ProtocolOptions {
        non_finite: non_finite(settings),
        max_body: usize::try_from(settings.server.max_body).unwrap_or(usize::MAX),
        base_path: settings.server.base_path.clone(),
        health_route: settings.server.health_route.clone(),
        predict_route: settings.server.predict_route.clone(),
        multi_model: request.multi_model.is_some(),
    };
    Shared::new(service, options)
}

fn non_finite(settings: &Settings) -> NonFinite {
    match settings.server.nonfinite {
        Nonfinite::Null => NonFinite::Null,
        Nonfinite::Bare => NonFinite::Bare,
    }
}

fn loader(settings: &Settings, shared: &Shared) -> anyhow::Result<Loader> {
    // The cgroup's quota counts, not the machine's cores.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pool = Arc::new(RunnerPool::new(threads).context("cannot start the runner threads")?);
    let runtime = tokio::runtime::Handle::current();
    let warm_up: WarmUp = Arc::new(move |servable, body| {
        let (non_finite, batch) = runtime.block_on(protocol::check_example(servable, body))?;
        Ok(Warmed { non_finite, batch })
    });
    let service = shared.service();
    Ok(Loader::new(
        Arc::new(Engines::new(engines(&settings.engine))),
        pool,
        service.shared_metrics(),
        warm_up,
    ))
}

fn start_http(
    bound: listen::Bound,
    router: Router,
    request: &ServeRequest,
    handle: Handle<SocketAddr>,
) -> JoinHandle<anyhow::Result<()>> {
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
    let options = MiddlewareOptions {
        // A little longer than what one model may take, so that the model's own answer wins.
        request_timeout: longest + Duration::from_millis(250),
        access_log: settings.telemetry.access_log,
        cors_origins: settings.server.cors_origins.clone(),
    };
    let router = layered(router, options);
    tokio::spawn(listen::serve_http(bound, router, handle))
}

type GrpcTask = JoinHandle<Result<(), tonic::transport::Error>>;

async fn start_grpc(
    bound: Option<listen::Bound>,
    stop: &CancellationToken,
) -> anyhow::Result<(Option<HealthReporter>, Option<GrpcTask>)> {
    let Some(bound) = bound else {
        return Ok((None, None));
    };
    let (reporter, server) = listen::serve_grpc(bound, stop.clone().cancelled_owned()).await?;
    Ok((Some(reporter), Some(tokio::spawn(server))))
}

/// Not ready at once, still accepting for `shutdown_delay`, then at most `drain_timeout` for what is in flight. A
/// second signal cuts both short. The token that is returned says when to wait no longer.
async fn drain(
    shared: &Shared,
    reporter: Option<HealthReporter>,
    settings: &Settings,
    (handle, stop): (&Handle<SocketAddr>, &CancellationToken),
    mut signals: StopSignals,
) -> CancellationToken {
    shared.start_draining();
    if let Some(reporter) = &reporter {
        reporter
            .set_service_status("", ServingStatus::NotServing)
            .await;
    }
    let give_up = CancellationToken::new();
    tokio::select! {
        () = tokio::time::sleep(settings.server.shutdown_delay) => {}
        signal = signals.next() => {
            tracing::warn!(signal, "not waiting for `shutdown_delay` and requests in flight");
            give_up.cancel();
        }
    }
    if let Some(mut reporter) = reporter {
        // Ends the streams of those who watch it; they would keep the gRPC server open.
        reporter.clear_service_status("").await;
    }
    // A server that does not listen yet would miss what it is told here.
    handle.listening().await;
    handle.graceful_shutdown(Some(settings.server.drain_timeout));
    stop.cancel();
    let (handle, timeout) = (handle.clone(), settings.server.drain_timeout);
    let waiting = give_up.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = waiting.cancelled() => {}
            () = tokio::time::sleep(timeout) => {}
            signal = signals.next() => tracing::warn!(signal, "not waiting for requests in flight"),
        }
        handle.shutdown();
        waiting.cancel();
    });
    give_up
}

/// Waits for the gRPC server; connections that are still open when the time is up end with the process.
async fn end_grpc(task: GrpcTask, give_up: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        ended = task => ended
            .context("the gRPC server panicked")?
            .context("the gRPC server stopped"),
        () = give_up.cancelled() => Ok(()),
    }
}
