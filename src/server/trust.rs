//! Who may connect and ask: certificates and callers together, and what keeps both true.

use std::net::IpAddr;
use std::sync::Arc;

use super::callers::Known;
use crate::config::{ClientAuth, Settings};
use crate::middleware::auth::Authenticator;
use crate::server::reload::{Reload, Reloader};
use crate::server::tls::Tls;
use crate::telemetry::Metrics;

/// See the module. Ends looking at files when it is dropped.
pub(crate) struct Trust {
    pub(crate) tls: Option<Arc<Tls>>,
    known: Option<Known>,
    _reloader: Reloader,
}

impl Trust {
    /// What the settings say.
    ///
    /// # Errors
    /// A file that cannot be used, or settings that do not fit together.
    pub(crate) async fn load(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let server = &settings.server;
        let tls = Tls::load(&server.tls, metrics)?;
        let known = Known::load(settings).await?;
        let certificates = tls.clone().map(|tls| -> Arc<dyn Reload> { tls });
        let callers = known.as_ref().and_then(|known| known.watched.clone());
        let watched = certificates.into_iter().chain(callers).collect();
        let reloader = Reloader::start(watched, server.reload_interval)?;
        if known.is_none() && server.tls.client_auth != ClientAuth::Required {
            warn(settings);
        }
        Ok(Self {
            tls,
            known,
            _reloader: reloader,
        })
    }

    /// What authenticates requests; `None` without authentication.
    pub(crate) fn authenticator(&self) -> Option<Authenticator> {
        let known = self.known.as_ref();
        known.map(|known| known.authenticator.clone())
    }
}

/// Once, in plain words.
fn warn(settings: &Settings) {
    let host = settings.server.host.as_str();
    if !is_loopback(host) {
        tracing::warn!(
            "anybody who reaches `{host}` can use every model and read what they are: there are no callers \
             (`auth.callers_file`, `auth.jwt.jwks`); this is fine behind something that authenticates requests"
        );
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_is_an_address_or_its_name() {
        for host in ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "0.0.0.0",
            "::",
            "10.0.0.1",
            "example.com",
            "localhost.example.com",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
