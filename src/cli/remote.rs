//! A running server, as the commands that ask one see it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::{ClientBuilder, Identity, Method, Response, StatusCode, Url};
use serde_json::Value;

use super::Failure;
use crate::config::secret;
use crate::config::{ServerSettings, Settings};
use crate::network::{self, NetworkError};

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// How to reach a server with authentication.
#[derive(Debug, Default, Args)]
pub(super) struct Way {
    /// Additional CA certificates (PEM) [default: `network.ca_file`]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// File with an API key, or a token
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

impl Way {
    fn identity(&self) -> Result<Option<Identity>, Failure> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else {
            return Ok(None);
        };
        let read = |file: &Path| {
            let failed = |error| format!("cannot read `{}`: {error}", file.display());
            std::fs::read(file).map_err(|error| Failure::failed(failed(error)))
        };
        let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
        let (cert, key) = (cert.display(), key.display());
        let message = format!("`{cert}` and `{key}` are no certificate and its private key (PEM)");
        let identity = Identity::from_pem(&pem);
        identity.map(Some).map_err(|_| Failure::failed(message))
    }

    fn api_key(&self) -> Result<Option<String>, Failure> {
        let read = |file: &PathBuf| secret::read(None, file);
        let key = self.api_key_file.as_ref().map(read).transpose();
        key.map_err(|error| Failure::failed(error.to_string()))
    }
}

/// The address of a server and the way to it.
#[derive(Debug)]
pub(super) struct Remote {
    client: reqwest::Client,
    base: Url,
    /// An API key, or the token of the management API.
    token: Option<String>,
}

impl Remote {
    /// The server at `url`, or the one that these settings start on this machine. `timeout` is for one call.
    pub(super) fn new(url: Option<&str>, settings: &Settings, way: &Way) -> Result<Self, Failure> {
        let base = base(url, settings)?;
        let is_near = is_loopback(&base);
        Self::at(base, settings, way, |builder| direct(builder, is_near))
    }

    /// The same for a question whose answer is no secret, past every proxy: as if the server were on this machine.
    pub(super) fn probe(
        url: Option<&str>,
        settings: &Settings,
        way: &Way,
    ) -> Result<Self, Failure> {
        let base = base(url, settings)?;
        // The certificate is for the name by which others know the server, not for this machine's own address.
        let is_own = url.is_none() && way.api_key_file.is_none();
        Self::at(base, settings, way, |builder| {
            direct(builder, true).tls_danger_accept_invalid_certs(is_own)
        })
    }

    /// The management API at `url`, or that of the server that these settings start on this machine; `None` when they
    /// start none.
    pub(super) fn admin(
        url: Option<&str>,
        settings: &Settings,
        way: &Way,
    ) -> Result<Option<Self>, Failure> {
        let server = &settings.server;
        let base = match (url, server.admin_port) {
            (Some(url), _) => parse(url, "--admin-url")?,
            (None, None | Some(0)) => return Ok(None),
            (None, Some(port)) => {
                let host = local(&server.admin_host);
                address(
                    &format!("{}://{host}:{port}", scheme(server)),
                    "server.admin_host",
                    "server.admin_port",
                )?
            }
        };
        let is_near = is_loopback(&base);
        let remote = Self::at(base, settings, way, |builder| direct(builder, is_near));
        remote.map(Some)
    }

    fn at(
        base: Url,
        settings: &Settings,
        way: &Way,
        change: impl Fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, Failure> {
        let mut config = settings.network.config();
        if let Some(file) = &way.ca_file {
            config.ca_file = Some(file.clone());
        }
        let identity = way.identity()?;
        let client = network::client_with(&config, |builder| {
            let builder = change(builder);
            match &identity {
                Some(identity) => builder.identity(identity.clone()),
                None => builder,
            }
        });
        let client = client.map_err(no_client)?;
        let token = way.api_key()?;
        Ok(Self {
            client,
            base,
            token,
        })
    }

    /// The same for requests that bear a token.
    pub(super) fn bearing(self, token: String) -> Self {
        let token = Some(token);
        Self { token, ..self }
    }

    /// The address without a password.
    pub(super) fn shown(&self) -> String {
        let mut base = self.base.clone();
        // Refused for addresses that cannot have one.
        let _ = base.set_password(None);
        let _ = base.set_username("");
        base.as_str().trim_end_matches('/').to_owned()
    }

    /// Calls `path` below the address; only the status counts.
    pub(super) async fn status(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<StatusCode, Failure> {
        let response = self.send(Method::GET, path, timeout).await?;
        Ok(response.status())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        timeout: Duration,
    ) -> Result<Response, Failure> {
        let mut url = self.base.clone();
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        let mut request = self.client.request(method, url).timeout(timeout);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(|error| self.failed(error))
    }

    async fn text(&self, mut response: Response) -> Result<String, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                let (address, limit) = (self.shown(), MAX_ANSWER >> 20);
                return Err(Failure::failed(format!(
                    "`{address}` answers with more than {limit} MiB; is it another kind of server?"
                )));
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn failed(&self, error: reqwest::Error) -> Failure {
        let (address, reason) = (self.shown(), network::reason(error));
        Failure::failed(format!("no answer from `{address}`: {reason}"))
    }

    /// Calls `path` and reads the JSON that a server of the Open Inference Protocol answers.
    pub(super) async fn json(
        &self,
        method: Method,
        path: &str,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let response = self.send(method, path, timeout).await?;
        let other = |what: String| {
            let address = self.shown();
            let message = format!("`{address}` answers `{path}` with {what}");
            Failure::failed(message).hint(
                "expected a server of the Open Inference Protocol v2; with a base path, give it in `--url`",
            )
        };
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED && self.token.is_some() {
            let message = format!("`{}` does not know the token", self.shown());
            return Err(Failure::failed(message)
                .hint("expected a key of its `auth.callers_file`, or of the management API the token in `server.admin_token_file`"));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let message = format!("`{}` refuses `{path}`", self.shown());
            return Err(Failure::failed(message).hint(
                "name a file with an API key of scope `read` for all models with `--api-key-file`",
            ));
        }
        if !status.is_success() {
            return Err(other(format!("status {}", status.as_u16())));
        }
        let text = self.text(response).await?;
        serde_json::from_str(&text).map_err(|_| other("something else than JSON".to_owned()))
    }
}

/// Runs `work` to its end; commands have no runtime of their own.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::failed(format!("cannot start the network: {error}")))?;
    runtime.block_on(work)
}

fn no_client(error: NetworkError) -> Failure {
    let is_setting = !matches!(error, NetworkError::Client(_));
    let message = format!("{:#}", anyhow::Error::from(error));
    if is_setting {
        Failure::config(message)
    } else {
        Failure::failed(message)
    }
}

fn parse(text: &str, flag: &str) -> Result<Url, Failure> {
    let refuse = || {
        // Whatever is before an `@` may be a password.
        let shown = text.rsplit('@').next().unwrap_or(text);
        Failure::usage(format!(
            "invalid value `{shown}` for `{flag}`: expected an address such as `http://127.0.0.1:8080`"
        ))
    };
    let url = Url::parse(text).map_err(|_| refuse())?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_base = url.query().is_none() && url.fragment().is_none();
    if is_http && is_base {
        Ok(url)
    } else {
        Err(refuse())
    }
}

fn base(url: Option<&str>, settings: &Settings) -> Result<Url, Failure> {
    match url {
        Some(url) => parse(url, "--url"),
        None => configured(&settings.server),
    }
}

/// A proxy reaches another loopback than ours.
fn direct(builder: ClientBuilder, is_near: bool) -> ClientBuilder {
    if is_near { builder.no_proxy() } else { builder }
}

fn scheme(server: &ServerSettings) -> &'static str {
    match server.tls.cert_file {
        Some(_) => "https",
        None => "http",
    }
}

fn configured(server: &ServerSettings) -> Result<Url, Failure> {
    if server.port == 0 {
        let failure = Failure::usage("the port of the server is not known: `server.port` is 0");
        return Err(failure.hint("name the server with `--url http://127.0.0.1:PORT`"));
    }
    let host = local(&server.host);
    let text = format!(
        "{}://{host}:{}{}",
        scheme(server),
        server.port,
        server.base_path
    );
    address(&text, "server.host", "server.port")
}

/// A server that listens on every address also listens on this machine's own.
fn local(host: &str) -> String {
    match host.parse() {
        Ok(std::net::IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(std::net::IpAddr::V6(address)) if address.is_unspecified() => "[::1]".to_owned(),
        Ok(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    }
}

fn address(text: &str, host: &str, port: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|_| {
        Failure::config(format!(
            "`{text}`, made of `{host}` and `{port}`, is no address"
        ))
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(change: impl FnOnce(&mut ServerSettings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings.server);
        Remote::new(None, &settings, &Way::default())
            .unwrap()
            .shown()
    }

    #[test]
    fn the_server_of_these_settings_is_asked_on_this_machine() {
        assert_eq!(address(|_| {}), "http://127.0.0.1:8080");
        let any = |host: &'static str| address(|server| server.host = host.to_owned());
        assert_eq!(any("0.0.0.0"), "http://127.0.0.1:8080");
        assert_eq!(any("::"), "http://[::1]:8080");
        assert_eq!(any("10.0.0.7"), "http://10.0.0.7:8080");
        let based = address(|server| {
            server.port = 9000;
            server.base_path = "/ml".to_owned();
        });
        assert_eq!(based, "http://127.0.0.1:9000/ml");
    }

    #[test]
    fn addresses_are_shown_without_a_password_and_others_are_refused() {
        let remote = Remote::new(
            Some("http://me:s3cret@host:1/ml/"),
            &Settings::default(),
            &Way::default(),
        );
        assert_eq!(remote.unwrap().shown(), "http://host:1/ml");
        for url in ["8080", "host:8080", "ftp://x", "http://x?y", "http://"] {
            let failure = Remote::new(Some(url), &Settings::default(), &Way::default());
            let failure = failure.unwrap_err();
            assert!(failure.message.contains("--url"), "{url}: {failure}");
        }
    }
}
