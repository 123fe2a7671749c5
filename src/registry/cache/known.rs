//! What a registry said last, kept for a start without it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cache_dir::CacheDir;
use super::entries::touch;
use crate::model::small_file;
use crate::registry::{KnownState, LastKnown};
use crate::runtime::threads;

/// How exactly the time of the last look is kept.
const TOUCH_EVERY: Duration = Duration::from_secs(10);

/// More than any registry says.
const LONGEST: u64 = 1 << 30;

/// A file with the last answer; its time of modification is the time of the last look.
pub(crate) struct KnownFile {
    pub(crate) cache_dir: Arc<CacheDir>,
    /// Where it is written.
    pub(crate) path: PathBuf,
    /// Where it may be read instead.
    pub(crate) read_only_cache: Option<PathBuf>,
    pub(crate) last: Arc<Mutex<Last>>,
}

/// What was written last.
#[derive(Default)]
pub(crate) struct Last {
    state: Option<KnownState>,
    touched: Option<Instant>,
}

impl LastKnown for KnownFile {
    fn save(&self, state: &KnownState) {
        {
            let mut last = self.last.lock();
            let same = last.state.as_ref() == Some(state);
            let fresh = last.touched.is_some_and(|at| at.elapsed() < TOUCH_EVERY);
            if same && fresh {
                return;
            }
            last.touched = Some(Instant::now());
            if !same {
                last.state = Some(state.clone());
            }
        }
        let (last, path) = (Arc::clone(&self.last), self.path.clone());
        let cache_dir = Arc::clone(&self.cache_dir);
        // Whichever write comes last writes what is the last state by then.
        let write = move || {
            let last = last.lock();
            let text = serde_json::to_vec(&last.state);
            let written = text.map_err(Into::into).and_then(|text| {
                if small_file::read(&path, LONGEST).is_ok_and(|old| old == text) {
                    touch(&path)
                } else {
                    cache_dir.write_whole(&path, &text)
                }
            });
            if let Err(error) = written {
                tracing::warn!(path = %path.display(), %error, "cannot write down what the registry says; a restart without the registry would not know it");
            }
        };
        // Without a thread it is written next time.
        drop(threads::spawn("cache", write));
    }

    fn load(&self) -> Option<(KnownState, SystemTime)> {
        let paths = [Some(&self.path), self.read_only_cache.as_ref()];
        paths.into_iter().flatten().find_map(|path| {
            let text = small_file::read(path, LONGEST).ok()?;
            let at = fs::metadata(path).and_then(|metadata| metadata.modified());
            match serde_json::from_slice(&text) {
                Ok(state) => Some((state, at.unwrap_or(SystemTime::UNIX_EPOCH))),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the last known state of the registry is damaged");
                    None
                }
            }
        })
    }
}
