//! Files that are closed and not yet in the sink: below the cache directory, so that a restart sends them.
//!
//! ```text
//! CACHE/payload/REPLICA-START/lock                  held while the process lives
//!                            /open/N.parquet        being written: lost in a crash
//!                            /ready/model=…/…       closed and on the disk
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use tokio::sync::Notify;

use super::PayloadError;
use super::sink::walk;

/// How often a directory is tried to be made.
const ATTEMPTS: usize = 5;

/// The spool of this process.
#[derive(Debug)]
pub(super) struct Spool {
    /// `REPLICA-START`: what its files are called.
    instance: String,
    directory: PathBuf,
    next: AtomicU64,
    ready: Mutex<BTreeMap<String, Waiting>>,
    news: Notify,
    _lock: File,
}

/// A file that waits for the sink.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) bytes: u64,
    /// Rows of each model; a file has one.
    pub(super) rows: u64,
}

impl Spool {
    /// Makes a spool below `root`, and takes over what processes left there that are gone.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(super) fn open(root: &Path, replica: &str) -> Result<Self, PayloadError> {
        private(root).map_err(PayloadError::io(root))?;
        let mut attempts = 0;
        let (instance, directory, lock) = loop {
            attempts += 1;
            match begin(root, replica) {
                Ok(begun) => break begun,
                // Before it was locked, another process may have taken it for one that was left.
                Err(_) if attempts < ATTEMPTS => {}
                Err(error) => return Err(PayloadError::io(root)(error)),
            }
        };
        let spool = Self {
            instance,
            next: AtomicU64::new(1),
            ready: Mutex::default(),
            news: Notify::new(),
            _lock: lock,
            directory,
        };
        spool.adopt(root);
        Ok(spool)
    }

    /// A name that no other file of any process has.
    pub(super) fn name(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:06}.parquet", self.instance)
    }

    /// Where a file is while it is written.
    pub(super) fn open_path(&self, name: &str) -> PathBuf {
        self.directory.join("open").join(name)
    }

    /// Makes a file, which is on the disk, one that waits for the sink.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn admit(&self, open: &Path, path: &str, rows: u64) -> io::Result<()> {
        let target = self.path(path);
        let parent = target.parent().unwrap_or(&self.directory);
        fs::create_dir_all(parent)?;
        let bytes = fs::metadata(open)?.len();
        fs::rename(open, &target)?;
        File::open(parent)?.sync_all()?;
        self.ready
            .lock()
            .insert(path.to_owned(), Waiting { bytes, rows });
        self.news.notify_one();
        Ok(())
    }

    /// Where a closed file is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.join("ready").join(path)
    }

    /// The files that wait.
    pub(super) fn waiting(&self) -> Vec<(String, Waiting)> {
        let ready = self.ready.lock();
        ready
            .iter()
            .map(|(path, waiting)| (path.clone(), waiting.clone()))
            .collect()
    }

    /// Bytes of files that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.ready
            .lock()
            .values()
            .map(|waiting| waiting.bytes)
            .sum()
    }

    /// Forgets a file that is in the sink.
    pub(super) fn remove(&self, path: &str) {
        let file = self.path(path);
        // What cannot be removed is sent once more after a restart, under the same name.
        let _ = fs::remove_file(&file);
        self.ready.lock().remove(path);
        let directories = file.ancestors().skip(1);
        for directory in
            directories.take_while(|directory| *directory != self.directory.join("ready"))
        {
            // Fails, rightly, when it is not empty.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }

    /// Resolves when a file was closed.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }

    /// Takes over the closed files of processes that are gone, under the names that they have.
    fn adopt(&self, root: &Path) {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        for left in entries
            .map(|entry| entry.path())
            .filter(|path| *path != self.directory)
        {
            let Ok(_lock) = lock(&left) else {
                continue;
            };
            let mut paths = Vec::new();
            if walk(&left.join("ready"), "", &mut paths).is_ok() {
                for path in paths {
                    if let Err(error) = self.take_over(&left, &path) {
                        tracing::warn!(file = path, %error, "a file of the payload log that an earlier run left cannot be taken over");
                        continue;
                    }
                }
            }
            let mut rest = Vec::new();
            let is_empty = walk(&left.join("ready"), "", &mut rest).is_err() || rest.is_empty();
            if is_empty {
                let _ = fs::remove_dir_all(&left);
            }
        }
    }

    fn take_over(&self, left: &Path, path: &str) -> io::Result<()> {
        let file = left.join("ready").join(path);
        let reader = SerializedFileReader::new(File::open(&file)?).map_err(io::Error::other)?;
        let rows = reader.metadata().file_metadata().num_rows();
        self.admit(&file, path, u64::try_from(rows).unwrap_or(0))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let is_empty = self.ready.lock().is_empty();
        if is_empty {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Makes the directory of this process and locks it.
fn begin(root: &Path, replica: &str) -> io::Result<(String, PathBuf, File)> {
    let (instance, directory) = claim(root, replica)?;
    let lock = lock(&directory)?;
    private(&directory.join("open"))?;
    private(&directory.join("ready"))?;
    Ok((instance, directory, lock))
}

/// A directory of our own: two processes of one machine that start at the same time get different ones.
fn claim(root: &Path, replica: &str) -> io::Result<(String, PathBuf)> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut start = now.as_millis();
    loop {
        let instance = format!("{replica}-{start}");
        let directory = root.join(&instance);
        match fs::create_dir(&directory) {
            Ok(()) => return Ok((instance, directory)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => start += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Held until the process ends, however that comes.
fn lock(directory: &Path) -> io::Result<File> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    file.try_lock().map_err(io::Error::other)?;
    Ok(file)
}

/// For this user alone: what models were asked is nobody else's business.
fn private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
