//! The files of the cache: found and checked, admitted, swept. Blocking.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::{NamedTempFile, TempDir};

use super::holder::Holder;
use super::known::KnownFile;
use super::partial::Partial;
use super::past::{pins, unfinished};
use super::{Held, RepositoryConfig, digest_of, make_directories, open_lock};
use crate::machine;
use crate::model::{Content, PackageError, small_file};
use crate::registry::{LastKnown, Query, SourceError};
use crate::telemetry::Metrics;

/// The cache's directory.
#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    /// Tells the things to remove of this process from those of others.
    id: String,
    /// A cache that can only be read, in which to look first.
    beneath: Option<PathBuf>,
    outlives: bool,
    limit: u64,
    holder: Mutex<Holder>,
    metrics: Arc<Metrics>,
    /// Removed last.
    _temporary: Option<TempDir>,
}

/// `packages/<digest>.json`
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
}

/// `refs/<key>.json`
#[derive(Debug, Serialize, Deserialize)]
struct Reference {
    digest: String,
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
const STALE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A use of a package.
struct Use {
    shelf: Arc<Shelf>,
    digest: String,
}

impl Drop for Use {
    fn drop(&mut self) {
        let released = self.shelf.locked(|holder| holder.remove(&self.digest));
        if let Err(error) = released {
            tracing::warn!(%error, "a package of the cache cannot be released before this process ends");
        }
    }
}

impl Shelf {
    pub(super) fn open(
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
        let shelf = Self {
            id: holder.id(),
            root,
            beneath: wanted.filter(|_| is_apart).map(Path::to_owned),
            outlives: temporary.is_none(),
            limit: config.limit,
            holder: Mutex::new(holder),
            metrics,
            _temporary: temporary,
        };
        shelf.sweep(shelf.limit)?;
        Ok(shelf)
    }

    pub(super) fn download(&self, key: &str) -> PathBuf {
        self.root.join("downloads").join(key)
    }

    pub(super) fn claim(&self, key: &str) -> PathBuf {
        self.root.join("downloads").join(format!("{key}.lock"))
    }

    fn package(&self, digest: &str) -> PathBuf {
        self.root.join("packages").join(digest)
    }

    fn entry(&self, digest: &str) -> PathBuf {
        self.root.join("packages").join(format!("{digest}.json"))
    }

    /// Ends a use that was added to the holder when it is dropped.
    fn lease(self: &Arc<Self>, digest: &str) -> Use {
        Use {
            shelf: Arc::clone(self),
            digest: digest.to_owned(),
        }
    }

    /// What a cache that can only be read has.
    pub(super) fn find_beneath(&self, key: &str) -> Result<Option<Held>, SourceError> {
        let Some(root) = &self.beneath else {
            return Ok(None);
        };
        let Some(Reference { digest }) = read(&reference(root, key)) else {
            return Ok(None);
        };
        let directory = root.join("packages").join(&digest);
        Ok(is_whole(&directory, &digest).then_some(Held {
            directory,
            lease: Box::new(()),
            unfinished: unfinished(self, &digest),
            content: Some(digest),
        }))
    }

    /// The package, when it is complete and as it was when it was admitted.
    pub(super) fn find(self: &Arc<Self>, key: &str) -> Result<Option<Held>, SourceError> {
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
            return Ok(Some(Held {
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
    pub(super) fn admit(
        self: &Arc<Self>,
        key: &str,
        files: &Path,
        claim: File,
    ) -> Result<Held, SourceError> {
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
                // Somebody removed the files by hand.
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
        // Whoever wanted it may lose interest at once: what is being written down must not be swept away meanwhile.
        self.locked(|holder| holder.add(&digest))?;
        let written_down = self.lease(&digest);
        let held = Held {
            directory,
            lease: Box::new(lease),
            unfinished: unfinished(self, &digest),
            content: Some(digest.clone()),
        };
        let (shelf, key) = (Arc::clone(self), key.to_owned());
        let write_down = move || {
            machine::Priority::Background.take();
            let written = shelf.write_down(&key, &digest, bytes);
            drop(written_down);
            let kept = written.and_then(|()| shelf.sweep(shelf.limit));
            if let Err(error) = kept {
                tracing::warn!(%error, "a package was fetched and cannot be kept in the cache");
            }
            drop(claim);
        };
        // Waiting for the disk must not delay the swap.
        let thread = std::thread::Builder::new().name("cache".to_owned());
        drop(thread.spawn(write_down));
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
    pub(super) fn write_whole(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let file = self.write_beside(text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    }

    /// Writes a file that is there whole or not at all, as long as the machine has power.
    pub(super) fn write_unsynced(&self, path: &Path, text: &[u8]) -> io::Result<()> {
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
    pub(super) fn lives(&self, process: &str) -> bool {
        let path = self.root.join("holders").join(process);
        process == self.id
            || small_file::open(&path)
                .is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Whether a later process finds what is written, or this one what an earlier one wrote.
    pub(super) fn remembers(&self) -> bool {
        self.outlives || self.beneath.is_some()
    }

    /// The file for `key` in one of the directories.
    pub(super) fn place(&self, directory: &str, key: &str) -> PathBuf {
        self.root.join(directory).join(format!("{key}.json"))
    }

    /// The files of one of the directories, also of the cache that can only be read, which come last.
    pub(super) fn places(&self, directory: &str) -> Vec<PathBuf> {
        let roots = [Some(&self.root), self.beneath.as_ref()];
        let roots = roots.into_iter().flatten();
        roots
            .flat_map(|root| children(&root.join(directory)).unwrap_or_default())
            .collect()
    }

    /// What cannot be kept is used once.
    fn set_apart(&self, files: &Path) -> Result<Held, SourceError> {
        let apart = self.trash();
        fs::rename(files, &apart).map_err(SourceError::io(files))?;
        Ok(Held {
            directory: apart.clone(),
            lease: Box::new(Apart(apart)),
            content: None,
            unfinished: 0,
        })
    }

    /// Forgets what a key stands for.
    pub(super) fn forget(&self, key: &str) -> Result<(), SourceError> {
        remove(&self.download(key));
        let path = reference(&self.root, key);
        gone(fs::remove_file(&path)).map_err(SourceError::io(&path))
    }

    /// Removes unfinished downloads that nobody continues, then packages that nobody uses, until at most `limit` bytes are
    /// left, and what has no use at all. Says how many went.
    pub(super) fn sweep(&self, limit: u64) -> Result<usize, SourceError> {
        let mut trash = Vec::new();
        let (left, removed) = self.locked(|holder| {
            let used = holder.all_uses()?;
            let pinned = self.pinned(&used)?;
            let mut entries = self.entries()?;
            entries.sort();
            let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
            let mut removed = 0;
            let mut partials = Partial::all(&self.root.join("downloads"), TRASH)?;
            total += partials.iter().map(|partial| partial.bytes).sum::<u64>();
            partials.retain(Partial::is_left);
            for partial in partials {
                if total <= limit {
                    break;
                }
                let away = self.trash();
                fs::rename(&partial.path, &away)?;
                trash.push(away);
                total -= partial.bytes;
                removed += 1;
            }
            let mut kept = BTreeSet::new();
            for Listed { digest, bytes, .. } in entries {
                let needed = used.contains(&digest) || pinned.contains(&digest);
                if total > limit && !needed {
                    fs::remove_file(self.entry(&digest))?;
                    total -= bytes;
                    removed += 1;
                } else {
                    kept.insert(digest);
                }
            }
            for path in children(&self.root.join("packages"))? {
                let name = file_name(&path);
                let wanted = kept.contains(&name) || used.contains(&name);
                if path.is_dir() && !wanted {
                    let away = self.trash();
                    fs::rename(&path, &away)?;
                    trash.push(away);
                }
            }
            for path in children(&self.root.join("refs"))? {
                let known = read(&path).is_some_and(|reference: Reference| {
                    kept.contains(&reference.digest) || used.contains(&reference.digest)
                });
                if !known {
                    fs::remove_file(&path)?;
                }
            }
            for path in children(&self.root.join("loads"))? {
                let name = file_name(&path);
                let digest = name.trim_end_matches(".json");
                let is_here = kept.contains(digest) || used.contains(digest);
                if !is_here && is_older(&path, STALE)? {
                    fs::remove_file(&path)?;
                }
            }
            Ok((total, removed))
        })?;
        trash.iter().for_each(|path| remove(path));
        self.metrics.set_cache_bytes(left);
        Ok(removed)
    }

    /// The packages that a start may begin with.
    fn pinned(&self, used: &BTreeSet<String>) -> io::Result<BTreeSet<String>> {
        let mut pinned = BTreeSet::new();
        for (path, pins) in pins(&self.root.join("served"))? {
            let digest = |pin: String| {
                let found: Option<Reference> = read(&reference(&self.root, &pin));
                found.map(|found| found.digest)
            };
            let digests: BTreeSet<String> = pins.into_iter().filter_map(digest).collect();
            if !digests.is_disjoint(used) {
                // It serves now.
                touch(&path)?;
            } else if is_older(&path, STALE)? {
                continue;
            }
            pinned.extend(digests);
        }
        Ok(pinned)
    }

    fn entries(&self) -> io::Result<Vec<Listed>> {
        let mut entries = Vec::new();
        for path in children(&self.root.join("packages"))? {
            let Some(digest) = file_name(&path).strip_suffix(".json").map(str::to_owned) else {
                continue;
            };
            // One that cannot be read is as good as none.
            let Some(Entry { bytes }) = read(&path) else {
                continue;
            };
            entries.push(Listed {
                used: fs::metadata(&path)?.modified()?,
                digest,
                bytes,
            });
        }
        Ok(entries)
    }

    pub(super) fn last_known(
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
            shelf: Arc::clone(self),
            path: file(&self.root),
            beneath: self.beneath.as_deref().map(file),
            last: Arc::default(),
        }))
    }

    /// Changes what is there, alone among all processes.
    pub(super) fn locked<T>(
        &self,
        change: impl FnOnce(&mut Holder) -> io::Result<T>,
    ) -> Result<T, SourceError> {
        let mut holder = self.holder.lock();
        let changed = lock(&self.root).and_then(|_lock| change(&mut holder));
        changed.map_err(SourceError::io(&self.root))
    }

    fn trash(&self) -> PathBuf {
        let name = format!("{TRASH}{}-{}", self.id, uuid::Uuid::new_v4().simple());
        self.root.join("downloads").join(name)
    }
}

/// More than any record of the cache has.
const LONGEST_RECORD: u64 = 4 << 20;

/// The age at which an unfinished download is given up.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a directory for things to remove is called.
const TRASH: &str = "removed-";

/// A package of the cache, the one used longest ago first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    used: SystemTime,
    digest: String,
    bytes: u64,
}

/// A package that is removed after its use.
struct Apart(PathBuf);

impl Drop for Apart {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn reference(root: &Path, key: &str) -> PathBuf {
    root.join("refs").join(format!("{key}.json"))
}

fn temporary() -> Result<TempDir, SourceError> {
    TempDir::with_prefix("onstage-").map_err(SourceError::io(&std::env::temp_dir()))
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

/// Makes the directory of the cache, where there is none, for this user alone.
fn make_private(root: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(root)
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

/// Takes from others what an earlier release let them see; who shares the cache by a group goes on doing so.
fn close_to_others(directory: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(metadata) = fs::metadata(directory) else {
            return;
        };
        let mode = metadata.permissions().mode();
        if mode & 0o007 != 0 {
            // Whoever else owns it has decided otherwise.
            let closed = fs::Permissions::from_mode(mode & 0o7770);
            let _ = fs::set_permissions(directory, closed);
        }
    }
    #[cfg(not(unix))]
    let _ = directory;
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

/// Whether nobody continues a download, and it is too old for that to change.
fn is_abandoned(files: &Path) -> io::Result<bool> {
    if !is_older(files, ABANDONED)? {
        return Ok(false);
    }
    let claim = open_lock(&files.with_extension("lock"))?;
    Ok(claim.try_lock().is_ok())
}

fn is_older(path: &Path, age: Duration) -> io::Result<bool> {
    let since = fs::metadata(path)?.modified()?.elapsed();
    Ok(since.unwrap_or_default() >= age)
}

fn lock(root: &Path) -> io::Result<File> {
    let file = open_lock(&root.join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn content(directory: &Path) -> Result<Content, PackageError> {
    let mut content = Content::of(directory)?;
    let hex = content.digest.trim_start_matches("sha256:").to_owned();
    content.digest = hex;
    Ok(content)
}

fn is_whole(directory: &Path, digest: &str) -> bool {
    content(directory).is_ok_and(|content| content.digest == digest)
}

pub(super) fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What is not there any more need not be removed.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What cannot be removed now is removed by the next process.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&small_file::read(path, LONGEST_RECORD).ok()?).ok()
}

/// Sets a file's time of modification to now.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    let file = File::options().append(true).open(path)?;
    file.set_modified(SystemTime::now())
}

/// Waits until the disk has a directory with all that is in it.
fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for child in children(path)? {
            sync(&child)?;
        }
    }
    File::open(path)?.sync_all()
}
