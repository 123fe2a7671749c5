//! Where files go: a directory, or a place in an object store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::{AsyncWriteExt as _, BufReader};
use url::Url;

use super::PayloadError;
use crate::registry::{ObjectAccess, SourceError, store_error, without_secrets};

/// What is read of a file at a time.
const CHUNK: usize = 1 << 20;

/// Files up to this size are sent in one piece, larger ones in pieces of it.
const PIECE: usize = 16 << 20;

/// The longest wait for one answer of a store, retries included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place for files, or one to read them from. Paths below it are relative, with slashes.
#[derive(Debug, Clone)]
pub struct Sink {
    address: String,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Directory(PathBuf),
    Store(Arc<dyn ObjectStore>, StorePath),
}

impl Sink {
    /// The place of a URI; nothing is sent yet.
    ///
    /// # Errors
    /// [`PayloadError::Place`], or what the store says of its settings.
    pub fn open(uri: &str, access: &ObjectAccess) -> Result<Self, PayloadError> {
        let invalid = |reason: &str| PayloadError::Place {
            uri: uri.to_owned(),
            reason: reason.to_owned(),
        };
        let url: Url = uri
            .parse()
            .map_err(|_| invalid("expected `file:///DIRECTORY`, `s3://…`, `gs://…` or `az://…`"))?;
        if url.scheme() == "file" {
            let path = url.to_file_path();
            let path = path.map_err(|()| invalid("it is no path of this machine"))?;
            return Ok(Self::directory(path));
        }
        let (store, prefix) = access.open(&url)?;
        Ok(Self {
            address: without_secrets(&url),
            place: Place::Store(store, prefix),
        })
    }

    /// A directory of this machine.
    pub fn directory(path: PathBuf) -> Self {
        Self {
            address: path.display().to_string(),
            place: Place::Directory(path),
        }
    }

    /// For messages, without secrets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts a local file at `path`, in place of what is there, and returns when it is safe.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub(super) async fn put(&self, path: &str, file: &Path) -> Result<(), PayloadError> {
        match &self.place {
            Place::Directory(root) => copy(file, &root.join(path)),
            Place::Store(store, prefix) => {
                let opened = tokio::fs::File::open(file)
                    .await
                    .map_err(PayloadError::io(file))?;
                let mut input = BufReader::with_capacity(CHUNK, opened);
                let target = below(prefix, path);
                let mut output = BufWriter::with_capacity(Arc::clone(store), target, PIECE);
                let sent = async {
                    tokio::io::copy_buf(&mut input, &mut output).await?;
                    output.shutdown().await
                };
                let sent = tokio::time::timeout(PATIENCE, sent).await;
                sent.map_err(|_| self.late())?
                    .map_err(|error| self.failed(file, error))
            }
        }
    }

    /// Every file below it, in the order of their paths.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub async fn list(&self) -> Result<Vec<String>, PayloadError> {
        let mut found = match &self.place {
            Place::Directory(root) => {
                let mut found = Vec::new();
                match walk(root, "", &mut found) {
                    // Nothing has been put there yet.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    walked => walked.map_err(PayloadError::io(root))?,
                }
                found
            }
            Place::Store(store, prefix) => {
                let listed = store.list(Some(prefix)).try_collect::<Vec<_>>();
                let listed = tokio::time::timeout(PATIENCE, listed).await;
                let listed = listed.map_err(|_| self.late())?;
                let listed = listed.map_err(|error| store_error(&self.address, error))?;
                let relative = listed.iter().filter_map(|meta| {
                    let parts = meta.location.prefix_match(prefix)?;
                    Some(
                        parts
                            .map(|part| part.as_ref().to_owned())
                            .collect::<Vec<_>>()
                            .join("/"),
                    )
                });
                relative.collect()
            }
        };
        found.sort();
        Ok(found)
    }

    /// A whole file.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub async fn get(&self, path: &str) -> Result<Bytes, PayloadError> {
        match &self.place {
            Place::Directory(root) => {
                let file = root.join(path);
                fs::read(&file)
                    .map(Bytes::from)
                    .map_err(PayloadError::io(&file))
            }
            Place::Store(store, prefix) => {
                let got = async { store.get(&below(prefix, path)).await?.bytes().await };
                let got = tokio::time::timeout(PATIENCE, got).await;
                let got = got.map_err(|_| self.late())?;
                Ok(got.map_err(|error| store_error(&self.address, error))?)
            }
        }
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub(super) async fn delete(&self, path: &str) -> Result<(), PayloadError> {
        match &self.place {
            Place::Directory(root) => {
                let file = root.join(path);
                match fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(PayloadError::io(&file)(error))
                    }
                    _ => Ok(()),
                }
            }
            Place::Store(store, prefix) => match store.delete(&below(prefix, path)).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(store_error(&self.address, error).into()),
            },
        }
    }

    fn late(&self) -> PayloadError {
        PayloadError::Store(SourceError::Unreachable {
            registry: self.address.clone(),
            reason: "no answer in time".to_owned(),
        })
    }

    fn failed(&self, file: &Path, error: io::Error) -> PayloadError {
        match error.downcast::<object_store::Error>() {
            Ok(error) => store_error(&self.address, error).into(),
            Err(error) => PayloadError::io(file)(error),
        }
    }
}

/// A place in a store, as it is written: `model=a%20b` is not encoded once more.
fn below(prefix: &StorePath, path: &str) -> StorePath {
    path.split('/').fold(prefix.clone(), |place, part| {
        let part = object_store::path::PathPart::parse(part);
        part.map_or(place.clone(), |part| place.join(part))
    })
}

/// Whoever reads the target sees all of it or nothing, also after the power fails.
fn copy(file: &Path, target: &Path) -> Result<(), PayloadError> {
    let directory = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(PayloadError::io(directory))?;
    let partial = target.with_extension("partial");
    let copied = fs::copy(file, &partial)
        .and_then(|_| File::open(&partial)?.sync_all())
        .and_then(|()| fs::rename(&partial, target))
        .and_then(|()| File::open(directory)?.sync_all());
    copied.map_err(|error| {
        let _ = fs::remove_file(&partial);
        PayloadError::io(target)(error)
    })
}

/// The files below a directory, by their paths in it.
pub(super) fn walk(directory: &Path, below: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
