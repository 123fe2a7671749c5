//! Packages in directories of this machine.
//!
//! Only regular files below the directories that are allowed: whoever can write there must not make this process read
//! other files by a link, or wait for a pipe or a device.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::SourceError;
use super::download::{Opened, Part, Remote, RemoteFile, TransferError, download};
use super::places::LOCAL_KEY;
use crate::registry::cache::blocking;

/// Reading that takes longer is no reading.
const PATIENCE: Duration = Duration::from_secs(60);

/// Entries and folders inside each other of one package.
const MOST_ENTRIES: usize = 100_000;
const MOST_DEPTH: usize = 64;

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// Copies the package at `from` into `directory`. The place and its files, links followed, must be below one of
/// `allowed`, which have no links themselves; when there is none, the files below the place.
///
/// # Errors
/// [`SourceError::NotFound`] when nothing is there, [`SourceError::Invalid`] for what may not be read.
pub(crate) async fn fetch(
    from: &Path,
    allowed: &[PathBuf],
    directory: &Path,
) -> Result<(), SourceError> {
    let address = from.display().to_string();
    let root = from.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => SourceError::NotFound(format!("`{address}` does not exist")),
        _ => SourceError::io(from)(error),
    })?;
    let allowed = match allowed {
        [] => vec![root.clone()],
        allowed => allowed.to_vec(),
    };
    refuse_outside(from, &allowed)?;
    let files = LocalFiles {
        address,
        root,
        allowed,
    };
    let listed = files.list()?;
    download(&files, listed, directory).await
}

/// The text of a small file; `None` when it is not there.
///
/// # Errors
/// When it is no regular file below one of `allowed`, larger than `longest`, no UTF-8, or cannot be read.
pub(super) fn small(
    path: &Path,
    allowed: &[PathBuf],
    longest: u64,
) -> Result<Option<String>, SourceError> {
    let file = match open(path, allowed) {
        Ok(file) => file,
        Err(SourceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let read = file.take(longest + 1).read_to_end(&mut bytes);
    read.map_err(SourceError::io(path))?;
    if bytes.len() as u64 > longest {
        return Err(invalid(path, &format!("it has more than {longest} bytes")));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| invalid(path, "it is not UTF-8"))
}

struct LocalFiles {
    address: String,
    root: PathBuf,
    allowed: Vec<PathBuf>,
}

impl LocalFiles {
    fn list(&self) -> Result<Vec<RemoteFile>, SourceError> {
        let mut walk = Walk {
            files: self,
            listed: Vec::new(),
            entries: 0,
        };
        walk.directory(&self.root, "", 0)?;
        if walk.listed.is_empty() {
            return Err(SourceError::NotFound(format!(
                "`{}` holds no files",
                self.address
            )));
        }
        Ok(walk.listed)
    }
}

struct Walk<'a> {
    files: &'a LocalFiles,
    listed: Vec<RemoteFile>,
    entries: usize,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, relative: &str, depth: usize) -> Result<(), SourceError> {
        if depth > MOST_DEPTH {
            return Err(invalid(
                path,
                &format!("more than {MOST_DEPTH} folders inside each other"),
            ));
        }
        for entry in fs::read_dir(path).map_err(SourceError::io(path))? {
            let entry = entry.map_err(SourceError::io(path))?;
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(invalid(path, &format!("more than {MOST_ENTRIES} entries")));
            }
            let (path, name) = (entry.path(), entry.file_name());
            let name = name
                .to_str()
                .ok_or_else(|| invalid(&path, "its name is not UTF-8"))?;
            if is_unfinished(name) {
                continue;
            }
            let relative = match relative {
                "" => name.to_owned(),
                above => format!("{above}/{name}"),
            };
            self.entry(&path, relative, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, relative: String, depth: usize) -> Result<(), SourceError> {
        refuse_outside(path, &self.files.allowed)?;
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // Gone meanwhile, or a link to nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(SourceError::io(path)(error)),
        };
        if metadata.is_dir() {
            return self.directory(path, &relative, depth + 1);
        }
        refuse_special(path, &metadata)?;
        self.listed.push(RemoteFile {
            path: relative,
            size: Some(metadata.len()),
            tag: Some(tag(&metadata)),
        });
        Ok(())
    }
}

/// What a writer of a registry calls a file until it is complete.
pub(super) fn is_unfinished(name: &str) -> bool {
    let suffix = name.split_once('#').map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()))
}

#[async_trait]
impl Remote for LocalFiles {
    fn address(&self) -> &str {
        &self.address
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    async fn open(&self, file: &RemoteFile, part: Option<&Part>) -> Result<Opened, SourceError> {
        let path = self.root.join(&file.path);
        let (opening, allowed) = (path.clone(), self.allowed.clone());
        let opened = blocking(move || open(&opening, &allowed)).await?;
        let found = tag(&opened.metadata().map_err(SourceError::io(&path))?);
        if file.tag.as_ref().is_some_and(|listed| *listed != found) {
            return Err(self.changed(file));
        }
        let offset = part
            .filter(|part| part.tag == found)
            .map_or(0, |part| part.length);
        let mut opened = tokio::fs::File::from_std(opened);
        let sought = opened.seek(io::SeekFrom::Start(offset)).await;
        sought.map_err(SourceError::io(&path))?;
        Ok(Opened {
            offset,
            tag: Some(found.clone()),
            bytes: chunks(opened, found).boxed(),
        })
    }
}

impl LocalFiles {
    fn changed(&self, file: &RemoteFile) -> SourceError {
        SourceError::Malformed {
            registry: self.address.clone(),
            reason: format!("`{}` changed while it was fetched", file.path),
        }
    }
}

/// The rest of a file; an error when it is not the same at its end.
fn chunks(
    file: tokio::fs::File,
    tag_before: String,
) -> impl futures_util::Stream<Item = Result<Bytes, TransferError>> {
    stream::try_unfold(Some(file), move |file| {
        let before = tag_before.clone();
        async move {
            let Some(mut file) = file else {
                return Ok(None);
            };
            let mut buffer = vec![0; CHUNK];
            let read = file.read(&mut buffer).await?;
            if read > 0 {
                buffer.truncate(read);
                return Ok(Some((Bytes::from(buffer), Some(file))));
            }
            let after = file.metadata().await?;
            if tag(&after) != before {
                return Err(TransferError::Changed);
            }
            Ok(None)
        }
    })
}

/// Opens a regular file below one of `allowed`, without blocking on pipes.
fn open(path: &Path, allowed: &[PathBuf]) -> Result<fs::File, SourceError> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Else a pipe would be waited for until somebody writes to it.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) => {
            // A socket, say.
            let metadata = fs::metadata(path).map_err(SourceError::io(path))?;
            refuse_special(path, &metadata)?;
            return Err(SourceError::io(path)(error));
        }
    };
    let metadata = file.metadata().map_err(SourceError::io(path))?;
    refuse_special(path, &metadata)?;
    let real = refuse_outside(path, allowed)?;
    // What was opened is what was looked at: a link may have come meanwhile.
    let looked_at = fs::metadata(&real).map_err(SourceError::io(path))?;
    if is_same_file(&metadata, &looked_at) {
        Ok(file)
    } else {
        Err(invalid(path, "it was replaced while it was opened"))
    }
}

/// The path without links, when it is below one of `allowed`. What does not exist leads nowhere.
pub(super) fn refuse_outside(path: &Path, allowed: &[PathBuf]) -> Result<PathBuf, SourceError> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path.to_owned()),
        Err(error) => return Err(SourceError::io(path)(error)),
    };
    if allowed.iter().any(|root| real.starts_with(root)) {
        return Ok(real);
    }
    let reason = format!(
        "`{}`: it leads out of the registry, expected the files themselves; `{LOCAL_KEY}` lists directories that links may \
         lead to",
        path.display()
    );
    let key = LOCAL_KEY;
    Err(SourceError::Place { key, reason })
}

fn refuse_special(path: &Path, metadata: &Metadata) -> Result<(), SourceError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(invalid(
        path,
        "it is a pipe, a device or a folder, expected a regular file",
    ))
}

fn invalid(path: &Path, what: &str) -> SourceError {
    SourceError::Invalid(format!("`{}`: {what}", path.display()))
}

/// Changes with the content.
fn tag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified = modified.unwrap_or_default().as_nanos();
    format!(
        "{:x}-{modified:x}-{:x}",
        identity(metadata).1,
        metadata.len()
    )
}

fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    identity(one) == identity(other)
}

/// Device and number of a file.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(test)]
mod tests;
