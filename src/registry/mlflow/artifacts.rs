//! Where the files of a version are, and how they come here: through the server, by its signed URLs, or directly.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use percent_encoding::percent_decode_str;
use reqwest::header::{
    CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::json;
use url::Url;

use super::client::Api;
use super::wire;
use crate::network::{is_same_origin, reason};
use crate::registry::download::{Opened, Part, Remote, RemoteFile, TransferError, download};
use crate::registry::{ArtifactPlaces, Environment, ObjectAccess, SourceError, object_files};

/// More folders are no package but a wrong place.
const MOST_FOLDERS: usize = 1_000;

/// The age at which a modification time distinguishes one content from another.
const SETTLED: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Where files may come from, and by which means.
#[derive(Clone, Copy)]
pub(super) struct Artifacts<'a> {
    /// Who says where the files of registered versions are.
    pub(super) registry: &'a Api,
    /// The server that `mlflow-artifacts:` means.
    pub(super) tracking: &'a Api,
    pub(super) objects: &'a ObjectAccess,
    pub(super) environment: &'a Environment,
    pub(super) places: &'a ArtifactPlaces,
}

impl Artifacts<'_> {
    /// Fetches what an artifact URI names.
    pub(super) async fn fetch(self, uri: &str, directory: &Path) -> Result<(), SourceError> {
        if let Some(proxied) = Proxied::parse(self, uri)? {
            let files = proxied.list().await?;
            if files.is_empty() {
                let address = proxied.api.address();
                return Err(SourceError::NotFound(format!(
                    "`{uri}` holds no files at `{address}`"
                )));
            }
            return download(&proxied, files, directory).await;
        }
        let url = object_url(uri)?;
        self.check_local(&url)?;
        object_files::fetch(self.objects, &url, directory).await
    }

    /// Whether a place may be read, if it is one of this machine.
    pub(super) fn check_local(self, url: &Url) -> Result<(), SourceError> {
        if url.scheme() != "file" {
            return Ok(());
        }
        let path = url.to_file_path().map_err(|()| invalid(url.as_str()))?;
        let mut servers = [self.registry, self.tracking].into_iter();
        servers.try_for_each(|server| self.places.check_local(server.base(), &path))
    }

    /// Whether files may come from a server that ours names.
    fn check_host(self, url: &Url) -> Result<(), SourceError> {
        let server = self.tracking.base();
        self.places.check_host(server, self.environment, url)
    }

    /// Whether an artifact URI holds any file. Only the server can tell cheaply; of other places it is assumed.
    async fn holds_files(self, uri: &str) -> Result<bool, SourceError> {
        if let Some(proxied) = Proxied::parse(self, uri)? {
            return Ok(!proxied.entries("").await?.is_empty());
        }
        let url = object_url(uri)?;
        self.check_local(&url)?;
        Ok(url.to_file_path().map_or(true, |path| path.exists()))
    }

    /// The artifact URI of `path` of a run. Since MLflow 3 a model is not below its run but a logged model of that name.
    pub(super) async fn of_run(self, run: &str, path: &str) -> Result<String, SourceError> {
        let found: wire::GetRun = self
            .tracking
            .get("mlflow/runs/get", &[("run_id", run)])
            .await?;
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
                let page = self.tracking.send(Method::POST, search, &body).await;
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
                    if self.holds_files(&logged).await? {
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

/// Files that an MLflow server hands out itself.
struct Proxied<'a> {
    from: Artifacts<'a>,
    api: Api,
    /// The place below the server's artifact root, decoded.
    root: Vec<String>,
    shown: String,
}

impl<'a> Proxied<'a> {
    /// `None` when the URI leads past the server.
    fn parse(from: Artifacts<'a>, uri: &str) -> Result<Option<Self>, SourceError> {
        let decode = |path: &str| -> Vec<String> {
            let parts = path.split('/').filter(|part| !part.is_empty());
            let decoded = parts.map(|part| percent_decode_str(part).decode_utf8_lossy());
            decoded.map(std::borrow::Cow::into_owned).collect()
        };
        let found = |api: Api, path: &str| {
            Ok(Some(Self {
                from,
                api,
                root: decode(path),
                shown: uri.to_owned(),
            }))
        };
        if let Some(rest) = uri.strip_prefix("mlflow-artifacts:") {
            let (authority, path) = match rest.strip_prefix("//") {
                Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
                None => ("", rest),
            };
            let api = match authority {
                "" => from.tracking.clone(),
                authority => server(from, authority)?,
            };
            return found(api, path);
        }
        let is_http = uri.starts_with("http://") || uri.starts_with("https://");
        let (true, Some((base, path))) = (is_http, uri.split_once(PROXY)) else {
            return Ok(None);
        };
        let base = parse(uri, base)?;
        let api = if is_same_origin(&base, from.tracking.base()) {
            from.tracking.clone()
        } else {
            from.check_host(&base)?;
            from.tracking.elsewhere(base)
        };
        found(api, path)
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
                    files.push(RemoteFile {
                        path,
                        size: entry.file_size,
                        tag: None,
                    });
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

    /// A response without a body yet: with a part its rest, when the other side still has that content.
    async fn send(
        &self,
        request: RequestBuilder,
        part: Option<&Part>,
    ) -> Result<Response, SourceError> {
        let request = match part {
            None => request,
            Some(Part { length, tag }) => request
                .header(RANGE, format!("bytes={length}-"))
                .header(IF_RANGE, tag),
        };
        let sent = request.send().await;
        let response = sent.map_err(|error| self.api.unreachable(error))?;
        self.api.check(response).await
    }

    async fn through_the_server(
        &self,
        file: &RemoteFile,
        part: Option<&Part>,
    ) -> Result<Response, SourceError> {
        let url = self.url("artifacts", file);
        self.send(self.api.request(Method::GET, url), part).await
    }

    /// From the object store behind the server, which never sees our credentials.
    async fn by_signed_url(
        &self,
        file: &RemoteFile,
        part: Option<&Part>,
    ) -> Result<Response, SourceError> {
        let url = self.url("presigned", file);
        let response = self.send(self.api.request(Method::GET, url), None).await?;
        let signed: wire::Presigned = self.api.read("presigned", response).await?;
        let path = &file.path;
        let malformed = || {
            let reason = format!("the signed URL of `{path}` cannot be used");
            self.api.malformed(&reason)
        };
        let url = Url::parse(&signed.url).map_err(|_| malformed())?;
        self.from.check_host(&url)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &signed.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
            let value = HeaderValue::from_str(value).map_err(|_| malformed())?;
            if !is_of_stores(&name) {
                return Err(SourceError::Unsupported(format!(
                    "the registry wants the header `{name}` to be sent for `{path}`, which no object store needs:                      expected `x-amz-…`, `x-goog-…` or `x-ms-…`"
                )));
            }
            headers.insert(name, value);
        }
        let request = self.api.request_elsewhere(Method::GET, url);
        self.send(request.headers(headers), part).await
    }

    async fn respond(
        &self,
        file: &RemoteFile,
        part: Option<&Part>,
    ) -> Result<Response, SourceError> {
        let refused = match self.through_the_server(file, part).await {
            Err(refused) if may_sign(&refused) => refused,
            answered => return answered,
        };
        match self.by_signed_url(file, part).await {
            // Where we are sent, and may not go, says more than the first refusal.
            Err(error @ (SourceError::Place { .. } | SourceError::Unsupported(_))) => Err(error),
            Err(error) => {
                tracing::debug!(file = file.path, %error, "no signed URL either");
                Err(refused)
            }
            answered => answered,
        }
    }
}

/// Whether a header is one of those that object stores read.
fn is_of_stores(name: &HeaderName) -> bool {
    let known = ["x-amz-", "x-goog-", "x-ms-"];
    known.iter().any(|known| name.as_str().starts_with(known))
}

#[async_trait]
impl Remote for Proxied<'_> {
    fn address(&self) -> &str {
        self.api.address()
    }

    fn patience(&self) -> Duration {
        self.api.timeout
    }

    async fn open(&self, file: &RemoteFile, part: Option<&Part>) -> Result<Opened, SourceError> {
        let answer = match (self.respond(file, part).await, part) {
            (Ok(response), Some(part)) if is_rest(&response, file, part) => {
                return Ok(opened(response, part.length));
            }
            // Another part than the one that is missing, or of another content.
            (Ok(response), _) if response.status() == StatusCode::PARTIAL_CONTENT => None,
            // Nothing is left to continue with.
            (Err(SourceError::Status { status: 416, .. }), Some(_)) => None,
            (answered, _) => Some(answered?),
        };
        let response = match answer {
            Some(response) => response,
            None => self.respond(file, None).await?,
        };
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let reason = format!("`{}`: a part, where all was asked for", file.path);
            return Err(self.api.malformed(&reason));
        }
        Ok(opened(response, 0))
    }
}

fn opened(response: Response, offset: u64) -> Opened {
    let tag = tag(response.headers());
    let bytes = response.bytes_stream();
    let bytes = bytes.map_err(|error| TransferError::Transport(reason(error)));
    Opened {
        offset,
        tag,
        bytes: bytes.boxed(),
    }
}

/// Whether an answer is what follows a part, of the same content.
fn is_rest(response: &Response, file: &RemoteFile, part: &Part) -> bool {
    let headers = response.headers();
    let Some((first, whole)) = content_range(headers) else {
        return false;
    };
    let same_size = whole.is_none() || file.size.is_none() || whole == file.size;
    // Not every server looks at `If-Range`.
    let same_content = tag(headers).is_some_and(|tag| tag == part.tag);
    response.status() == StatusCode::PARTIAL_CONTENT
        && first == part.length
        && same_size
        && same_content
}

/// What changes with the content, as far as an answer tells for certain: no weak tag, and no time of a change that may
/// have been followed by another one in the same second.
fn tag(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    if let Some(tag) = text(ETAG) {
        return tag.starts_with('"').then(|| tag.to_owned());
    }
    let time = |text: &str| {
        let parser = jiff::fmt::rfc2822::DateTimeParser::new();
        parser.parse_timestamp(text).ok()
    };
    let changed = text(LAST_MODIFIED)?;
    let age = time(text(DATE)?)?.duration_since(time(changed)?);
    (age >= SETTLED).then(|| changed.to_owned())
}

/// Whether a refusal may mean that the server requires its signed URLs.
fn may_sign(refused: &SourceError) -> bool {
    match refused {
        SourceError::Status { status, .. } => matches!(status, 400..=499 | 501) && *status != 429,
        SourceError::Unauthenticated { .. } => true,
        _ => false,
    }
}

/// The first byte of `Content-Range: bytes 5-9/10` and the length of the whole, where it is told.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let range = text.trim().strip_prefix("bytes")?.trim();
    let (range, whole) = range.split_once('/').unwrap_or((range, "*"));
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    Some((first, whole.trim().parse().ok()))
}

/// `mlflow-artifacts://host:port/…` names a server by the scheme and path of ours.
fn server(from: Artifacts<'_>, authority: &str) -> Result<Api, SourceError> {
    let tracking = from.tracking;
    let mut base = tracking.base().clone();
    let text = format!("{}://{authority}/", base.scheme());
    let named = parse(authority, &text)?;
    if is_same_origin(&named, &base) {
        return Ok(tracking.clone());
    }
    let set = base.set_host(named.host_str()).is_ok() && base.set_port(named.port()).is_ok();
    if !set {
        return Err(invalid(authority));
    }
    from.check_host(&base)?;
    Ok(tracking.elsewhere(base))
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
    use std::sync::Arc;

    use super::super::auth::Credentials;
    use super::*;

    fn place(uri: &str) -> Result<Option<(String, bool, String)>, SourceError> {
        crate::network::install_provider();
        let base = "http://mlflow:5000/prefix".parse().unwrap();
        let credentials = Credentials::Bearer("t".to_owned());
        let api = Api::new(reqwest::Client::new(), base, credentials);
        let access = ObjectAccess::new(reqwest::Client::new(), Arc::default());
        let from = Artifacts {
            registry: &api,
            tracking: &api,
            objects: &access,
            environment: &Environment::default(),
            places: &ArtifactPlaces {
                hosts: vec!["other".to_owned(), "x".to_owned()],
                ..ArtifactPlaces::default()
            },
        };
        let found = Proxied::parse(from, uri)?;
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
            assert_eq!(place(uri).unwrap(), Some(expected), "{uri}");
        }
        for uri in ["s3://b/a", "file:///a", "/a", "https://x/a", "dbfs:/a"] {
            assert_eq!(place(uri).unwrap(), None, "{uri}");
        }
        assert!(place("mlflow-artifacts://a b/c").is_err());
        for uri in [
            "mlflow-artifacts://evil:5000/1",
            "https://evil/api/2.0/mlflow-artifacts/artifacts/1",
        ] {
            let error = place(uri).unwrap_err().to_string();
            assert!(error.contains("`registry.artifact_hosts`"), "{error}");
        }
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
    fn the_place_of_a_part_is_read() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes */10", None),
            ("5-9", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            assert_eq!(content_range(&headers), expected, "{text}");
        }
    }

    #[test]
    fn only_what_certainly_changes_with_the_content_is_a_tag() {
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        for (fields, expected) in [
            (&[(ETAG, "\"a\"")][..], Some("\"a\"")),
            (&[(ETAG, "W/\"a\"")], None),
            (&[(LAST_MODIFIED, date)], None),
            (&[(LAST_MODIFIED, date), (DATE, date)], None),
            (
                &[
                    (LAST_MODIFIED, date),
                    (DATE, "Wed, 21 Oct 2026 07:29:00 GMT"),
                ],
                Some(date),
            ),
            (&[], None),
        ] {
            let fields = fields.iter().cloned();
            let headers = fields.map(|(name, value)| (name, value.parse().unwrap()));
            assert_eq!(tag(&headers.collect()).as_deref(), expected);
        }
    }
}
