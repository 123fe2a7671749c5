//! The listener of the management API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use axum_server::Handle;
use tokio::task::JoinHandle;

use super::trust::Trust;
use crate::config::{Settings, request_limits, secret};
use crate::middleware::auth::{Authenticator, Callers, Guard};
use crate::middleware::{MiddlewareOptions, RawOptions, RequestLimits, layered};
use crate::protocol::{Shared, admin_router};
use crate::server::listen::{self, Local};
use crate::telemetry::Tracer;

/// A manual swap is answered when the version serves, which may take as long as loading it.
const LONGEST_REQUEST: Duration = Duration::from_secs(660);

/// A management API that listens.
pub(crate) struct AdminServer {
    pub(crate) address: SocketAddr,
    handle: Handle<Local>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl AdminServer {
    /// Listens, when a port is configured.
    ///
    /// # Errors
    /// Without a token, or when the port is taken.
    pub(crate) fn start(
        settings: &Settings,
        shared: &Shared,
        trust: &Trust,
    ) -> anyhow::Result<Option<Self>> {
        let server = &settings.server;
        let Some(port) = server.admin_port else {
            return Ok(None);
        };
        let known = trust.authenticator();
        let authenticator = match (&server.admin_token_file, known) {
            (Some(file), known) => {
                let token = secret::read(Some("server.admin_token_file"), file)?;
                let nobody = || Authenticator::new(Callers::default(), None);
                known.unwrap_or_else(nobody).with_operator(&token)
            }
            (None, Some(known)) => known,
            (None, None) => bail!(
                "the management API needs a token: write one to a file, such as with \
                 `openssl rand -hex 32 > token`, and name it with `--admin-token-file`"
            ),
        };
        let guard = Guard::new(shared.service().shared_metrics());
        let bound = listen::bind(&server.admin_host, port, "--admin-port")?;
        let address = bound.address;
        let router = layered(
            admin_router(shared, guard),
            MiddlewareOptions {
                request_timeout: LONGEST_REQUEST,
                access_log: settings.telemetry.access_log,
                authenticator: Some(authenticator),
                tracer: Tracer::default(),
                draining: shared.draining(),
                limits: RequestLimits {
                    clients: None,
                    ..request_limits(settings, shared.service().shared_metrics())
                },
                raw: RawOptions::default(),
            },
        );
        let handle = Handle::new();
        // Places of its own: clients that take all others must not lock the operator out.
        let listening = listen::Listening::new(
            settings,
            shared.service().shared_metrics(),
            trust.tls.clone(),
        );
        let task = tokio::spawn(listening.serve(bound, router, handle.clone()));
        Ok(Some(Self {
            address,
            handle,
            task,
        }))
    }

    /// Stops listening; what still runs ends with the process.
    pub(crate) fn stop(self) {
        self.handle.shutdown();
        self.task.abort();
    }
}
