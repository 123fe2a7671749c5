//! Outgoing connections of the real binary: through a forward proxy, to servers whose certificates an authority of our
//! own has signed. Their names exist nowhere, so that only the proxy can reach them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::object_servers::{BUCKET, Dialect, Imitation, S3Server};
use crate::support::server::{Ended, Server, Starter, project};

/// A forward proxy, behind it one TLS server for all names, and behind that a plain server for each name.
struct Outside {
    proxy: SocketAddr,
    tls: SocketAddr,
    /// What the proxy was asked to connect to.
    asked: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
}

impl Outside {
    /// `servers` by their names; the TLS server is also reached by its address, and then means the first one.
    async fn start(servers: &[(&'static str, SocketAddr)]) -> Self {
        onstage::network::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let names = servers.iter().map(|(name, _)| (*name).to_owned());
        let acceptor = certificates(&directory, names.chain(["127.0.0.1".to_owned()]).collect());
        let by_name: BTreeMap<&str, SocketAddr> = servers.iter().copied().collect();
        let tls = relay(acceptor, by_name, servers[0].1).await;
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let proxy = proxy(tls, Arc::clone(&asked)).await;
        Self {
            proxy,
            tls,
            asked,
            directory,
        }
    }

    fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// The targets since the last call, each once.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked.dedup();
        asked
    }

    /// A command that uses the proxy, and trusts nobody but the system's authorities.
    fn command(&self, arguments: &[&str]) -> Starter {
        Starter::command(arguments).env("HTTPS_PROXY", format!("http://{}", self.proxy))
    }

    /// The same, trusting our authority.
    async fn trusting(&self, arguments: &[&str]) -> Ended {
        let command = self.command(arguments);
        command
            .env("ONSTAGE_REGISTRY__ARTIFACT_HOSTS", "files.test")
            .env("ONSTAGE_NETWORK__CA_FILE", self.authority())
            .run()
            .await
    }
}

/// Writes `authority.pem`; the acceptor has a certificate of it for these names.
fn certificates(directory: &TempDir, names: Vec<String>) -> TlsAcceptor {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let name = "an authority of our own";
    authority.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let signed = authority.self_signed(&key).unwrap();
    std::fs::write(directory.path().join("authority.pem"), signed.pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(names).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![server.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// Ends TLS and passes on to the server of the name that the client asks for.
async fn relay(
    acceptor: TlsAcceptor,
    by_name: BTreeMap<&'static str, SocketAddr>,
    other: SocketAddr,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (acceptor, by_name) = (acceptor.clone(), by_name.clone());
            tokio::spawn(async move {
                // A client that does not trust us goes away here.
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let name = client.get_ref().1.server_name().unwrap_or_default();
                let server = by_name.get(name).copied().unwrap_or(other);
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// Tunnels every `CONNECT` to `target`.
async fn proxy(target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut first = String::new();
                client.read_line(&mut first).await.unwrap();
                let mut line = first.clone();
                while !line.trim().is_empty() {
                    line.clear();
                    client.read_line(&mut line).await.unwrap();
                }
                let mut words = first.split(' ');
                assert_eq!(words.next(), Some("CONNECT"), "{first}");
                asked.lock().unwrap().push(words.next().unwrap().to_owned());
                let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
                client.get_mut().write_all(answer).await.unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

async fn serve(answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move |request: Request| {
        let answer = answer.clone();
        async move { answer(&request.uri().path_and_query().unwrap().to_string()) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// The files of the package that [`mlflow`] holds, with their sizes.
fn files() -> Vec<Value> {
    let directory = std::fs::read_dir(project().join("model-examples/iris")).unwrap();
    let entries = directory.map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let file = |entry: std::fs::DirEntry| {
        let (path, size) = (entry.file_name(), entry.metadata().unwrap().len());
        json!({"path": path.to_str().unwrap(), "file_size": size})
    };
    files.map(file).collect()
}

/// A tracking server with one version of `iris` that hands out no files, but URLs of `files.test`.
async fn mlflow() -> SocketAddr {
    let version = json!({
        "version": "1",
        "status": "READY",
        "source": "mlflow-artifacts:/1/a",
        "creation_timestamp": 1,
    });
    let model = json!({
        "name": "iris",
        "latest_versions": [version],
        "aliases": [{"alias": "champion", "version": "1"}],
    });
    serve(move |path| {
        let answer = match path.strip_prefix("/api/2.0/").unwrap_or(path) {
            path if path.starts_with("mlflow/registered-models/search") => {
                json!({"registered_models": [model]})
            }
            path if path.starts_with("mlflow/registered-models/get") => {
                json!({"registered_model": model})
            }
            path if path.starts_with("mlflow/model-versions/get-download-uri") => {
                json!({"artifact_uri": "mlflow-artifacts:/1/a"})
            }
            path if path.starts_with("mlflow/model-versions/get") => {
                json!({"model_version": version})
            }
            path if path.starts_with("mlflow-artifacts/artifacts?") => json!({"files": files()}),
            path => match path.strip_prefix("mlflow-artifacts/presigned/1/a/") {
                Some(file) => json!({"url": format!("https://files.test/{file}?signature=s3cret")}),
                None => return (StatusCode::FORBIDDEN, "ask for a signed URL").into_response(),
            },
        };
        axum::Json(answer).into_response()
    })
    .await
}

/// What the signed URLs lead to.
async fn signed_files() -> SocketAddr {
    serve(|path| match path.split_once("?signature=s3cret") {
        Some((file, "")) => {
            let path = format!("model-examples/iris{file}");
            std::fs::read(project().join(path)).unwrap().into_response()
        }
        _ => StatusCode::FORBIDDEN.into_response(),
    })
    .await
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn fine(ended: Ended) -> String {
    assert!(ended.status.success(), "{}", ended.stderr);
    ended.stdout
}

#[tokio::test]
async fn mlflow_and_its_signed_urls_are_reached_through_the_proxy() {
    let servers = [
        ("mlflow.test", mlflow().await),
        ("files.test", signed_files().await),
    ];
    let outside = Outside::start(&servers).await;
    let copy = outside.directory.path().join("copy");
    let copy = copy.to_str().unwrap();
    let registry = ["--registry", "https://mlflow.test"];
    let pull = [
        &["pull", "models:/iris@champion", "-o", copy],
        &registry[..],
    ]
    .concat();
    let pulled = fine(outside.trusting(&pull).await);
    assert!(
        pulled.ends_with("iris   1        @champion        copied\n"),
        "{pulled}"
    );
    assert_eq!(outside.asked(), ["files.test:443", "mlflow.test:443"]);

    let follow = [&["--follow", "@champion"], &registry[..]].concat();
    let server = Starter::serve(&follow)
        .env("ONSTAGE_REGISTRY__ARTIFACT_HOSTS", "files.test")
        .env("HTTPS_PROXY", format!("http://{}", outside.proxy))
        .env("SSL_CERT_FILE", outside.authority())
        .start()
        .await;
    assert_eq!(server.get("/v2/models/iris/ready").await.status(), 200);
    assert_eq!(outside.asked(), ["files.test:443", "mlflow.test:443"]);
    server.terminate().await;
}

#[tokio::test]
async fn object_stores_and_running_servers_are_reached_through_the_proxy() {
    let (google, azure) = (
        Imitation::start(Dialect::Google).await,
        Imitation::start(Dialect::Azure).await,
    );
    let s3 = S3Server::start().await;
    let server = Server::start(&["model-examples/iris", "--engine", "tract"]).await;
    let outside = Outside::start(&[
        ("google.test", address(google.url())),
        ("azure.test", address(azure.url())),
        // moto takes what is before a dot for a bucket.
        ("s3", address(s3.url())),
        ("server.test", server.address()),
    ])
    .await;
    for (scheme, name, url, variables) in [
        ("gs", "google.test", google.url(), google.variables()),
        ("az", "azure.test", azure.url(), azure.variables()),
        ("s3", "s3", s3.url(), s3.variables()),
    ] {
        let registry = format!("{scheme}://{BUCKET}/some/where");
        let register = [
            "registry",
            "register",
            "iris",
            "model-examples/iris",
            "--registry",
            &registry,
        ];
        let command = outside
            .command(&register)
            .env("ONSTAGE_NETWORK__CA_FILE", outside.authority());
        let by_name = |value: String| value.replace(url, &format!("https://{name}"));
        let variables = variables.into_iter();
        let command = variables.fold(command, |command, (key, value)| {
            command.env(&key, by_name(value))
        });
        assert_eq!(fine(command.run().await), "1\n", "{scheme}");
        assert_eq!(outside.asked(), [format!("{name}:443")]);
    }
    let status = ["status", "--url", "https://server.test"];
    let status = fine(outside.trusting(&status).await);
    assert!(status.contains("https://server.test: ready"), "{status}");
    assert_eq!(outside.asked(), ["server.test:443"]);
    server.terminate().await;
}

#[tokio::test]
async fn an_authority_that_nobody_named_is_told_with_the_setting_that_would() {
    let google = Imitation::start(Dialect::Google).await;
    let servers = [
        ("mlflow.test", mlflow().await),
        ("google.test", address(google.url())),
    ];
    let outside = Outside::start(&servers).await;
    let other = Outside::start(&servers).await;
    let store = format!("gs://{BUCKET}/some/where");
    for arguments in [
        ["registry", "list", "--registry", "https://mlflow.test"].as_slice(),
        &["registry", "list", "--registry", &store],
        &["status", "--url", "https://mlflow.test"],
    ] {
        for authority in [None, Some(other.authority())] {
            let mut command = outside.command(arguments);
            if let Some(authority) = authority {
                command = command.env("ONSTAGE_NETWORK__CA_FILE", authority);
            }
            for (name, value) in google.variables() {
                let value = value.replace(google.url(), "https://google.test");
                command = command.env(&name, value);
            }
            let ended = command.run().await;
            assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
            let (certificate, setting) = ("invalid peer certificate", "`network.ca_file`");
            assert!(
                ended.stderr.contains(certificate) && ended.stderr.contains(setting),
                "{arguments:?}: {}",
                ended.stderr
            );
        }
    }
}

#[tokio::test]
async fn what_no_proxy_names_is_asked_directly() {
    let outside = Outside::start(&[("mlflow.test", mlflow().await)]).await;
    let registry = format!("https://{}", outside.tls);
    let list = ["registry", "list", "--registry", &registry];
    fine(outside.trusting(&list).await);
    assert_eq!(
        outside.asked(),
        [outside.tls.to_string()],
        "by way of the proxy"
    );
    let direct = outside
        .command(&list)
        .env("ONSTAGE_NETWORK__CA_FILE", outside.authority())
        .env("NO_PROXY", "example.com,127.0.0.1");
    fine(direct.run().await);
    assert!(outside.asked().is_empty(), "directly");
}
