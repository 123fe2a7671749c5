//! `served/` and `loads/`: one small file for each model that served, and for each content that was or is being loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::cache_dir::CacheDir;
use super::entries::{children, gone, read};
use super::{digest_of, is_full, key};
use crate::model::ModelName;
use crate::registry::{PastRuns, Served};
use crate::runtime::threads;

/// The wait before what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// `served/<key>.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ServedRecord {
    /// The registry.
    address: String,
    served: Served,
    /// What its packages are called in the cache.
    pins: BTreeSet<String>,
}

/// `loads/<content>.json`
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Loads {
    /// Loads of it that never returned.
    unfinished: u32,
    /// The processes that load it now, by their files in `holders/`; of one that has ended, the load never returned.
    loading: BTreeSet<String>,
    /// Whether it has answered requests.
    served: bool,
    /// The release that tried.
    release: String,
}

const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// See [`PastRuns`].
pub(crate) struct PastFiles {
    cache_dir: Arc<CacheDir>,
    /// Of the registry, then of its fallback.
    addresses: Vec<String>,
    pending: Arc<Mutex<Pending>>,
    /// Contents that are being loaded; `None` once the process ends.
    loading: Mutex<Option<BTreeSet<String>>>,
}

/// What has yet to be written; the last word on a file counts.
#[derive(Default)]
struct Pending {
    files: BTreeMap<PathBuf, Option<Vec<u8>>>,
    has_thread: bool,
}

impl PastFiles {
    pub(crate) fn new(cache_dir: Arc<CacheDir>, addresses: Vec<String>) -> Self {
        Self {
            cache_dir,
            addresses,
            pending: Arc::default(),
            loading: Mutex::new(Some(BTreeSet::new())),
        }
    }

    fn record(&self, model: &ModelName) -> PathBuf {
        let address = self.addresses.first().map_or("", String::as_str);
        let key = digest_of(&[address, model.as_str()]);
        self.cache_dir.place("served", &key)
    }

    fn loads(&self, content: &str) -> PathBuf {
        self.cache_dir.place("loads", content)
    }

    /// Changes what is written of a content, alone among all processes; the change is told what this one is called.
    /// Does not wait for the disk: a process that is killed leaves what it has written.
    fn change(&self, content: &str, change: impl FnOnce(&mut Loads, &str)) {
        let path = self.loads(content);
        let changed = self.cache_dir.locked(|holder| {
            let mut loads = loads_of(&self.cache_dir, content);
            let before = loads.clone();
            change(&mut loads, &holder.id());
            loads.release = RELEASE.to_owned();
            let is_empty = loads.unfinished == 0 && loads.loading.is_empty() && !loads.served;
            if is_empty {
                return gone(fs::remove_file(&path));
            }
            if loads == before {
                return Ok(());
            }
            let text = serde_json::to_vec(&loads).map_err(io::Error::from)?;
            self.cache_dir.write_unsynced(&path, &text)
        });
        if let Err(error) = changed {
            tracing::debug!(%error, "cannot write down what is being loaded");
        }
    }

    /// Writes a file, or removes it, in a while.
    fn write(&self, path: PathBuf, text: Option<Vec<u8>>) {
        let mut pending = self.pending.lock();
        pending.files.insert(path, text);
        if pending.has_thread {
            return;
        }
        let (cache_dir, waiting) = (Arc::clone(&self.cache_dir), Arc::clone(&self.pending));
        // Without a thread it is written with what comes next.
        let started = threads::spawn("cache", move || write_all(&cache_dir, &waiting));
        pending.has_thread = started.is_ok();
    }
}

/// Writes until nothing is left; what fails is tried again, as a full disk may have room later.
fn write_all(cache_dir: &Arc<CacheDir>, pending: &Mutex<Pending>) {
    let mut is_first = true;
    loop {
        let files = {
            let mut pending = pending.lock();
            if pending.files.is_empty() {
                pending.has_thread = false;
                return;
            }
            std::mem::take(&mut pending.files)
        };
        let mut failed = None;
        for (path, text) in files {
            let written = match &text {
                Some(text) => write_or_make_room(cache_dir, &path, text),
                None => gone(fs::remove_file(&path)),
            };
            if let Err(error) = written {
                failed = Some(error);
                // What was said meanwhile is newer.
                pending.lock().files.entry(path).or_insert(text);
            }
        }
        if let Some(error) = failed {
            if std::mem::take(&mut is_first) {
                tracing::warn!(%error, "cannot write down which versions serve; a restart would not begin with them. It is tried again");
            }
            std::thread::sleep(AGAIN);
        }
    }
}

fn write_or_make_room(cache_dir: &Arc<CacheDir>, path: &Path, text: &[u8]) -> io::Result<()> {
    match cache_dir.write_whole(path, text) {
        Err(full) if is_full(&full) => match cache_dir.sweep(0) {
            Ok(1..) => cache_dir.write_whole(path, text),
            _ => Err(full),
        },
        written => written,
    }
}

impl PastRuns for PastFiles {
    fn served(&self) -> BTreeMap<ModelName, Served> {
        let address = self.addresses.first();
        let paths = self.cache_dir.places("served").into_iter().rev();
        let records = paths.filter_map(|path| read::<ServedRecord>(&path));
        let ours = records.filter(|record| Some(&record.address) == address);
        ours.map(|record| (record.served.model.clone(), record.served))
            .collect()
    }

    fn save(&self, served: Served) {
        let pins = self.addresses.iter().flat_map(|address| {
            let packages = served.packages.values();
            packages.map(move |package| key(address, package))
        });
        let record = ServedRecord {
            address: self.addresses.first().cloned().unwrap_or_default(),
            pins: pins.collect(),
            served: served.clone(),
        };
        if let Ok(text) = serde_json::to_vec(&record) {
            self.write(self.record(&served.model), Some(text));
        }
    }

    fn forget(&self, model: &ModelName) {
        self.write(self.record(model), None);
    }

    fn load_begins(&self, content: &str) {
        let mut loading = self.loading.lock();
        let Some(loading) = loading.as_mut() else {
            return;
        };
        loading.insert(content.to_owned());
        self.change(content, |loads, process| {
            if !loads.served {
                loads.loading.insert(process.to_owned());
            }
        });
    }

    fn load_ends(&self, content: &str) {
        let mut loading = self.loading.lock();
        if loading
            .as_mut()
            .is_some_and(|loading| loading.remove(content))
        {
            self.change(content, |loads, process| {
                loads.loading.remove(process);
                // It can return.
                loads.unfinished = 0;
            });
        }
    }

    fn has_served(&self, content: &str) {
        let loads = Loads {
            served: true,
            release: RELEASE.to_owned(),
            ..Loads::default()
        };
        if let Ok(text) = serde_json::to_vec(&loads)
            && !loads_of(&self.cache_dir, content).served
        {
            self.write(self.loads(content), Some(text));
        }
    }

    fn stop(&self) {
        let loading = self.loading.lock().take();
        for content in loading.unwrap_or_default() {
            self.change(&content, |loads, process| {
                loads.loading.remove(process);
            });
        }
    }
}

/// How often loads of a content never returned, unless it has served.
pub(crate) fn unfinished(cache_dir: &CacheDir, content: &str) -> u32 {
    let loads = loads_of(cache_dir, content);
    if loads.served { 0 } else { loads.unfinished }
}

fn loads_of(cache_dir: &CacheDir, content: &str) -> Loads {
    let loads: Option<Loads> = read(&cache_dir.place("loads", content));
    // Another release may do what this one could not.
    let same = |loads: &Loads| loads.served || loads.release == RELEASE;
    let mut loads = loads.filter(same).unwrap_or_default();
    let before = loads.loading.len();
    loads.loading.retain(|process| cache_dir.lives(process));
    let ended = u32::try_from(before - loads.loading.len()).unwrap_or(u32::MAX);
    loads.unfinished = loads.unfinished.saturating_add(ended);
    loads
}

/// The records of what served in a directory, each with the keys that it keeps in the cache.
pub(crate) fn pins(directory: &Path) -> io::Result<Vec<(PathBuf, BTreeSet<String>)>> {
    let records = children(directory)?.into_iter();
    let pins = records.filter_map(|path| {
        let record: ServedRecord = read(&path)?;
        Some((path, record.pins))
    });
    Ok(pins.collect())
}
