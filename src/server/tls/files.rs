//! The files of certificates: read as a whole, so that a change is one.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsSettings;

/// Larger is no file of certificates.
const LONGEST: u64 = 1 << 20;

/// How often files that change while they are read are read again.
const ATTEMPTS: usize = 3;

/// What the files hold.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

impl Files {
    /// Reads them until two readings agree: whoever renews a certificate may write one file after the other.
    pub(super) fn read(settings: &TlsSettings) -> anyhow::Result<Self> {
        let mut before = Self::read_once(settings)?;
        for _ in 1..ATTEMPTS {
            let now = Self::read_once(settings)?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(before)
    }

    fn read_once(settings: &TlsSettings) -> anyhow::Result<Self> {
        let read = |file: &Option<PathBuf>, key| match file {
            Some(file) => read(file, key).map(Some),
            None => Ok(None),
        };
        let (certificate, key) = (&settings.cert_file, &settings.key_file);
        Ok(Self {
            certificate: read(certificate, "server.tls.cert_file")?.unwrap_or_default(),
            key: read(key, "server.tls.key_file")?.unwrap_or_default(),
            authorities: read(&settings.client_ca_file, "server.tls.client_ca_file")?,
        })
    }

    /// Stands for files that could not be read.
    pub(super) fn missing() -> Self {
        Self {
            certificate: Vec::new(),
            key: Vec::new(),
            authorities: None,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        *self == Self::missing()
    }

    /// The certificate, with those between it and the authority.
    pub(super) fn chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        certificates(&self.certificate, "server.tls.cert_file")
    }

    pub(super) fn authorities(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let authorities = self.authorities.as_deref().unwrap_or_default();
        certificates(authorities, "server.tls.client_ca_file")
    }

    pub(super) fn key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.key).context(
            "the file of `server.tls.key_file` holds no private key; expected PEM without a password",
        )
    }

    /// When the certificate expires, in seconds of Unix.
    pub(super) fn expires(&self) -> anyhow::Result<i64> {
        let chain = self.chain()?;
        let parsed = chain
            .first()
            .map(|der| x509_parser::parse_x509_certificate(der));
        match parsed {
            Some(Ok((_, certificate))) => Ok(certificate.validity().not_after.timestamp()),
            _ => bail!("the certificate of `server.tls.cert_file` cannot be read"),
        }
    }
}

fn read(file: &Path, key: &str) -> anyhow::Result<Vec<u8>> {
    let named = || format!("cannot read `{}` (`{key}`)", file.display());
    let size = std::fs::metadata(file).with_context(named)?.len();
    if size > LONGEST {
        bail!(
            "`{}` (`{key}`) is too large for certificates",
            file.display()
        );
    }
    std::fs::read(file).with_context(named)
}

fn certificates(pem: &[u8], key: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => bail!(
            "the file of `{key}` holds no certificate; expected PEM with `-----BEGIN CERTIFICATE-----`"
        ),
    }
}

/// The time, in seconds of Unix.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
