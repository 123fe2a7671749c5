//! What every handler may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::json::NonFinite;
use super::openapi::Documentation;
use crate::budget::{Allowance, Budget};
use crate::http::body::BodyLimits;
use crate::middleware::auth::Guard;
use crate::payload::{Feedback, PayloadLog};
use crate::runtime::blocking_pool::BlockingPool;
use crate::serving::{Admin, InferenceService, ModelHost, Running};
use crate::telemetry::Tracer;

/// What every handler may use; cheap to clone.
#[derive(Clone)]
pub struct Shared(Arc<SharedState>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

struct SharedState {
    service: InferenceService,
    options: ProtocolOptions,
    draining: Arc<AtomicBool>,
    running: watch::Receiver<Running>,
    documentation: Documentation,
    limits: BodyLimits,
    streams_end: CancellationToken,
    /// One at a time: with a thousand models a page takes long.
    scrapes: BlockingPool,
}

/// What the operator chose for all protocols.
#[derive(Debug, Clone, Default)]
pub struct ProtocolOptions {
    /// How NaN and infinities are written in JSON.
    pub non_finite: NonFinite,
    /// Bytes of the largest body.
    pub max_body: usize,
    /// The longest pause that a client may make in a body; `None` is any.
    pub body_timeout: Option<Duration>,
    /// A path in front of every other, such as `/models-api`; empty for none.
    pub base_path: String,
    /// Another path for readiness.
    pub health_route: Option<String>,
    /// Another path that answers V1 predictions of the default model.
    pub predict_route: Option<String>,
    /// Whether models come and go by request.
    pub multi_model: bool,
    /// Authorizes requests; `None` without authentication.
    pub guard: Option<Guard>,
    /// Whether metrics need no authentication.
    pub public_metrics: bool,
    /// What requests may hold together.
    pub budget: Budget,
    /// Where requests and loads are traced.
    pub tracer: Tracer,
    /// Keeps what models saw and answered.
    pub payload_log: Option<Arc<PayloadLog>>,
    /// Keeps what was true.
    pub feedback: Option<Arc<Feedback>>,
}

impl Shared {
    /// The state of a server over `service`; `running` holds what comes later.
    pub fn new(
        service: InferenceService,
        options: ProtocolOptions,
        running: watch::Receiver<Running>,
    ) -> Self {
        let limits = BodyLimits {
            max_bytes: options.max_body,
            pause: options.body_timeout,
            budget: options.budget.clone(),
        };
        Self(Arc::new(SharedState {
            service,
            options,
            limits,
            draining: Arc::default(),
            running,
            documentation: Documentation::default(),
            streams_end: CancellationToken::new(),
            scrapes: BlockingPool::new(1),
        }))
    }

    /// The way to the models.
    pub fn service(&self) -> &InferenceService {
        &self.0.service
    }

    /// Readiness: each desired model serves or has settled, and the server is not draining.
    pub fn is_ready(&self) -> bool {
        !self.0.draining.load(Ordering::Relaxed) && self.service().catalog().snapshot().is_ready()
    }

    /// Where requests and loads are traced.
    pub fn tracer(&self) -> &Tracer {
        &self.0.options.tracer
    }

    /// Keeps what models saw and answered; `None` when that is not configured.
    pub(crate) fn payload_log(&self) -> Option<&PayloadLog> {
        self.0.options.payload_log.as_deref()
    }

    /// Keeps what was true; `None` when there is no place for it.
    pub(crate) fn feedback(&self) -> Option<&Feedback> {
        self.0.options.feedback.as_deref()
    }

    /// Turns true when the server begins to drain.
    pub fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.draining)
    }

    /// Turns readiness off for good; requests are still answered.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Loads and unloads models by request; `None` until it runs.
    pub(crate) fn host(&self) -> Option<Arc<dyn ModelHost>> {
        self.0.running.borrow().host.clone()
    }

    /// Decides against the registry; `None` until it runs.
    pub(crate) fn admin(&self) -> Option<Arc<dyn Admin>> {
        self.0.running.borrow().admin.clone()
    }

    /// Reads no more from streams that their clients keep open; what they have asked for is answered.
    pub fn end_streams(&self) {
        self.0.streams_end.cancel();
    }

    /// Resolves when open streams shall end.
    pub(crate) async fn streams_end(&self) {
        self.0.streams_end.cancelled().await;
    }

    /// Authorizes requests; `None` without authentication.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.0.options.guard.as_ref()
    }

    /// What the operator chose for all protocols.
    pub(crate) fn options(&self) -> &ProtocolOptions {
        &self.0.options
    }

    pub(crate) fn has_public_metrics(&self) -> bool {
        self.0.options.public_metrics
    }

    /// The path in front of every other.
    pub(crate) fn base_path(&self) -> &str {
        &self.0.options.base_path
    }

    pub(crate) fn non_finite(&self) -> NonFinite {
        self.0.options.non_finite
    }

    /// What a body may be.
    pub(crate) fn body_limits(&self) -> &BodyLimits {
        &self.0.limits
    }

    /// What describes the paths.
    pub(crate) fn documentation(&self) -> &Documentation {
        &self.0.documentation
    }

    /// Where pages of metrics are made.
    pub(crate) fn scrapes(&self) -> &BlockingPool {
        &self.0.scrapes
    }

    /// What all requests may hold, and what their runs take.
    pub fn budget(&self) -> &Budget {
        &self.0.options.budget
    }

    /// What one request may hold; nothing is charged yet.
    pub(crate) fn allowance(&self) -> Allowance {
        self.0.limits.allowance()
    }
}

impl AsRef<BodyLimits> for Shared {
    fn as_ref(&self) -> &BodyLimits {
        &self.0.limits
    }
}
