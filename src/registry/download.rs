//! Files of a package from somewhere else to a directory: resumed, bounded, and never outside of it.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::SourceError;

/// Files that are fetched at the same time.
const CONCURRENT: usize = 4;

/// More is no package but a wrong place.
const MOST_FILES: usize = 10_000;

/// The same, 256 GiB.
const MOST_BYTES: u64 = 256 << 30;

/// One file, as the other side lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Where in the package, with `/` between the parts.
    pub(crate) path: String,
    /// Its length, where known.
    pub(crate) size: Option<u64>,
}

/// The bytes of a file.
pub(crate) struct Opened {
    /// Where they begin: what was asked for, or 0 where the other side cannot skip.
    pub(crate) offset: u64,
    /// The bytes up to the end; an error is the transport's words.
    pub(crate) bytes: BoxStream<'static, Result<Bytes, String>>,
}

/// Where files come from.
#[async_trait]
pub(crate) trait Remote: Send + Sync {
    /// Its address for messages, without secrets.
    fn address(&self) -> &str;

    /// The longest time without a byte.
    fn patience(&self) -> Duration;

    /// Reads `file` from `offset` on, which is less than its size.
    async fn open(&self, file: &RemoteFile, offset: u64) -> Result<Opened, SourceError>;
}

/// Writes `files` below `directory`. Those that are there with the right size are kept, shorter ones are continued.
pub(crate) async fn download(
    remote: &dyn Remote,
    files: Vec<RemoteFile>,
    directory: &Path,
) -> Result<(), SourceError> {
    let plan = plan(remote.address(), files, directory)?;
    stream::iter(plan)
        .map(|(file, target)| async move { one(remote, &file, &target).await })
        .buffer_unordered(CONCURRENT)
        .try_collect()
        .await
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
        if !is_confined(&file.path) {
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

async fn one(remote: &dyn Remote, file: &RemoteFile, target: &Path) -> Result<(), SourceError> {
    if let Some(parent) = target.parent() {
        let made = fs::create_dir_all(parent).await;
        made.map_err(SourceError::io(parent))?;
    }
    // A link is never ours: following it could write anywhere.
    let present = match fs::symlink_metadata(target).await {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(metadata) if metadata.is_symlink() => {
            let removed = fs::remove_file(target).await;
            removed.map_err(SourceError::io(target))?;
            0
        }
        _ => 0,
    };
    let offset = match file.size {
        Some(0) => {
            let made = File::create(target).await;
            return made.map(drop).map_err(SourceError::io(target));
        }
        Some(size) if present == size => return Ok(()),
        Some(size) if present < size => present,
        _ => 0,
    };
    let opened = tokio::time::timeout(remote.patience(), remote.open(file, offset)).await;
    let opened = opened.map_err(|_| silent(remote, file))??;
    let written = write(remote, file, target, opened).await?;
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

/// The length of the file in the end.
async fn write(
    remote: &dyn Remote,
    file: &RemoteFile,
    target: &Path,
    opened: Opened,
) -> Result<u64, SourceError> {
    let mut options = OpenOptions::new();
    match opened.offset {
        0 => options.write(true).create(true).truncate(true),
        _ => options.append(true),
    };
    let mut output = options
        .open(target)
        .await
        .map_err(SourceError::io(target))?;
    let (mut length, mut bytes) = (opened.offset, opened.bytes);
    let most = file.size.unwrap_or(MOST_BYTES);
    let end = loop {
        let next = tokio::time::timeout(remote.patience(), bytes.next()).await;
        match next {
            Err(_) => break Err(silent(remote, file)),
            Ok(None) => break Ok(length),
            Ok(Some(Err(reason))) => break Err(unreachable(remote, file, &reason)),
            Ok(Some(Ok(chunk))) => {
                length = length.saturating_add(chunk.len() as u64);
                if length > most {
                    break Ok(length);
                }
                let written = output.write_all(&chunk).await;
                written.map_err(SourceError::io(target))?;
            }
        }
    };
    // Also after an error: what has come is where the next attempt begins.
    output.flush().await.map_err(SourceError::io(target))?;
    end
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
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Gives `content` from the offset on, cut after `cut` bytes.
    struct Fake {
        content: &'static [u8],
        cut: Option<usize>,
        skips: bool,
        offsets: Mutex<Vec<u64>>,
    }

    fn fake(content: &'static [u8]) -> Fake {
        Fake {
            content,
            cut: None,
            skips: true,
            offsets: Mutex::default(),
        }
    }

    #[async_trait]
    impl Remote for Fake {
        fn address(&self) -> &str {
            "fake"
        }

        fn patience(&self) -> Duration {
            Duration::from_secs(5)
        }

        async fn open(&self, file: &RemoteFile, offset: u64) -> Result<Opened, SourceError> {
            self.offsets.lock().push(offset);
            if file.path == "silent" {
                let bytes = stream::pending().boxed();
                return Ok(Opened { offset, bytes });
            }
            let offset = if self.skips { offset } else { 0 };
            let mut bytes: Vec<Result<Bytes, String>> = self.content[offset as usize..]
                .chunks(2)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect();
            if let Some(cut) = self.cut {
                bytes.truncate(cut);
                bytes.push(Err("cut".to_owned()));
            }
            let bytes = stream::iter(bytes).boxed();
            Ok(Opened { offset, bytes })
        }
    }

    fn file(path: &str, size: Option<u64>) -> RemoteFile {
        let path = path.to_owned();
        RemoteFile { path, size }
    }

    #[tokio::test]
    async fn a_cut_file_is_continued_where_it_ended_or_anew() {
        for skips in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let files = || vec![file("deep/a", Some(7)), file("empty", Some(0))];
            let cut = Fake {
                cut: Some(2),
                ..fake(b"abcdefg")
            };
            let error = download(&cut, files(), directory.path()).await.unwrap_err();
            assert!(error.to_string().contains("`deep/a`: cut"), "{error}");
            let whole = Fake {
                skips,
                ..fake(b"abcdefg")
            };
            download(&whole, files(), directory.path()).await.unwrap();
            download(&whole, files(), directory.path()).await.unwrap();
            assert_eq!(*whole.offsets.lock(), [4]);
            let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
            assert_eq!(read("deep/a"), b"abcdefg");
            assert_eq!(read("empty"), b"");
        }
    }

    #[tokio::test]
    async fn a_file_of_another_size_is_refused_and_fetched_anew() {
        let directory = tempfile::tempdir().unwrap();
        for (size, found) in [(5, 6), (9, 7)] {
            let remote = fake(b"abcdefg");
            let result = download(&remote, vec![file("a", Some(size))], directory.path());
            let error = result.await.unwrap_err();
            let expected = format!("`a` has {found} bytes, expected {size}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        std::fs::write(directory.path().join("a"), "too long by far").unwrap();
        let files = vec![file("a", Some(7))];
        download(&fake(b"abcdefg"), files, directory.path())
            .await
            .unwrap();
        let unknown = vec![file("b", None)];
        download(&fake(b"abcdefg"), unknown, directory.path())
            .await
            .unwrap();
        for name in ["a", "b"] {
            assert_eq!(
                std::fs::read(directory.path().join(name)).unwrap(),
                b"abcdefg"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_with_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let files = vec![file("silent", Some(7))];
        let error = download(&fake(b""), files, directory.path())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no bytes for 5s"), "{error}");
        assert!(error.is_transient());
    }

    #[tokio::test]
    async fn paths_outside_of_the_package_and_absurd_lists_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for path in [
            "../a", "/a", "a/../b", "", "a//b", "./a", "a\\b", "a\0", "..",
        ] {
            let remote = fake(b"x");
            let result = download(&remote, vec![file(path, None)], directory.path());
            let error = result.await.unwrap_err();
            assert!(
                error.to_string().contains("inside of the package"),
                "{path}"
            );
        }
        let many = (0..=MOST_FILES)
            .map(|i| file(&i.to_string(), None))
            .collect();
        for files in [
            many,
            vec![file("a", Some(u64::MAX)), file("b", Some(1))],
            vec![file("a", None), file("a", None)],
        ] {
            assert!(
                download(&fake(b"x"), files, directory.path())
                    .await
                    .is_err()
            );
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_in_the_way_is_replaced_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join("a")).unwrap();
        let files = vec![file("a", Some(1))];
        download(&fake(b"x"), files, directory.path())
            .await
            .unwrap();
        assert_eq!(std::fs::read(outside.path()).unwrap(), b"");
        assert_eq!(std::fs::read(directory.path().join("a")).unwrap(), b"x");
    }
}
