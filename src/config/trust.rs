//! Settings of who may connect and ask: certificates and callers.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[server.tls]`: TLS is on when there is a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate of this server, with those between it and the authority.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The authorities of clients.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
    /// The longest time from a connection to the end of its handshake.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They are not asked for one.
    None,
    /// Optional, but verified if a client sends one.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// `[auth]`: authentication is on if there is a callers file or a JWKS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// The file of callers.
    pub callers_file: Option<PathBuf>,
    /// Whether everybody may read the metrics.
    pub public_metrics: bool,
    /// Tokens of an identity provider.
    pub jwt: JwtSettings,
}

/// `[auth.jwt]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// The address or the file of the keys (JWKS).
    pub jwks: Option<String>,
    /// Who must have made a token.
    pub issuer: Option<String>,
    /// For whom it must have been made.
    pub audience: Vec<String>,
    /// The algorithms that are taken.
    pub algorithms: Vec<String>,
    /// By how much clocks may differ.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// The time between two looks at the keys.
    #[serde(with = "humantime_serde")]
    pub refresh_interval: Duration,
}

impl AuthSettings {
    /// Whether authentication is on.
    pub fn is_on(&self) -> bool {
        self.callers_file.is_some() || self.jwt.jwks.is_some()
    }
}
