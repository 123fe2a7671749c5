//! Files of a package from somewhere else to a directory: resumed, bounded, never outside of it, and never of two states
//! of the other side.
//!
//! What an attempt leaves is continued only when it is certain that the other side still has the same content: each file
//! on its way is kept along with its tag, what changes there with the content. Without one it is fetched anew.

mod resume;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use self::resume::Tags;
use super::SourceError;
use crate::model::{Manifest, PackageError};
use crate::registry::cache::blocking;
use crate::runtime::machine;

/// Files that are fetched at the same time.
const CONCURRENT: usize = 4;

/// More is no package but a wrong place.
const MOST_FILES: usize = 10_000;

/// The same, 256 GiB.
const MOST_BYTES: u64 = 256 << 30;

/// Attempts at one file whose connection breaks, and the wait before the second one.
const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Says of what kind a package is.
const MANIFEST: &str = "MLmodel";

/// One file, as the other side lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Where in the package, with `/` between the parts.
    pub(crate) path: String,
    /// Its length, where known.
    pub(crate) size: Option<u64>,
    /// Changes with its content, where the list has one.
    pub(crate) tag: Option<String>,
}

/// The part of a file that is here already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its length, less than that of the file.
    pub(crate) length: u64,
    /// The tag of the content that it is of.
    pub(crate) tag: String,
}

/// The bytes of a file.
pub(crate) struct Opened {
    /// Where they begin: after the part, or 0.
    pub(crate) offset: u64,
    /// The tag of the content, where the response has one.
    pub(crate) tag: Option<String>,
    /// The bytes up to the end.
    pub(crate) bytes: BoxStream<'static, Result<Bytes, TransferError>>,
}

/// Why the bytes of a file end too early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// In the words of the transport.
    #[error("{0}")]
    Transport(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it changed while it was read")]
    Changed,
}

/// Where files come from.
#[async_trait]
pub(crate) trait Remote: Send + Sync {
    /// Its address for messages, without secrets.
    fn address(&self) -> &str;

    /// The longest time without a byte.
    fn patience(&self) -> Duration;

    /// Reads `file`: what follows `part` when it is certain that the content is still that of its tag, else all of it.
    async fn open(&self, file: &RemoteFile, part: Option<&Part>) -> Result<Opened, SourceError>;
}

/// Writes `files` below `directory`. What an earlier attempt left there is kept as far as it is of the same content.
///
/// # Errors
/// [`SourceError`]; [`SourceError::Package`] when the manifest, which is fetched first, says that it is a model of
/// another kind.
pub(crate) async fn download(
    remote: &dyn Remote,
    files: Vec<RemoteFile>,
    directory: &Path,
) -> Result<(), SourceError> {
    let mut plan = plan(remote.address(), files, directory)?;
    require_space(&plan, directory)?;
    let tags = &Tags::open(directory).await?;
    let manifest = plan.iter().position(|(file, _)| file.path == MANIFEST);
    if let Some(at) = manifest {
        let (file, target) = plan.swap_remove(at);
        Transfer {
            remote,
            file: &file,
            target: &target,
            tags,
        }
        .run()
        .await?;
        refuse_foreign(target).await?;
    }
    let fetched: Result<(), SourceError> = stream::iter(plan)
        .map(|(file, target)| async move {
            Transfer {
                remote,
                file: &file,
                target: &target,
                tags,
            }
            .run()
            .await
        })
        .buffer_unordered(CONCURRENT)
        .try_collect()
        .await;
    fetched?;
    tags.remove().await
}

/// A model of another kind is not fetched whole only to be refused.
async fn refuse_foreign(manifest: PathBuf) -> Result<(), SourceError> {
    let Err(error) = blocking(move || Ok(Manifest::read(&manifest))).await? else {
        return Ok(());
    };
    let error = PackageError::from(error);
    // Other mistakes are reported once it is complete.
    if error.is_foreign() {
        return Err(SourceError::Package(Box::new(error)));
    }
    Ok(())
}

/// Whether the disk has room for all that is to come.
fn require_space(plan: &[(RemoteFile, PathBuf)], directory: &Path) -> Result<(), SourceError> {
    let missing = plan.iter().map(|(file, target)| {
        let here = std::fs::symlink_metadata(target).map_or(0, |metadata| metadata.len());
        file.size.unwrap_or(0).saturating_sub(here)
    });
    let missing = missing.fold(0, u64::saturating_add);
    let Some(free) = machine::free_space(directory) else {
        return Ok(());
    };
    if missing <= free {
        return Ok(());
    }
    let reason = format!(
        "the package needs {} more, and the disk has {} free",
        bytesize::ByteSize(missing),
        bytesize::ByteSize(free)
    );
    Err(SourceError::Io {
        path: directory.to_owned(),
        error: std::io::Error::new(std::io::ErrorKind::StorageFull, reason),
    })
}

/// Each file with where it is written.
fn plan(
    address: &str,
    files: Vec<RemoteFile>,
    directory: &Path,
) -> Result<Vec<(RemoteFile, PathBuf)>, SourceError> {
    let malformed = |reason: String| SourceError::Malformed {
        registry: address.to_owned(),
        reason,
    };
    if files.len() > MOST_FILES {
        let count = files.len();
        return Err(malformed(format!(
            "the package lists {count} files, expected at most {MOST_FILES}"
        )));
    }
    let sizes = files.iter().filter_map(|file| file.size);
    let total = sizes.fold(0, u64::saturating_add);
    if total > MOST_BYTES {
        return Err(malformed(format!(
            "the package lists files of {total} bytes, expected at most {MOST_BYTES}"
        )));
    }
    let mut seen = BTreeSet::new();
    let place = |file: RemoteFile| {
        if !is_confined(&file.path) || resume::is_ours(&file.path) {
            let path = file.path.escape_debug();
            return Err(malformed(format!(
                "the package lists the file `{path}`, expected a path inside of the package"
            )));
        }
        if !seen.insert(file.path.clone()) {
            let path = &file.path;
            return Err(malformed(format!("the package lists `{path}` twice")));
        }
        let target = directory.join(&file.path);
        Ok((file, target))
    };
    files.into_iter().map(place).collect()
}

/// Whether a path with `/` between its parts stays below wherever it is put, on every system.
fn is_confined(path: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(plain)
        && !path.contains(['\\', '\0'])
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// One file on its way.
#[derive(Clone, Copy)]
struct Transfer<'d> {
    remote: &'d dyn Remote,
    file: &'d RemoteFile,
    /// Where it is written.
    target: &'d Path,
    tags: &'d Tags,
}

impl Transfer<'_> {
    /// Fetches a file. A connection that breaks is tried again at once: what has no tag would begin anew at the next attempt
    /// at the package, with all that was complete.
    async fn run(self) -> Result<(), SourceError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            match self.attempt().await {
                Err(SourceError::Unreachable { reason, .. }) => {
                    tracing::debug!(file = self.file.path, reason, "trying once more");
                }
                ended => return ended,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        self.attempt().await
    }

    async fn attempt(self) -> Result<(), SourceError> {
        let Self {
            remote,
            file,
            target,
            tags,
        } = self;
        if let Some(parent) = target.parent() {
            make_directories(parent).await?;
        }
        let present = present(target).await?;
        if file.size == Some(0) {
            let made = create(target).await;
            return made.map(drop).map_err(SourceError::io(target));
        }
        let part = match tags.get(&file.path).await {
            // The list says that it is another content by now.
            Some(tag) if file.tag.as_ref().is_some_and(|listed| *listed != tag) => None,
            Some(tag) => Some(tag),
            None => None,
        };
        let part = match (part, file.size) {
            (Some(_), Some(size)) if present == size && file.tag.is_some() => return Ok(()),
            // The last byte is fetched once more, to see whether the content is still the same.
            (Some(tag), Some(size)) if present == size => Some(Part {
                length: size - 1,
                tag,
            }),
            (Some(tag), Some(size)) if present < size => Some(Part {
                length: present,
                tag,
            }),
            _ => None,
        };
        let part = part.filter(|part| part.length > 0);
        let opened =
            tokio::time::timeout(remote.patience(), remote.open(file, part.as_ref())).await;
        let opened = opened.map_err(|_| silent(remote, file))??;
        let written = self.write(opened, part).await?;
        match file.size {
            Some(size) if size != written => Err(SourceError::Malformed {
                registry: remote.address().to_owned(),
                reason: format!(
                    "`{}` has {written} bytes, expected {size} as listed",
                    file.path
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The file to write to, at the place where the bytes begin.
    async fn output(
        self,
        offset: u64,
        tag: Option<&String>,
        part: Option<Part>,
    ) -> Result<File, SourceError> {
        let Self {
            file, target, tags, ..
        } = self;
        let io = || SourceError::io(target);
        match (offset, part) {
            (0, _) => {
                // The old tag must not outlive the old content.
                tags.forget(&file.path).await?;
                let output = create(target).await.map_err(io())?;
                if let Some(tag) = tag.or(file.tag.as_ref()) {
                    tags.keep(&file.path, tag).await?;
                }
                Ok(output)
            }
            (offset, Some(part)) if offset == part.length => {
                let output = OpenOptions::new().append(true).open(target).await;
                let output = output.map_err(io())?;
                output.set_len(offset).await.map_err(io())?;
                Ok(output)
            }
            (offset, _) => Err(SourceError::Malformed {
                registry: self.remote.address().to_owned(),
                reason: format!(
                    "`{}`: bytes from {offset} on, which nobody asked for",
                    file.path
                ),
            }),
        }
    }

    /// The length of the file in the end.
    async fn write(self, opened: Opened, part: Option<Part>) -> Result<u64, SourceError> {
        let Self { remote, file, .. } = self;
        let io = || SourceError::io(self.target);
        let mut output = self
            .output(opened.offset, opened.tag.as_ref(), part)
            .await?;
        let (mut length, mut bytes) = (opened.offset, opened.bytes);
        let most = file.size.unwrap_or(MOST_BYTES);
        let end = loop {
            let next = tokio::time::timeout(remote.patience(), bytes.next()).await;
            match next {
                Err(_) => break Err(silent(remote, file)),
                Ok(None) => break Ok(length),
                Ok(Some(Err(error))) => break Err(unreachable(remote, file, &error.to_string())),
                Ok(Some(Ok(chunk))) => {
                    length = length.saturating_add(chunk.len() as u64);
                    if length > most {
                        break Ok(length);
                    }
                    let written = output.write_all(&chunk).await;
                    written.map_err(io())?;
                }
            }
        };
        // Also after an error: what has come is where the next attempt begins.
        output.flush().await.map_err(io())?;
        end
    }
}

/// The length of what is there. A link is never ours: following it could write anywhere.
async fn present(target: &Path) -> Result<u64, SourceError> {
    match fs::symlink_metadata(target).await {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(metadata) if !metadata.is_dir() => {
            let removed = fs::remove_file(target).await;
            removed.map(|()| 0).map_err(SourceError::io(target))
        }
        _ => Ok(0),
    }
}

/// Makes a directory that only its owner can look into, with those above it.
async fn make_directories(path: &Path) -> Result<(), SourceError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(path).await.map_err(SourceError::io(path))
}

/// A new file that only its owner can read.
async fn create(target: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(target).await
}

fn silent(remote: &dyn Remote, file: &RemoteFile) -> SourceError {
    let patience = humantime::format_duration(remote.patience());
    unreachable(remote, file, &format!("no bytes for {patience}"))
}

fn unreachable(remote: &dyn Remote, file: &RemoteFile, reason: &str) -> SourceError {
    SourceError::Unreachable {
        registry: remote.address().to_owned(),
        reason: format!("fetching `{}`: {reason}", file.path),
    }
}

#[cfg(test)]
mod tests;
