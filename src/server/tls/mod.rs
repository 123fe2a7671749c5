//! TLS for every listener: what the certificate files hold, and connections that are accepted with it.
//!
//! ```text
//! files ─► Files (bytes, compared) ─► ServerConfig ─► Tls ─► Acceptor ─► who the client's certificate names
//!    ▲                                                 ▲
//!    └────────── reload: every interval, on SIGHUP ────┘   a broken change keeps what was there
//! ```

mod acceptor;
mod files;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum_server::tls_rustls::RustlsConfig;
use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

pub(crate) use self::acceptor::Acceptor;
use self::files::Files;
use super::reload::Reload;
use crate::config::{ClientAuth, TlsSettings, TlsVersion};
use crate::telemetry::Metrics;

/// HTTP/2 first: gRPC speaks nothing else.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate that every listener shows, and how it is renewed.
pub(crate) struct Tls {
    settings: TlsSettings,
    config: RustlsConfig,
    /// What was loaded last, or could not be.
    seen: Mutex<Files>,
    metrics: Arc<Metrics>,
}

impl Tls {
    /// What the settings say; `None` when there is no certificate.
    ///
    /// # Errors
    /// A setting without the others that it needs, or a file that holds something else.
    pub(crate) fn load(
        settings: &TlsSettings,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if !is_wanted(settings)? {
            return Ok(None);
        }
        let files = Files::read(settings).context("cannot serve TLS")?;
        let config = server_config(settings, &files).context("cannot serve TLS")?;
        let expires = files.expires().context("cannot serve TLS")?;
        metrics.tls_expires(expires);
        if expires < files::now() {
            let file = settings.cert_file.as_deref();
            tracing::warn!(file = ?file, "the certificate has expired: clients will refuse it");
        }
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            config: RustlsConfig::from_config(Arc::new(config)),
            seen: Mutex::new(files),
            metrics: Arc::clone(metrics),
        })))
    }

    /// How connections are accepted.
    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor::new(self.config.clone(), self.settings.handshake_timeout)
    }

    fn renew(&self, files: &Files) -> anyhow::Result<()> {
        let config = server_config(&self.settings, files)?;
        let expires = files.expires()?;
        if expires < files::now() {
            bail!("the new certificate has expired");
        }
        self.config.reload_from_config(Arc::new(config));
        self.metrics.tls_expires(expires);
        Ok(())
    }
}

impl Reload for Tls {
    fn reload(&self) {
        let read = Files::read(&self.settings);
        let mut seen = self.seen.lock();
        let result = match read {
            Ok(files) if files == *seen => return,
            Ok(files) => {
                let renewed = self.renew(&files);
                // Report a broken change once, not at every look.
                *seen = files;
                renewed
            }
            Err(error) if seen.is_missing() => return drop(error),
            Err(error) => {
                *seen = Files::missing();
                Err(error)
            }
        };
        match result {
            Ok(()) => tracing::info!("the certificate was renewed"),
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::error!(%reason, "the certificate cannot be renewed: the one from before is still used");
                self.metrics.tls_reloaded("failure");
                return;
            }
        }
        self.metrics.tls_reloaded("success");
    }
}

/// Whether there is a certificate, once what is set fits together.
fn is_wanted(settings: &TlsSettings) -> anyhow::Result<bool> {
    let has_authority = settings.client_ca_file.is_some();
    match (&settings.cert_file, &settings.key_file) {
        (Some(_), None) => bail!("`server.tls.cert_file` needs `server.tls.key_file`"),
        (None, Some(_)) => bail!("`server.tls.key_file` needs `server.tls.cert_file`"),
        (None, None) if has_authority || settings.client_auth != ClientAuth::None => {
            bail!("certificates of clients need `server.tls.cert_file` and `server.tls.key_file`")
        }
        (None, None) => Ok(false),
        (Some(_), Some(_)) => match (settings.client_auth, has_authority) {
            (ClientAuth::None, true) => bail!(
                "`server.tls.client_ca_file` is of no use while `server.tls.client_auth` is `none`: choose `optional` or `required`"
            ),
            (ClientAuth::Optional | ClientAuth::Required, false) => bail!(
                "`server.tls.client_auth` needs `server.tls.client_ca_file`, the authorities of clients"
            ),
            _ => Ok(true),
        },
    }
}

fn server_config(settings: &TlsSettings, files: &Files) -> anyhow::Result<ServerConfig> {
    // The same cryptography as outgoing connections: there is one in this program.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings.min_version))?;
    let builder = match settings.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        wanted => builder.with_client_cert_verifier(verifier(settings, files, wanted, provider)?),
    };
    let certified = builder.with_single_cert(files.chain()?, files.key()?);
    let named = || file_names([&settings.cert_file, &settings.key_file]);
    let mut config = certified.with_context(|| format!("{} do not fit together", named()))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

fn verifier(
    settings: &TlsSettings,
    files: &Files,
    wanted: ClientAuth,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in files.authorities()? {
        let file = || file_names([&settings.client_ca_file]);
        let refused = || format!("a certificate in {} is no authority", file());
        roots.add(certificate).with_context(refused)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match wanted {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::None | ClientAuth::Required => builder,
    };
    builder.build().context("the authorities of clients")
}

fn versions(oldest: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    match oldest {
        TlsVersion::V1_2 => vec![&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => vec![&version::TLS13],
    }
}

fn file_names<const N: usize>(files: [&Option<PathBuf>; N]) -> String {
    let files = files.into_iter().flatten();
    let names: Vec<String> = files.map(|file| format!("`{}`", file.display())).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests;
