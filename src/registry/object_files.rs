//! Packages below a URL of an object store.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use url::Url;

use super::download::{Opened, Part, Remote, RemoteFile, TransferError, download};
use super::object_url::without_secrets;
use super::{ObjectAccess, SourceError, local_files};

const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches everything below `url` into `directory`. A `file:` URL is the caller's own choice: what a registry names goes
/// through [`ArtifactPlaces`](super::ArtifactPlaces) first.
///
/// # Errors
/// [`SourceError::NotFound`] when nothing is there.
pub async fn fetch(
    access: &ObjectAccess,
    url: &Url,
    directory: &FilePath,
) -> Result<(), SourceError> {
    if url.scheme() == "file" {
        let path = url
            .to_file_path()
            .map_err(|()| SourceError::Invalid(format!("`{url}` is no path of this machine")))?;
        return local_files::fetch(&path, &[], directory).await;
    }
    let (store, prefix) = access.open(url)?;
    let files = ObjectFiles {
        address: without_secrets(url),
        store,
        prefix,
    };
    let listed = files.list().await?;
    download(&files, listed, directory).await
}

/// The place in a store where the files of one package are.
struct ObjectFiles {
    address: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl ObjectFiles {
    async fn list(&self) -> Result<Vec<RemoteFile>, SourceError> {
        let listing = self.store.list(Some(&self.prefix)).try_collect();
        let listed: Vec<_> = tokio::time::timeout(PATIENCE, listing)
            .await
            .map_err(|_| SourceError::Unreachable {
                registry: self.address.clone(),
                reason: "no list of files in time".to_owned(),
            })?
            .map_err(|error| store_error(&self.address, error))?;
        let file = |meta: ObjectMeta| {
            let parts = meta.location.prefix_match(&self.prefix)?;
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            (!parts.is_empty()).then(|| RemoteFile {
                path: parts.join("/"),
                size: Some(meta.size),
                tag: tag(&meta),
            })
        };
        let files: Vec<_> = listed.into_iter().filter_map(file).collect();
        // Some tools keep an empty object where a directory is meant.
        let is_marker = |marker: &RemoteFile| {
            marker.size == Some(0)
                && files.iter().any(|file| {
                    let rest = file.path.strip_prefix(&marker.path);
                    rest.is_some_and(|rest| rest.starts_with('/'))
                })
        };
        let files: Vec<_> = files
            .iter()
            .filter(|file| !is_marker(file))
            .cloned()
            .collect();
        if files.is_empty() {
            return Err(SourceError::NotFound(format!(
                "`{}` holds no files",
                self.address
            )));
        }
        Ok(files)
    }
}

#[async_trait]
impl Remote for ObjectFiles {
    fn address(&self) -> &str {
        &self.address
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    async fn open(&self, file: &RemoteFile, part: Option<&Part>) -> Result<Opened, SourceError> {
        let failed = |error| store_error(&self.address, error);
        let path = file
            .path
            .split('/')
            .fold(self.prefix.clone(), |path, part| {
                // As it was listed: it must not be encoded once more.
                let part = object_store::path::PathPart::parse(part);
                part.map_or(path.clone(), |part| path.join(part))
            });
        let get = async |part: Option<&Part>| {
            let options = GetOptions {
                range: part.map(|part| GetRange::Offset(part.length)),
                ..GetOptions::default()
            };
            self.store.get_opts(&path, options).await.map_err(failed)
        };
        let mut found = get(part).await?;
        if part.is_some_and(|part| tag(&found.meta).as_ref() != Some(&part.tag)) {
            found = get(None).await?;
        }
        let (offset, tag) = (found.range.start, tag(&found.meta));
        if let (Some(listed), Some(tag)) = (&file.tag, &tag)
            && listed != tag
        {
            return Err(SourceError::Malformed {
                registry: self.address.clone(),
                reason: format!("`{}` changed while it was fetched", file.path),
            });
        }
        let bytes = found.into_stream();
        let bytes = bytes.map_err(|error| TransferError::Transport(plain(&error)));
        let bytes = bytes.boxed();
        Ok(Opened { offset, tag, bytes })
    }
}

/// What changes with the content of an object, where the store has such a tag. Lists leave out the quotes in some.
fn tag(meta: &ObjectMeta) -> Option<String> {
    let tag = meta.e_tag.as_deref()?;
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    (!tag.is_empty()).then(|| tag.to_owned())
}

/// What a store's error means.
pub(crate) fn store_error(address: &str, error: object_store::Error) -> SourceError {
    use object_store::Error;
    let reason = plain(&error);
    let registry = address.to_owned();
    match &error {
        Error::NotFound { path, .. } => {
            SourceError::NotFound(format!("`{path}` is not in `{address}`"))
        }
        Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => {
            SourceError::Unauthenticated { registry, reason }
        }
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            SourceError::Unsupported(format!("`{address}`: {reason}"))
        }
        _ => match answer(&reason) {
            Some((401 | 403, reason)) => SourceError::Unauthenticated { registry, reason },
            Some((status, reason)) => SourceError::Status {
                registry,
                status,
                reason,
                retry_after: None,
            },
            None => SourceError::Unreachable {
                registry,
                reason: unanswered(reason, &error),
            },
        },
    }
}

/// The words of the transport, which a store's own words leave out.
fn unanswered(reason: String, error: &object_store::Error) -> String {
    let words = without_queries(&crate::network::words(error));
    if reason.contains(&words) {
        return reason;
    }
    format!("{reason}: {words}")
}

/// The status and the text of an error response; errors of lists and credentials hold them only as text.
fn answer(reason: &str) -> Option<(u16, String)> {
    let (_, answer) = reason.split_once("non-2xx status code: ")?;
    let (status, words) = answer.split_at_checked(3)?;
    let message = words.split_once("<Message>").map(|(_, rest)| rest);
    let message = message.and_then(|rest| rest.split_once("</Message>"));
    let words = message.map_or(words, |(message, _)| message);
    Some((status.parse().ok()?, words.trim().to_owned()))
}

/// An error's words on one line, without the queries of URLs, which may be keys.
fn plain(error: &object_store::Error) -> String {
    without_queries(&error.to_string())
}

fn without_queries(words: &str) -> String {
    let word = |word: &str| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => format!("{url}?…"),
        _ => word.to_owned(),
    };
    words
        .split_whitespace()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_store_that_cannot_be_reached() {
        let of = |words: &str| {
            let source = words.to_owned().into();
            store_error(
                "s3://a",
                object_store::Error::Generic { store: "x", source },
            )
        };
        let list = "Error performing list request: Error performing GET http://a in 1ms - Server returned non-2xx status code";
        let error = of(&format!(
            "{list}: 403 Forbidden: <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        ));
        assert!(
            matches!(error, SourceError::Unauthenticated { .. }),
            "{error:?}"
        );
        assert!(error.to_string().ends_with(": Access Denied"), "{error}");
        let error = of(&format!("{list}: 503 Slow Down: later"));
        assert!(
            matches!(error, SourceError::Status { status: 503, .. }),
            "{error:?}"
        );
        assert!(error.is_transient());
        for words in [
            "error sending request",
            "non-2xx status code: ",
            "non-2xx status code: x€",
        ] {
            let error = of(words);
            assert!(
                matches!(error, SourceError::Unreachable { .. }),
                "{error:?}"
            );
        }
    }

    #[test]
    fn queries_of_urls_are_not_shown() {
        let error = object_store::Error::Generic {
            store: "x",
            source: "GET https://a.b/c?sig=s3cret failed".into(),
        };
        let error = store_error("az://a", error).to_string();
        assert!(
            error.contains("https://a.b/c?…") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
