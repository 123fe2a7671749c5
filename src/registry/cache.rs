//! The package cache on this machine: what was fetched stays by its content, for the next start and for other processes.
//!
//! ```text
//! <cache_dir>/
//!   lock                    locked for the moments in which entries come, go, or are taken into use
//!   packages/<digest>/      the files of a package; never changed
//!   packages/<digest>.json  its size: the entry is complete once this exists, and was used last when this was touched
//!   refs/<key>.json         the digest of a registry's version
//!   downloads/<key>/        files on their way; what a killed process left is continued
//!   downloads/<key>.lock    locked by the one who fetches
//!   holders/<id>            the digests that a process uses; locked for as long as it lives
//!   known/<key>.json        what a registry said last
//!   served/<key>.json       what served last of a model, and what of the cache it needs
//!   loads/<digest>.json     whether a package has served, or how often loading it never returned
//! ```
//!
//! Only its owner can read it: packages may be confidential, and write access would decide what is served.
//!
//! Every lock is the operating system's and goes with its process, so nothing is left to clean up after `kill -9`.

mod cache_dir;
mod entries;
mod holder;
mod known;
mod partial;
mod past;
mod sweep;

use std::any::Any;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use self::cache_dir::CacheDir;
use self::past::PastFiles;
use super::{LastKnown, PackageRef, PastRuns, Query, Source, SourceError};
use crate::runtime::threads;
use crate::telemetry::Metrics;

/// Where packages are kept, and how many.
#[derive(Debug, Clone)]
pub struct RepositoryConfig {
    /// The directory, which outlives the process; `None` keeps packages for as long as this process runs.
    pub directory: Option<PathBuf>,
    /// Bytes above which unused packages are removed, the one used longest ago first.
    pub limit: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Repository {
    cache_dir: Arc<CacheDir>,
}

/// A package in the cache.
pub struct CachedPackage {
    /// Its files.
    pub directory: PathBuf,
    /// Keeps them there.
    pub lease: Lease,
    /// SHA-256 of the files, where they can be told from others.
    pub content: Option<String>,
    /// How often a load of them never returned: the process ended first. Zero once they have served.
    pub unfinished: u32,
}

/// Something to hold on to while files are in use.
pub type Lease = Box<dyn Any + Send + Sync>;

impl std::fmt::Debug for CachedPackage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// How often to check whether another process has fetched the same package.
const CLAIM_AGAIN: Duration = Duration::from_millis(50);

impl Repository {
    /// Opens the cache, and makes it where there is none. One that can be read and not written to is used for what it
    /// holds; what is fetched then stays for as long as this process runs.
    ///
    /// # Errors
    /// When there is no place to write to.
    pub fn open(config: &RepositoryConfig, metrics: Arc<Metrics>) -> Result<Self, SourceError> {
        let cache_dir = CacheDir::open(config, metrics)?;
        Ok(Self {
            cache_dir: Arc::new(cache_dir),
        })
    }

    /// The files of a package: those in the cache, checked, else fetched.
    ///
    /// # Errors
    /// What `source` or the file system says.
    pub async fn get(
        &self,
        source: &dyn Source,
        package: &PackageRef,
    ) -> Result<CachedPackage, SourceError> {
        let key = key(source.address(), package);
        let (cache_dir, wanted) = (Arc::clone(&self.cache_dir), key.clone());
        if let Some(held) = blocking(move || cache_dir.find_in_read_only_cache(&wanted)).await? {
            return Ok(held);
        }
        let claim = self.claim(&key).await?;
        let (cache_dir, wanted) = (Arc::clone(&self.cache_dir), key.clone());
        if let Some(held) = blocking(move || cache_dir.find(&wanted)).await? {
            return Ok(held);
        }
        let files = self.cache_dir.download(&key);
        self.fill(source, package, &files).await?;
        let cache_dir = Arc::clone(&self.cache_dir);
        blocking(move || cache_dir.admit(&key, &files, claim)).await
    }

    /// Forgets what was fetched for `package`, which turned out to be something else: it is fetched again when needed.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn discard(&self, address: &str, package: &PackageRef) -> Result<(), SourceError> {
        let key = key(address, package);
        // A write that is still running finishes first.
        let claim = self.claim(&key).await?;
        let cache_dir = Arc::clone(&self.cache_dir);
        blocking(move || {
            cache_dir.forget(&key)?;
            drop(claim);
            Ok(())
        })
        .await
    }

    /// The place for what the registry at `address` answers to `query`; `None` where nothing outlives this process.
    pub fn last_known(&self, address: &str, query: &Query) -> Option<Arc<dyn LastKnown>> {
        self.cache_dir.last_known(address, query)
    }

    /// What earlier runs left, and the next one will find, of models of the registry at `address`; packages may come
    /// from the one at `fallback` as well. `None` where nothing outlives this process.
    pub fn past_runs(&self, address: &str, fallback: Option<&str>) -> Option<Arc<dyn PastRuns>> {
        if !self.cache_dir.remembers() {
            return None;
        }
        let addresses = [Some(address), fallback].into_iter().flatten();
        let addresses = addresses.map(str::to_owned).collect();
        let files = PastFiles::new(Arc::clone(&self.cache_dir), addresses);
        Some(Arc::new(files))
    }

    async fn fill(
        &self,
        source: &dyn Source,
        package: &PackageRef,
        files: &Path,
    ) -> Result<(), SourceError> {
        make_directories(files).map_err(SourceError::io(files))?;
        let full = match source.fetch(package, files).await {
            Err(SourceError::Io { path, error }) if is_full(&error) => {
                SourceError::Io { path, error }
            }
            // What is there is of no use to anybody.
            Err(SourceError::Package(error)) => {
                entries::remove(files);
                return Err(SourceError::Package(error));
            }
            fetched => return fetched,
        };
        let cache_dir = Arc::clone(&self.cache_dir);
        let freed = blocking(move || cache_dir.sweep(0)).await?;
        if freed == 0 {
            return Err(full);
        }
        tracing::warn!(
            freed,
            "the disk of the package cache is full: packages that nobody uses were removed"
        );
        source.fetch(package, files).await
    }

    /// Waits until no other task, in this process or another one, fetches the same.
    async fn claim(&self, key: &str) -> Result<File, SourceError> {
        let path = self.cache_dir.claim(key);
        loop {
            let file = open_lock(&path).map_err(SourceError::io(&path))?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(CLAIM_AGAIN).await,
                Err(TryLockError::Error(error)) => return Err(SourceError::Io { path, error }),
            }
        }
    }
}

/// What a package is called in the cache before its content is known.
fn key(address: &str, package: &PackageRef) -> String {
    digest_of(&[address, &package.location, &package.revision])
}

/// SHA-256 over texts, as hex digits.
fn digest_of(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// Makes a directory that only its owner can look into, with those above it.
fn make_directories(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Runs file operations on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let failed = |error| SourceError::Io {
        path: PathBuf::from("cache"),
        error,
    };
    let finished = threads::run("cache", work).map_err(failed)?;
    let ended = || failed(io::Error::other("its thread ended"));
    finished.await.unwrap_or_else(|_| Err(ended()))
}

#[cfg(test)]
mod tests;
