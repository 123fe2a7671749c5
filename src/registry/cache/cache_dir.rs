//! The files of the cache: found and checked, admitted, swept. Blocking.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir};

use super::entries::{
    children, close_to_others, file_name, gone, is_abandoned, make_private, read, reference,
    remove, sync, temporary, touch,
};
use super::holder::Holder;
use super::known::KnownFile;
use super::past::unfinished;
use super::{CachedPackage, RepositoryConfig, digest_of, make_directories, open_lock};
use crate::model::{Content, PackageError, small_file};
use crate::registry::{LastKnown, Query, SourceError};
use crate::runtime::{machine, threads};
use crate::telemetry::Metrics;

/// The cache's directory.
#[derive(Debug)]
pub(crate) struct CacheDir {
    pub(super) root: PathBuf,
    /// Tells the things to remove of this process from those of others.
    id: String,
    /// A cache that can only be read, in which to look first.
    read_only_cache: Option<PathBuf>,
    outlives: bool,
    limit: u64,
    holder: Mutex<Holder>,
    pub(super) metrics: Arc<Metrics>,
    /// Removed last.
    _temporary: Option<TempDir>,
}

/// `packages/<digest>.json`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) bytes: u64,
}

/// `refs/<key>.json`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) digest: String,
}

const DIRECTORIES: [&str; 7] = [
    "packages",
    "refs",
    "downloads",
    "holders",
    "known",
    "served",
    "loads",
];

/// What was written down of a model that served, and not touched since, keeps its packages for this long.
pub(super) const STALE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A use of a package.
struct Use {
    cache_dir: Arc<CacheDir>,
    digest: String,
}

impl Drop for Use {
    fn drop(&mut self) {
        let released = self.cache_dir.locked(|holder| holder.remove(&self.digest));
        if let Err(error) = released {
            tracing::warn!(%error, "a package of the cache cannot be released before this process ends");
        }
    }
}

impl CacheDir {
    pub(crate) fn open(
        config: &RepositoryConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SourceError> {
        let wanted = config.directory.as_deref();
        let begun = wanted.map(|root| (root, prepare(root).and_then(|()| begin(root))));
        let (temporary, root, holder) = match begun {
            Some((root, Ok(holder))) => (None, root.to_owned(), holder),
            Some((root, Err(error))) if !root.is_dir() => return Err(error),
            unusable => {
                if let Some((_, Err(error))) = unusable {
                    tracing::warn!(%error, "the package cache cannot be written to: it is only read, and what is fetched is kept for as long as this process runs");
                }
                let temporary = temporary()?;
                prepare(temporary.path())?;
                let holder = begin(temporary.path())?;
                let root = temporary.path().to_owned();
                (Some(temporary), root, holder)
            }
        };
        let is_apart = temporary.is_some();
        let cache_dir = Self {
            id: holder.id(),
            root,
            read_only_cache: wanted.filter(|_| is_apart).map(Path::to_owned),
            outlives: temporary.is_none(),
            limit: config.limit,
            holder: Mutex::new(holder),
            metrics,
            _temporary: temporary,
        };
        cache_dir.sweep(cache_dir.limit)?;
        Ok(cache_dir)
    }

    pub(crate) fn download(&self, key: &str) -> PathBuf {
        self.root.join("downloads").join(key)
    }

    pub(crate) fn claim(&self, key: &str) -> PathBuf {
        self.root.join("downloads").join(format!("{key}.lock"))
    }

    pub(super) fn package(&self, digest: &str) -> PathBuf {
        self.root.join("packages").join(digest)
    }

    pub(super) fn entry(&self, digest: &str) -> PathBuf {
        self.root.join("packages").join(format!("{digest}.json"))
    }

    /// Ends a use that was added to the holder when it is dropped.
    fn lease(self: &Arc<Self>, digest: &str) -> Use {
        Use {
            cache_dir: Arc::clone(self),
            digest: digest.to_owned(),
        }
    }

    /// What a cache that can only be read has.
    pub(crate) fn find_in_read_only_cache(
        &self,
        key: &str,
    ) -> Result<Option<CachedPackage>, SourceError> {
        let Some(root) = &self.read_only_cache else {
            return Ok(None);
        };
        let Some(Reference { digest }) = read(&reference(root, key)) else {
            return Ok(None);
        };
        let directory = root.join("packages").join(&digest);
        Ok(is_whole(&directory, &digest).then_some(CachedPackage {
            directory,
            lease: Box::new(()),
            unfinished: unfinished(self, &digest),
            content: Some(digest),
        }))
    }

    /// The package, when it is complete and as it was when it was admitted.
    pub(crate) fn find(self: &Arc<Self>, key: &str) -> Result<Option<CachedPackage>, SourceError> {
        let Some(Reference { digest }) = read(&reference(&self.root, key)) else {
            return Ok(None);
        };
        let entry = self.entry(&digest);
        let complete = self.locked(|holder| {
            let complete = entry.is_file();
            if complete {
                holder.add(&digest)?;
                touch(&entry)?;
            }
            Ok(complete)
        })?;
        if !complete {
            return Ok(None);
        }
        let directory = self.package(&digest);
        let lease = self.lease(&digest);
        if is_whole(&directory, &digest) {
            return Ok(Some(CachedPackage {
                directory,
                lease: Box::new(lease),
                unfinished: unfinished(self, &digest),
                content: Some(digest),
            }));
        }
        tracing::warn!(path = %directory.display(), "a package in the cache was damaged; it is fetched again");
        drop(lease);
        let trash = self.trash();
        self.locked(|_| {
            gone(fs::remove_file(&entry))?;
            gone(fs::rename(&directory, &trash))
        })?;
        remove(&trash);
        Ok(None)
    }

    /// Takes what was fetched into the cache. It can be used at once; `claim` is let go when it is written down.
    pub(crate) fn admit(
        self: &Arc<Self>,
        key: &str,
        files: &Path,
        claim: File,
    ) -> Result<CachedPackage, SourceError> {
        let Content { digest, bytes } = match content(files) {
            Ok(content) => content,
            Err(error) => {
                tracing::debug!(%error, "not kept in the cache");
                return self.set_apart(files);
            }
        };
        let (directory, entry) = (self.package(&digest), self.entry(&digest));
        let old = self.trash();
        let known = self.locked(|holder| {
            let mut known = entry.is_file();
            if known && !directory.is_dir() {
                // The files were removed from outside.
                fs::remove_file(&entry)?;
                known = false;
            }
            if !known && directory.exists() {
                if holder.all_uses()?.contains(&digest) {
                    // Another version with the same content, about to be written down.
                    known = true;
                } else {
                    // A process ended before it had written it down: who knows what the disk has of it.
                    fs::rename(&directory, &old)?;
                }
            }
            if !known {
                fs::rename(files, &directory)?;
            }
            holder.add(&digest)?;
            Ok(known)
        })?;
        remove(&old);
        if known {
            remove(files);
        }
        let lease = self.lease(&digest);
        // The load may be cancelled at once: what is being written must not be swept away meanwhile.
        self.locked(|holder| holder.add(&digest))?;
        let written_down = self.lease(&digest);
        let held = CachedPackage {
            directory,
            lease: Box::new(lease),
            unfinished: unfinished(self, &digest),
            content: Some(digest.clone()),
        };
        let (cache_dir, key) = (Arc::clone(self), key.to_owned());
        let write_down = move || {
            machine::Priority::Background.take();
            let written = cache_dir.write_down(&key, &digest, bytes);
            drop(written_down);
            let kept = written.and_then(|()| cache_dir.sweep(cache_dir.limit));
            if let Err(error) = kept {
                tracing::warn!(%error, "a package was fetched and cannot be kept in the cache");
            }
            drop(claim);
        };
        // Waiting for the disk must not delay the swap.
        drop(threads::spawn("cache", write_down));
        Ok(held)
    }

    /// Makes an admitted package outlive this process.
    fn write_down(&self, key: &str, digest: &str, bytes: u64) -> Result<(), SourceError> {
        let (directory, entry) = (self.package(digest), self.entry(digest));
        let reference = reference(&self.root, key);
        if !entry.is_file() {
            sync(&directory).map_err(SourceError::io(&directory))?;
            self.write_json(&entry, &Entry { bytes })?;
        }
        let digest = digest.to_owned();
        self.write_json(&reference, &Reference { digest })
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), SourceError> {
        let text = serde_json::to_vec(value).map_err(io::Error::from);
        let written = text.and_then(|text| self.write_whole(path, &text));
        written.map_err(SourceError::io(path))
    }

    /// Writes a file that is there whole or not at all, also after a loss of power.
    pub(crate) fn write_whole(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let file = self.write_beside(text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    }

    /// Writes a file that is there whole or not at all, as long as the machine has power.
    pub(crate) fn write_unsynced(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        self.write_beside(text)?.persist(path)?;
        Ok(())
    }

    fn write_beside(&self, text: &[u8]) -> io::Result<NamedTempFile> {
        let prefix = format!("{TRASH}{}-", self.id);
        let temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .tempfile_in(self.root.join("downloads"));
        let mut file = temporary?;
        file.write_all(text)?;
        Ok(file)
    }

    /// Whether a process with a file of this name in `holders/` still lives.
    pub(crate) fn lives(&self, process: &str) -> bool {
        let path = self.root.join("holders").join(process);
        process == self.id
            || small_file::open(&path)
                .is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Whether a later process finds what is written, or this one what an earlier one wrote.
    pub(crate) fn remembers(&self) -> bool {
        self.outlives || self.read_only_cache.is_some()
    }

    /// The file for `key` in one of the directories.
    pub(crate) fn place(&self, directory: &str, key: &str) -> PathBuf {
        self.root.join(directory).join(format!("{key}.json"))
    }

    /// The files of one of the directories, also of the cache that can only be read, which come last.
    pub(crate) fn places(&self, directory: &str) -> Vec<PathBuf> {
        let roots = [Some(&self.root), self.read_only_cache.as_ref()];
        let roots = roots.into_iter().flatten();
        roots
            .flat_map(|root| children(&root.join(directory)).unwrap_or_default())
            .collect()
    }

    /// What cannot be kept is used once.
    fn set_apart(&self, files: &Path) -> Result<CachedPackage, SourceError> {
        let apart = self.trash();
        fs::rename(files, &apart).map_err(SourceError::io(files))?;
        Ok(CachedPackage {
            directory: apart.clone(),
            lease: Box::new(Apart(apart)),
            content: None,
            unfinished: 0,
        })
    }

    /// Forgets what a key stands for.
    pub(crate) fn forget(&self, key: &str) -> Result<(), SourceError> {
        remove(&self.download(key));
        let path = reference(&self.root, key);
        gone(fs::remove_file(&path)).map_err(SourceError::io(&path))
    }

    pub(crate) fn last_known(
        self: &Arc<Self>,
        address: &str,
        query: &Query,
    ) -> Option<Arc<dyn LastKnown>> {
        if !self.remembers() {
            return None;
        }
        let key = digest_of(&[address, &format!("{query:?}")]);
        let file = |root: &Path| root.join("known").join(format!("{key}.json"));
        Some(Arc::new(KnownFile {
            cache_dir: Arc::clone(self),
            path: file(&self.root),
            read_only_cache: self.read_only_cache.as_deref().map(file),
            last: Arc::default(),
        }))
    }

    /// Changes what is there, alone among all processes.
    pub(crate) fn locked<T>(
        &self,
        change: impl FnOnce(&mut Holder) -> io::Result<T>,
    ) -> Result<T, SourceError> {
        let mut holder = self.holder.lock();
        let changed = lock(&self.root).and_then(|_lock| change(&mut holder));
        changed.map_err(SourceError::io(&self.root))
    }

    pub(super) fn trash(&self) -> PathBuf {
        let name = format!("{TRASH}{}-{}", self.id, uuid::Uuid::new_v4().simple());
        self.root.join("downloads").join(name)
    }
}

/// What a directory for things to remove is called.
pub(super) const TRASH: &str = "removed-";

/// A package that is removed after its use.
struct Apart(PathBuf);

impl Drop for Apart {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Makes the directories, and sees whether they can be written to.
fn prepare(root: &Path) -> Result<(), SourceError> {
    make_private(root).map_err(SourceError::io(root))?;
    for name in DIRECTORIES {
        let path = root.join(name);
        make_directories(&path).map_err(SourceError::io(&path))?;
        close_to_others(&path);
    }
    let probe = tempfile::tempfile_in(root.join("known"));
    probe.map_err(SourceError::io(root))?;
    renew_locks(root).map_err(SourceError::io(root))?;
    // Of another user it may be nobody else's.
    open_lock(&root.join("lock"))
        .map(drop)
        .map_err(SourceError::io(root))
}

/// Whoever can open a file can lock it: those of earlier releases, which everybody could read, are replaced.
#[cfg(unix)]
fn renew_locks(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut locks = children(&root.join("downloads"))?;
    locks.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "lock")
    });
    locks.push(root.join("lock"));
    for path in locks {
        let is_open = || {
            let metadata = fs::symlink_metadata(&path);
            metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
        };
        // Some file systems have one mode for all files: there a lock must stay what it is.
        if is_open()
            && fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).is_ok()
            && !is_open()
        {
            gone(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn renew_locks(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Makes this process known, and removes what others left.
fn begin(root: &Path) -> Result<Holder, SourceError> {
    let begun = lock(root).and_then(|_lock| {
        let holders = root.join("holders");
        let holder = Holder::new(&holders)?;
        holder.all_uses()?;
        let living = children(&holders)?;
        let living: BTreeSet<String> = living.iter().map(|path| file_name(path)).collect();
        for path in children(&root.join("downloads"))? {
            let name = file_name(&path);
            let owner = name
                .strip_prefix(TRASH)
                .and_then(|name| name.split('-').next());
            if match owner {
                Some(owner) => !living.contains(owner),
                None => path.is_dir() && is_abandoned(&path)?,
            } {
                remove(&path);
            }
        }
        Ok(holder)
    });
    begun.map_err(SourceError::io(root))
}

fn lock(root: &Path) -> io::Result<File> {
    let file = open_lock(&root.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn content(directory: &Path) -> Result<Content, PackageError> {
    let mut content = Content::read(directory)?;
    let hex = content.digest.trim_start_matches("sha256:").to_owned();
    content.digest = hex;
    Ok(content)
}

fn is_whole(directory: &Path, digest: &str) -> bool {
    content(directory).is_ok_and(|content| content.digest == digest)
}
