//! Outgoing HTTP: the one place where a client is built.
//!
//! Proxies come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; trusted certificates from the system
//! (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace its own), and from `network.ca_file` beside them.
//!
//! A redirect is followed within one origin only. Nearly every request carries something that is meant for one server:
//! credentials, a workspace, a signed query. Headers that a library takes away at a foreign hop it may put back at the
//! next one, so there is no foreign hop.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder};
use url::Url;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest silence of a server that has something to send; large files may take longer as a whole.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Redirects that are followed for one request.
const MOST_REDIRECTS: usize = 10;

/// What the operator chose for outgoing connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// A PEM file with certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The file cannot be read.
    #[error("cannot read `{}` (`network.ca_file`)", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error(
        "`{}` (`network.ca_file`) holds no certificate; expected a PEM file with `-----BEGIN CERTIFICATE-----`",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The library refuses.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// A client for servers anywhere, by way of a proxy where the environment names one. Cheap to clone; clones share
/// their connections.
///
/// # Errors
/// [`NetworkError`].
pub fn client(config: &NetworkConfig) -> Result<Client, NetworkError> {
    client_with(config, |builder| builder)
}

/// A client that uses no proxy, for servers on this machine.
///
/// # Errors
/// [`NetworkError`].
pub fn direct(config: &NetworkConfig) -> Result<Client, NetworkError> {
    client_with(config, ClientBuilder::no_proxy)
}

/// [`client`] with further settings, such as a certificate of our own. `change` may be called more than once.
///
/// # Errors
/// [`NetworkError`].
pub fn client_with(
    config: &NetworkConfig,
    change: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Result<Client, NetworkError> {
    install_provider();
    let certificates = certificates(config)?;
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("onstage/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(Policy::custom(within_origin))
            .referer(false);
        change(builder)
    };
    match builder().tls_certs_merge(certificates.clone()).build() {
        Ok(client) => Ok(client),
        // Small images bring no certificates; plain HTTP must work there all the same.
        Err(error) if certificates.is_empty() => {
            tracing::debug!(
                reason = reason(error),
                "the system has no certificates to trust; https needs `SSL_CERT_FILE` or `network.ca_file`"
            );
            let client = builder().tls_certs_only(certificates).build();
            client.map_err(|error| NetworkError::Client(reason(error)))
        }
        Err(error) => Err(NetworkError::Client(reason(error))),
    }
}

/// Follows a redirect to the origin of the first request, and no other.
fn within_origin(attempt: Attempt<'_>) -> Action {
    let Some(first) = attempt.previous().first() else {
        return attempt.stop();
    };
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error(format!("it redirects more than {MOST_REDIRECTS} times"));
    }
    if is_same_origin(first, attempt.url()) {
        return attempt.follow();
    }
    let elsewhere = attempt.url().origin().ascii_serialization();
    attempt.error(format!(
        "it redirects to another server, `{elsewhere}`, which is not followed; if that is the right one, configure its address"
    ))
}

/// Whether two URLs have the same scheme, host and port.
pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Makes one cryptography the default of this process. May be called often; the first call counts.
pub fn install_provider() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn certificates(config: &NetworkConfig) -> Result<Vec<Certificate>, NetworkError> {
    let Some(path) = &config.ca_file else {
        return Ok(Vec::new());
    };
    let pem = std::fs::read(path).map_err(|source| NetworkError::CaFile {
        path: path.clone(),
        source,
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(NetworkError::NoCertificate { path: path.clone() }),
    }
}

/// Why a request got no answer, on one line and without the URL, which may hold a password.
pub fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    words(&error.without_url())
}

/// What an error says at its bottom: the outer levels only say that it was a request and that it failed.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let words = innermost.to_string();
    if words.contains("invalid peer certificate") {
        return format!(
            "{words} (an authority of your own is trusted when `network.ca_file` names its certificate)"
        );
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ca_file(text: &str) -> (tempfile::TempDir, NetworkConfig) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        let ca_file = Some(path);
        (directory, NetworkConfig { ca_file })
    }

    #[test]
    fn clients_are_built_without_a_file_and_more_than_once() {
        for _ in 0..2 {
            client(&NetworkConfig::default()).unwrap();
            direct(&NetworkConfig::default()).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_holds_no_certificate_is_named() {
        let ca_file = Some(PathBuf::from("does/not/exist.pem"));
        let error = client(&NetworkConfig { ca_file }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read `does/not/exist.pem` (`network.ca_file`)"
        );
        for text in ["", "-----BEGIN CERTIFICATE-----\n!\n", "hello\n"] {
            let (_directory, config) = with_ca_file(text);
            let error = client(&config).unwrap_err();
            assert!(
                matches!(
                    error,
                    NetworkError::NoCertificate { .. } | NetworkError::Client(_)
                ),
                "{text:?}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_without_the_address() {
        let client = direct(&NetworkConfig::default()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let request = client.get(format!("http://me:s3cret@{address}/"));
        let text = reason(request.send().await.unwrap_err());
        assert!(text.contains("refused"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
