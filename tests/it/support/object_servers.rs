//! Object stores for one test: S3 by moto, and imitations of Google's and Azure's, of which there are no emulators that
//! Python alone could run. The imitations know what `object_store` sends: puts with conditions, gets with ranges, lists
//! in pages, deletions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::mlflow_server::command;
use super::server::project;

/// The bucket, or container, of each of them.
pub(crate) const BUCKET: &str = "models";

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What reaches a store: variables of the environment.
pub(crate) type Variables = Vec<(String, String)>;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

/// S3 by moto. Dropping it ends it.
pub(crate) struct S3Server {
    _process: Child,
    _home: TempDir,
    url: String,
}

impl S3Server {
    /// Waits until it answers.
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut process = command(home.path())
            .arg(project().join("tests/it/support/s3_server.py"))
            .stdout(Stdio::piped())
            // It tells every request.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(START_TIMEOUT, output.next_line()).await;
        let port = port.expect("moto starts in time").unwrap();
        let port = port.expect("moto prints its port: is the venv up to date?");
        Self {
            _process: process,
            _home: home,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What leads to it.
    pub(crate) fn variables(&self) -> Variables {
        variables(&[
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ])
    }

    /// Lets it check who asks, and so refuse everybody, or no longer.
    pub(crate) async fn refuse(&self, refuses: bool) {
        let requests_before = if refuses { "0" } else { "inf" };
        onstage::network::install_provider();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(format!("{}/moto-api/reset-auth", self.url))
            .body(requests_before);
        assert!(request.send().await.unwrap().status().is_success());
    }
}

/// Whose protocol an [`Imitation`] speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Google,
    Azure,
}

#[derive(Debug, Default)]
struct Store {
    objects: BTreeMap<String, (Bytes, u64)>,
    generation: u64,
    refuses: bool,
    /// Objects that were asked for.
    gets: usize,
}

/// A store in memory. Dropping it ends it.
pub(crate) struct Imitation {
    dialect: Dialect,
    store: Arc<Mutex<Store>>,
    task: JoinHandle<()>,
    url: String,
}

impl Drop for Imitation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Imitation {
    pub(crate) async fn start(dialect: Dialect) -> Self {
        let store: Arc<Mutex<Store>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&store);
        let router = Router::new().fallback(move |request: Request| {
            let store = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let asked = Asked {
                    dialect,
                    method: parts.method,
                    path: percent_decode_str(parts.uri.path())
                        .decode_utf8()
                        .unwrap()
                        .into_owned(),
                    query: url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes())
                        .into_owned()
                        .collect(),
                    headers: parts.headers,
                    body,
                };
                asked.answer(&mut store.lock().unwrap())
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            dialect,
            store,
            task,
            url,
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What leads to it.
    pub(crate) fn variables(&self) -> Variables {
        match self.dialect {
            Dialect::Google => variables(&[
                ("GOOGLE_BASE_URL", &self.url),
                (
                    "GOOGLE_SERVICE_ACCOUNT_KEY",
                    r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#,
                ),
            ]),
            Dialect::Azure => {
                let connection = format!(
                    "DefaultEndpointsProtocol=http;AccountName=onstage;AccountKey=a2V5;BlobEndpoint={}",
                    self.url
                );
                variables(&[("AZURE_STORAGE_CONNECTION_STRING", &connection)])
            }
        }
    }

    /// How many objects were asked for since the last call; lists do not count.
    pub(crate) fn gets(&self) -> usize {
        std::mem::take(&mut self.store.lock().unwrap().gets)
    }

    /// Lets it refuse everybody, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.store.lock().unwrap().refuses = refuses;
    }
}

/// One request as it came in.
struct Asked {
    dialect: Dialect,
    method: Method,
    /// Decoded.
    path: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

/// Objects that a list tells at once, so that there are pages.
const PAGE: usize = 3;

const DATE: &str = "Tue, 24 Nov 2026 00:00:00 GMT";

impl Asked {
    fn answer(&self, store: &mut Store) -> Response {
        if store.refuses {
            return (StatusCode::FORBIDDEN, "you may not").into_response();
        }
        let Some(rest) = self.path.strip_prefix(&format!("/{BUCKET}")) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let key = rest.trim_start_matches('/');
        match self.method {
            Method::GET if key.is_empty() => self.list(store),
            Method::GET => {
                store.gets += 1;
                self.get(store, key)
            }
            Method::PUT => self.put(store, key),
            Method::DELETE => match store.objects.remove(key) {
                Some(_) => StatusCode::NO_CONTENT.into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            Method::POST if self.query.get("comp").is_some_and(|comp| comp == "batch") => {
                self.delete_batch(store)
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn put(&self, store: &mut Store, key: &str) -> Response {
        let present = store.objects.get(key).map(|(_, generation)| *generation);
        let met = match self.dialect {
            Dialect::Google => self
                .header("x-goog-if-generation-match")
                .is_none_or(|wanted| wanted == present.unwrap_or(0).to_string()),
            Dialect::Azure => {
                let wanted = self.header("if-match");
                let absent = self.header("if-none-match") != Some("*") || present.is_none();
                let current = present.map(|generation| format!("\"{generation}\""));
                absent && wanted.is_none_or(|wanted| Some(wanted) == current.as_deref())
            }
        };
        if !met {
            // Azure tells a blob that is there already from one that has changed.
            let exists = self.header("if-none-match").is_some();
            return if exists {
                StatusCode::CONFLICT.into_response()
            } else {
                StatusCode::PRECONDITION_FAILED.into_response()
            };
        }
        store.generation += 1;
        let generation = store.generation;
        store
            .objects
            .insert(key.to_owned(), (self.body.clone(), generation));
        (StatusCode::CREATED, marks(generation)).into_response()
    }

    fn get(&self, store: &Store, key: &str) -> Response {
        let Some((bytes, generation)) = store.objects.get(key) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let range = self.header("range").or(self.header("x-ms-range"));
        let first = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let first = first.map(|(first, _)| first.parse::<usize>().unwrap());
        match first {
            None => (marks(*generation), bytes.clone()).into_response(),
            Some(first) if first >= bytes.len() => {
                StatusCode::RANGE_NOT_SATISFIABLE.into_response()
            }
            Some(first) => {
                let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
                (
                    StatusCode::PARTIAL_CONTENT,
                    marks(*generation),
                    [(header::CONTENT_RANGE, range)],
                    bytes.slice(first..),
                )
                    .into_response()
            }
        }
    }

    fn list(&self, store: &Store) -> Response {
        let prefix = self.query.get("prefix").map_or("", String::as_str);
        let after = ["continuation-token", "marker"]
            .iter()
            .find_map(|name| self.query.get(*name));
        let mut found = store.objects.iter().filter(|(key, _)| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after.as_str())
        });
        let page: Vec<_> = found.by_ref().take(PAGE).collect();
        let next = found.next().and(page.last()).map(|(key, _)| escaped(key));
        let entries = page
            .iter()
            .fold(String::new(), |mut text, (key, (bytes, generation))| {
                let (key, size) = (escaped(key), bytes.len());
                let _ = match self.dialect {
                    Dialect::Google => write!(
                        text,
                        "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-24T00:00:00Z\
                         </LastModified><ETag>\"{generation}\"</ETag></Contents>"
                    ),
                    Dialect::Azure => write!(
                        text,
                        "<Blob><Name>{key}</Name><Properties><Last-Modified>{DATE}</Last-Modified><Content-Length>{size}\
                         </Content-Length><Content-Type>application/octet-stream</Content-Type><Etag>\"{generation}\"\
                         </Etag></Properties></Blob>"
                    ),
                };
                text
            });
        let next = next.unwrap_or_default();
        let text = match self.dialect {
            Dialect::Google if next.is_empty() => {
                format!("<ListBucketResult>{entries}</ListBucketResult>")
            }
            Dialect::Google => format!(
                "<ListBucketResult>{entries}<NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"
            ),
            Dialect::Azure => format!(
                "<EnumerationResults><Blobs>{entries}</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>"
            ),
        };
        ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
    }

    /// Azure deletes several blobs at once: a request for each, in one body.
    fn delete_batch(&self, store: &mut Store) -> Response {
        let body = String::from_utf8_lossy(&self.body).into_owned();
        let mut answer = String::new();
        let mut id = String::new();
        for line in body.lines() {
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-id")
            {
                id = value.to_owned();
            }
            let Some(target) = line.strip_prefix("DELETE ") else {
                continue;
            };
            let path = target.split(['?', ' ']).next().unwrap();
            let path = percent_decode_str(path).decode_utf8().unwrap();
            let key = path.strip_prefix(&format!("/{BUCKET}/")).unwrap();
            let status = match store.objects.remove(key) {
                Some(_) => "202 Accepted",
                None => "404 The specified blob does not exist.",
            };
            let _ = write!(
                answer,
                "--answers\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\nHTTP/1.1 {status}\r\n\
                 x-ms-request-id: 1\r\n\r\n"
            );
        }
        answer.push_str("--answers--\r\n");
        let kind = [(header::CONTENT_TYPE, "multipart/mixed; boundary=answers")];
        (StatusCode::ACCEPTED, kind, Body::from(answer)).into_response()
    }
}

/// The headers of an object in both dialects.
fn marks(generation: u64) -> [(&'static str, String); 3] {
    [
        ("etag", format!("\"{generation}\"")),
        ("last-modified", DATE.to_owned()),
        ("x-goog-generation", generation.to_string()),
    ]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
