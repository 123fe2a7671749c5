//! Everything that clients reach, from the sockets to the drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum_server::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::logs::{self, Logs};
use super::{Addresses, ServeRequest};
use crate::budget::Budget;
use crate::config::{self, Settings, request_limits};
use crate::lifecycle::LONGEST_HOSTING;
use crate::middleware::auth::Guard;
use crate::middleware::{MiddlewareOptions, cors, layered, layered_grpc};
use crate::protocol::{self, ProtocolOptions, Shared};
use crate::registry::notify::endpoint;
use crate::runtime::saturation;
use crate::server::admin::AdminServer;
use crate::server::listen::{self, Bound, Local};
use crate::server::trust::Trust;
use crate::server::{Servers, grpc};
use crate::serving::{Catalog, Demand, InferenceService, Running};
use crate::shutdown::{self, LAST_STEPS, StopSignals};
use crate::telemetry::{DURATION_BUCKETS, Metrics};

/// The listeners, and what they serve.
pub(super) struct Endpoints {
    pub(super) addresses: Addresses,
    pub(super) shared: Shared,
    pub(super) services: grpc::Services,
    /// Told when the registry may have changed.
    pub(super) hint: Arc<Notify>,
    /// Ends what runs beside the servers.
    pub(super) stop: CancellationToken,
    servers: Servers,
    admin: Option<AdminServer>,
    /// Renews certificates and keys as long as it is there.
    _trust: Trust,
}

impl Endpoints {
    /// Listens, and answers: what needs a model says that the server starts until `running` has what it needs.
    ///
    /// # Errors
    /// When a port is taken, or the settings do not fit together.
    pub(super) async fn open(
        request: &ServeRequest,
        demand: Arc<dyn Demand>,
        running: watch::Receiver<Running>,
    ) -> anyhow::Result<Self> {
        let settings = &request.settings;
        let (http, grpc) = bind(settings)?;
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        let trust = Trust::load(settings, &metrics).await?;
        let shared = shared(request, Arc::clone(&metrics), demand, running)?;
        let admin = AdminServer::start(settings, &shared, &trust)?;
        let addresses = Addresses {
            http: http.address,
            grpc: grpc.as_ref().map(|grpc| grpc.address),
            admin: admin.as_ref().map(|admin| admin.address),
        };
        let stop = CancellationToken::new();
        tokio::spawn(saturation::watch(Arc::clone(&metrics), stop.clone()));
        let services = grpc::Services::new(&shared).await;
        let hint = Arc::new(Notify::new());
        let webhook = webhook(settings, &hint)?;
        let listening = listen::Listening::new(settings, metrics, trust.tls.clone());
        let mut servers = Servers::new(listening);
        let options = middleware_options(request, &shared, &trust);
        if let Some(grpc) = grpc {
            servers.start(grpc, layered_grpc(services.router(), &options));
        }
        let router = protocol::router(&shared).merge(webhook);
        let router = cors(router, &settings.server.cors_origins);
        let mut service = layered(protocol::entry(&shared, router), options);
        if settings.server.grpc_on_http {
            service = service.with_grpc(services.router_for_event_loops());
        }
        servers.start_on_event_loops(http, service)?;
        Ok(Self {
            addresses,
            shared,
            services,
            hint,
            stop,
            servers,
            admin,
            _trust: trust,
        })
    }

    /// Resolves when a server stops by itself, which none should.
    pub(super) async fn stopped(&mut self) -> anyhow::Result<()> {
        let ended = self.servers.tasks.join_next().await;
        ended
            .context("there is no server")?
            .context("a server panicked")??;
        bail!("a server stopped by itself");
    }

    /// Drains, and stops listening.
    ///
    /// # Errors
    /// How a server failed.
    pub(super) async fn close(
        self,
        settings: &Settings,
        signals: StopSignals,
    ) -> anyhow::Result<()> {
        let Self {
            shared,
            services,
            stop,
            mut servers,
            admin,
            _trust,
            ..
        } = self;
        let drain = Drain {
            shared: &shared,
            services,
            handles: &servers.handles,
            stop: &stop,
            settings,
        };
        drain.run(signals).await;
        while let Some(ended) = servers.tasks.join_next().await {
            ended.context("a server panicked")??;
        }
        if let Some(admin) = admin {
            admin.stop();
        }
        logs::close(&shared).await;
        shared.tracer().stop(config::traces::LAST_SPANS).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The listeners for HTTP and, where it has a port of its own, for gRPC.
fn bind(settings: &Settings) -> anyhow::Result<(Bound, Option<Bound>)> {
    let server = &settings.server;
    let http = listen::bind(&server.host, server.port, "--port")?;
    let grpc = server
        .grpc_port
        .map(|port| listen::bind(&server.host, port, "--grpc-port"));
    Ok((http, grpc.transpose()?))
}

fn shared(
    request: &ServeRequest,
    metrics: Arc<Metrics>,
    demand: Arc<dyn Demand>,
    running: watch::Receiver<Running>,
) -> anyhow::Result<Shared> {
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
    let logs = Logs::start(request, &metrics)?;
    let service = InferenceService::new(catalog, metrics).with_demand(demand);
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
        payload_log: logs.payload_log,
        feedback: logs.feedback,
    };
    Ok(Shared::new(service, options, running))
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
        raw: logs::raw_options(settings),
    }
}

/// What ends in an orderly way.
struct Drain<'s> {
    shared: &'s Shared,
    services: grpc::Services,
    handles: &'s [Handle<Local>],
    stop: &'s CancellationToken,
    settings: &'s Settings,
}

impl Drain<'_> {
    /// Not ready at once, still accepting for `shutdown_delay`, then at most `drain_timeout` for what is in flight. A
    /// second signal cuts both short.
    async fn run(self, mut signals: StopSignals) {
        let server = &self.settings.server;
        let (delay, timeout) = (server.shutdown_delay, server.drain_timeout);
        let last = LAST_STEPS + logs::patience(self.shared);
        shutdown::end_after(delay.saturating_add(timeout).saturating_add(last));
        self.shared.start_draining();
        self.services.start_draining().await;
        let give_up = CancellationToken::new();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            signal = signals.next() => {
                tracing::warn!(signal, "not waiting for `shutdown_delay` and requests in flight");
                shutdown::end_after(LAST_STEPS);
                give_up.cancel();
            }
        }
        // They would keep their connections open.
        self.services.end_streams().await;
        for handle in self.handles {
            // A server that does not listen yet would miss this call.
            handle.listening().await;
            handle.graceful_shutdown(Some(timeout));
        }
        self.stop.cancel();
        let handles = self.handles.to_vec();
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
}
