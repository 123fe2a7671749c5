//! Where the files of a version are, and how they come here: through the server, by its signed URLs, or directly.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::json;
use url::Url;

use super::client::Api;
use super::wire;
use crate::network::reason;
use crate::registry::download::{Opened, Remote, RemoteFile, download};
use crate::registry::{ObjectAccess, SourceError, object_files};

/// More folders are no package but a wrong place.
const MOST_FOLDERS: usize = 1_000;

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Fetches what an artifact URI names. `tracking` is the server that `mlflow-artifacts:` means.
pub(super) async fn fetch(
    tracking: &Api,
    objects: &ObjectAccess,
    uri: &str,
    directory: &Path,
) -> Result<(), SourceError> {
    if let Some(proxied) = Proxied::of(tracking, uri)? {
        let files = proxied.list().await?;
        if files.is_empty() {
            let address = tracking.address();
            return Err(SourceError::NotFound(format!(
                "`{uri}` holds no files at `{address}`"
            )));
        }
        return download(&proxied, files, directory).await;
    }
    let url = object_url(uri)?;
    object_files::fetch(objects, &url, directory).await
}

/// Whether an artifact URI holds any file. Only the server can tell cheaply; of other places it is assumed.
async fn holds_files(tracking: &Api, uri: &str) -> Result<bool, SourceError> {
    match Proxied::of(tracking, uri)? {
        Some(proxied) => Ok(!proxied.entries("").await?.is_empty()),
        None => match object_url(uri)?.to_file_path() {
            Ok(path) => Ok(path.exists()),
            Err(()) => Ok(true),
        },
    }
}

/// The URL of an artifact URI that leads past the server; a bare path is one of this machine.
fn object_url(uri: &str) -> Result<Url, SourceError> {
    let url = if uri.starts_with('/') {
        Url::from_file_path(uri).ok()
    } else {
        Url::parse(uri).ok()
    };
    let url = url.ok_or_else(|| {
        SourceError::Unsupported(format!(
            "the registry gives `{}` as the place of the files, expected an absolute URI",
            uri.escape_debug()
        ))
    })?;
    if matches!(url.scheme(), "http" | "https") {
        return Err(SourceError::Unsupported(format!(
            "the registry gives `{}` as the place of the files, which is no artifact proxy of MLflow: its path would \
             contain `{PROXY}`",
            crate::registry::object_url::without_secrets(&url)
        )));
    }
    Ok(url)
}

/// The artifact URI of `path` of a run. Since MLflow 3 a model is not below its run but a logged model of that name.
pub(super) async fn of_run(tracking: &Api, run: &str, path: &str) -> Result<String, SourceError> {
    let found: wire::GetRun = tracking.get("mlflow/runs/get", &[("run_id", run)]).await?;
    let info = found.run.info;
    let root = info.artifact_uri.trim_end_matches('/');
    let below = format!("{root}/{path}");
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let mut page_token = String::new();
    if !name.contains('\'') {
        loop {
            let mut body = json!({
                "experiment_ids": [info.experiment_id],
                "filter": format!("name = '{name}'"),
            });
            if !page_token.is_empty() {
                body["page_token"] = json!(page_token);
            }
            let search = "mlflow/logged-models/search";
            let page = tracking.send(Method::POST, search, &body).await;
            let page: wire::SearchLoggedModels = match page {
                // Before MLflow 3 there was no such thing.
                Err(SourceError::Status {
                    status: 404 | 405, ..
                }) => break,
                other => other?,
            };
            let mut models = page.models.into_iter();
            if let Some(model) = models.find(|model| model.info.source_run_id == run) {
                let root = model.info.artifact_uri;
                let logged = format!("{}/{rest}", root.trim_end_matches('/'));
                if holds_files(tracking, &logged).await? {
                    return Ok(logged.trim_end_matches('/').to_owned());
                }
            }
            if page.next_page_token.is_empty() || page.next_page_token == page_token {
                break;
            }
            page_token = page.next_page_token;
        }
    }
    Ok(below)
}

/// Files that an MLflow server hands out itself.
struct Proxied {
    api: Api,
    /// The place below the server's artifact root, decoded.
    root: Vec<String>,
    shown: String,
}

impl Proxied {
    /// `None` when the URI leads past the server.
    fn of(tracking: &Api, uri: &str) -> Result<Option<Self>, SourceError> {
        let decode = |path: &str| -> Vec<String> {
            let parts = path.split('/').filter(|part| !part.is_empty());
            let decoded = parts.map(|part| percent_decode_str(part).decode_utf8_lossy());
            decoded.map(std::borrow::Cow::into_owned).collect()
        };
        let shown = uri.to_owned();
        if let Some(rest) = uri.strip_prefix("mlflow-artifacts:") {
            let (authority, path) = match rest.strip_prefix("//") {
                Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
                None => ("", rest),
            };
            let api = match authority {
                "" => tracking.clone(),
                authority => server(tracking, authority)?,
            };
            let root = decode(path);
            return Ok(Some(Self { api, root, shown }));
        }
        let is_http = uri.starts_with("http://") || uri.starts_with("https://");
        let (true, Some((base, path))) = (is_http, uri.split_once(PROXY)) else {
            return Ok(None);
        };
        let base = parse(uri, base)?;
        let api = if same_server(&base, tracking.base()) {
            tracking.clone()
        } else {
            tracking.elsewhere(base)
        };
        let root = decode(path);
        Ok(Some(Self { api, root, shown }))
    }

    /// All files, with those of folders.
    async fn list(&self) -> Result<Vec<RemoteFile>, SourceError> {
        let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
        let mut looked = 0;
        while let Some(folder) = folders.pop() {
            looked += 1;
            if looked > MOST_FOLDERS {
                return Err(self.api.malformed(&format!(
                    "`{}` has more than {MOST_FOLDERS} folders",
                    self.shown
                )));
            }
            for entry in self.entries(&folder).await? {
                let path = match folder.as_str() {
                    "" => entry.path,
                    folder => format!("{folder}/{}", entry.path),
                };
                if entry.is_dir {
                    folders.push(path);
                } else {
                    let size = entry.file_size;
                    files.push(RemoteFile { path, size });
                }
            }
        }
        Ok(files)
    }

    async fn entries(&self, folder: &str) -> Result<Vec<wire::Artifact>, SourceError> {
        let mut path = self.root.join("/");
        if !folder.is_empty() {
            path = format!("{path}/{folder}");
        }
        let list = "mlflow-artifacts/artifacts";
        let listed: wire::ListArtifacts = self.api.get(list, &[("path", &path)]).await?;
        Ok(listed.files)
    }

    fn url(&self, kind: &'static str, file: &RemoteFile) -> Url {
        let root = self.root.iter().map(String::as_str);
        self.api.url(
            ["mlflow-artifacts", kind]
                .into_iter()
                .chain(root)
                .chain(file.path.split('/')),
        )
    }

    /// A response without a body yet.
    async fn send(&self, request: RequestBuilder, offset: u64) -> Result<Response, SourceError> {
        let request = match offset {
            0 => request,
            offset => request.header(RANGE, format!("bytes={offset}-")),
        };
        let sent = request.send().await;
        let response = sent.map_err(|error| self.api.unreachable(error))?;
        self.api.check(response).await
    }

    async fn through_the_server(
        &self,
        file: &RemoteFile,
        offset: u64,
    ) -> Result<Response, SourceError> {
        let url = self.url("artifacts", file);
        self.send(self.api.request(Method::GET, url), offset).await
    }

    /// From the object store behind the server, which never sees our credentials.
    async fn by_signed_url(&self, file: &RemoteFile, offset: u64) -> Result<Response, SourceError> {
        let url = self.url("presigned", file);
        let response = self.send(self.api.request(Method::GET, url), 0).await?;
        let path = &file.path;
        let malformed = || {
            let reason = format!("the signed URL of `{path}` cannot be used");
            self.api.malformed(&reason)
        };
        let signed: wire::Presigned = self.api.read("presigned", response).await?;
        let url = Url::parse(&signed.url).map_err(|_| malformed())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &signed.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
            let value = HeaderValue::from_str(value).map_err(|_| malformed())?;
            headers.insert(name, value);
        }
        self.send(self.api.http.get(url).headers(headers), offset)
            .await
    }
}

#[async_trait]
impl Remote for Proxied {
    fn address(&self) -> &str {
        self.api.address()
    }

    fn patience(&self) -> Duration {
        self.api.timeout
    }

    async fn open(&self, file: &RemoteFile, offset: u64) -> Result<Opened, SourceError> {
        let response = match self.through_the_server(file, offset).await {
            Ok(response) => response,
            // Nothing is left to continue with.
            Err(SourceError::Status { status: 416, .. }) => {
                self.through_the_server(file, 0).await?
            }
            Err(refused) if may_sign(&refused) => match self.by_signed_url(file, offset).await {
                Ok(response) => response,
                Err(error) => {
                    tracing::debug!(file = file.path, %error, "no signed URL either");
                    return Err(refused);
                }
            },
            Err(other) => return Err(other),
        };
        let offset = match response.status() {
            StatusCode::PARTIAL_CONTENT => begins_at(response.headers()).ok_or_else(|| {
                self.api
                    .malformed(&format!("`{}`: a part without saying which", file.path))
            })?,
            _ => 0,
        };
        let bytes = response.bytes_stream().map_err(reason).boxed();
        Ok(Opened { offset, bytes })
    }
}

/// Whether a refusal may mean that the server wants its signed URLs to be used.
fn may_sign(refused: &SourceError) -> bool {
    match refused {
        SourceError::Status { status, .. } => matches!(status, 400..=499 | 501) && *status != 429,
        SourceError::Unauthenticated { .. } => true,
        _ => false,
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn begins_at(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let range = text.trim().strip_prefix("bytes")?.trim();
    range.split_once('-')?.0.trim().parse().ok()
}

/// `mlflow-artifacts://host:port/…` names a server by the scheme and path of ours.
fn server(tracking: &Api, authority: &str) -> Result<Api, SourceError> {
    let mut base = tracking.base().clone();
    let text = format!("{}://{authority}/", base.scheme());
    let named = parse(authority, &text)?;
    if same_server(&named, &base) {
        return Ok(tracking.clone());
    }
    let set = base.set_host(named.host_str()).is_ok() && base.set_port(named.port()).is_ok();
    if set {
        Ok(tracking.elsewhere(base))
    } else {
        Err(invalid(authority))
    }
}

fn same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

fn parse(uri: &str, text: &str) -> Result<Url, SourceError> {
    Url::parse(text).map_err(|_| invalid(uri))
}

fn invalid(uri: &str) -> SourceError {
    SourceError::Unsupported(format!(
        "the registry gives `{}` as the place of the files, which names no server",
        uri.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::auth::Credentials;
    use super::*;

    fn place(uri: &str) -> Result<Option<(String, bool, String)>, String> {
        crate::network::install_provider();
        let base = "http://mlflow:5000/prefix".parse().unwrap();
        let credentials = Credentials::Bearer("t".to_owned());
        let api = Api::new(reqwest::Client::new(), base, credentials);
        let found = Proxied::of(&api, uri).map_err(|error| error.to_string())?;
        Ok(found.map(|found| {
            let shown = format!("{:?}", found.api);
            let knows_us = shown.contains("Bearer");
            (
                found.api.address().to_owned(),
                knows_us,
                found.root.join("|"),
            )
        }))
    }

    #[test]
    fn artifact_uris_name_a_place_at_our_server_or_another_which_gets_no_credentials() {
        let here = "http://mlflow:5000/prefix";
        for (uri, address, knows_us, root) in [
            (
                "mlflow-artifacts:/1/m%20x/artifacts",
                here,
                true,
                "1|m x|artifacts",
            ),
            ("mlflow-artifacts://mlflow:5000/1/a", here, true, "1|a"),
            (
                "mlflow-artifacts://other:7/1/a",
                "http://other:7/prefix",
                false,
                "1|a",
            ),
            (
                "http://mlflow:5000/prefix/api/2.0/mlflow-artifacts/artifacts/1",
                here,
                true,
                "1",
            ),
            (
                "https://x/api/2.0/mlflow-artifacts/artifacts/1",
                "https://x",
                false,
                "1",
            ),
        ] {
            let expected = (address.to_owned(), knows_us, root.to_owned());
            assert_eq!(place(uri), Ok(Some(expected)), "{uri}");
        }
        for uri in ["s3://b/a", "file:///a", "/a", "https://x/a", "dbfs:/a"] {
            assert_eq!(place(uri), Ok(None), "{uri}");
        }
        assert!(place("mlflow-artifacts://a b/c").is_err());
    }

    #[test]
    fn places_that_cannot_be_read_are_named() {
        assert_eq!(object_url("/a b").unwrap().as_str(), "file:///a%20b");
        for uri in ["./mlruns/1", "", "https://host/a"] {
            let error = object_url(uri).unwrap_err().to_string();
            assert!(error.contains(&format!("`{uri}`")), "{error}");
        }
    }

    #[test]
    fn the_first_byte_of_a_part_is_read() {
        for (text, first) in [
            ("bytes 5-9/10", Some(5)),
            ("bytes 0-0/*", Some(0)),
            ("bytes */10", None),
            ("5-9", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            assert_eq!(begins_at(&headers), first, "{text}");
        }
    }
}
