//! Which packages a process uses, told to other processes by a file that is locked for as long as it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::open_lock;
use crate::model::small_file;

/// What this process uses. Changed and read under the cache's lock only.
#[derive(Debug)]
pub(crate) struct Holder {
    path: PathBuf,
    file: File,
    uses: BTreeMap<String, usize>,
    /// Bytes that the file has.
    room: usize,
}

/// The file has a multiple of so many bytes, filled up with empty lines: as many packages can come into use while the
/// disk is full.
const ROOM: usize = 16 << 10;

/// More than any process uses.
const LONGEST: u64 = 64 << 20;

impl Holder {
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(uuid::Uuid::new_v4().simple().to_string());
        let file = open_lock(&path)?;
        file.lock()?;
        let mut holder = Self {
            path,
            file,
            uses: BTreeMap::new(),
            room: ROOM,
        };
        holder.write()?;
        Ok(holder)
    }

    /// What it is called.
    pub(crate) fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// One more use, or none when it cannot be told.
    pub(crate) fn add(&mut self, digest: &str) -> io::Result<()> {
        *self.uses.entry(digest.to_owned()).or_default() += 1;
        let written = self.write();
        if written.is_err() {
            // What was there before has room.
            let _ = self.remove(digest);
        }
        written
    }

    pub(crate) fn remove(&mut self, digest: &str) -> io::Result<()> {
        if let Some(uses) = self.uses.get_mut(digest) {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(digest);
            }
        }
        self.write()
    }

    /// In place: to make the file empty first would cost the other uses when the disk is full.
    fn write(&mut self) -> io::Result<()> {
        let mut lines: String = self.uses.keys().map(|key| format!("{key}\n")).collect();
        let room = self.room.max(lines.len().next_multiple_of(ROOM));
        lines.extend(std::iter::repeat_n('\n', room - lines.len()));
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(lines.as_bytes())?;
        self.room = room;
        Ok(())
    }

    /// What this and every other living process uses. Files of those that have ended are removed.
    pub(crate) fn all_uses(&self) -> io::Result<BTreeSet<String>> {
        let mut all: BTreeSet<String> = self.uses.keys().cloned().collect();
        let directory = self.path.parent().unwrap_or(&self.path);
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path == self.path {
                continue;
            }
            let file = match small_file::open(&path) {
                // Its process has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Not made by any process of ours.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
                opened => opened?,
            };
            match file.try_lock() {
                Ok(()) => drop(fs::remove_file(&path)),
                Err(TryLockError::WouldBlock) => {
                    let lines = io::read_to_string(file.take(LONGEST))?;
                    let digests = lines.lines().filter(|line| !line.is_empty());
                    all.extend(digests.map(str::to_owned));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(all)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Else the next process that sweeps removes it.
        let _ = fs::remove_file(&self.path);
    }
}
