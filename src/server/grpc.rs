//! The gRPC services: on a port of their own, on that of HTTP, or on both; and whether they are healthy.

use std::panic::resume_unwind;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::protocol::{Grpc, HEALTH_NAMES, Shared};
use crate::serving::RequestContext;

/// See the module.
pub(crate) struct Services {
    shared: Shared,
    router: Router,
    health: HealthReporter,
    /// Keeps the health true.
    follower: Option<JoinHandle<()>>,
}

impl Services {
    /// The services, which are not healthy yet.
    pub(crate) async fn new(shared: &Shared) -> Self {
        let Grpc { router, health } = Grpc::new(shared);
        tell(&health, ServingStatus::NotServing).await;
        Self {
            shared: shared.clone(),
            router,
            health,
            follower: None,
        }
    }

    /// All of them.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// All of them, for event loops, which have one thread each: what a large message takes is done on the threads of this
    /// runtime.
    pub(crate) fn router_for_event_loops(&self) -> Router {
        let runtime = Handle::current();
        let beside = from_fn(move |request: Request, next: Next| {
            // The new task works for the same request.
            let work = RequestContext::current().scope(next.run(request));
            let call = AbortOnDropHandle::new(runtime.spawn(work));
            async move {
                call.await
                    .unwrap_or_else(|error| match error.try_into_panic() {
                        Ok(panic) => resume_unwind(panic),
                        Err(_) => Status::unavailable("the server is stopping").into_http(),
                    })
            }
        });
        self.router().layer(beside)
    }

    /// From here on they are as healthy as the server is ready. `progress` changes whenever that may have changed.
    pub(crate) fn follow(&mut self, mut progress: watch::Receiver<u64>) {
        let (shared, health) = (self.shared.clone(), self.health.clone());
        self.follower = Some(tokio::spawn(async move {
            loop {
                progress.mark_unchanged();
                let status = if shared.is_ready() {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                tell(&health, status).await;
                if progress.changed().await.is_err() {
                    return;
                }
            }
        }));
    }

    /// They are not healthy any more.
    pub(crate) async fn start_draining(&self) {
        if let Some(follower) = &self.follower {
            follower.abort();
        }
        tell(&self.health, ServingStatus::NotServing).await;
    }

    /// Ends what clients would keep open: streams of requests, and of those who watch the health.
    pub(crate) async fn end_streams(mut self) {
        self.shared.end_streams();
        for name in HEALTH_NAMES {
            self.health.clear_service_status(name).await;
        }
    }
}

async fn tell(health: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, status).await;
    }
}
