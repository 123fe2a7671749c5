//! Makes room in the cache: what nobody uses goes, the longest unused first. Blocking.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::SystemTime;

use super::cache_dir::{CacheDir, Entry, Reference, STALE, TRASH};
use super::entries::{children, file_name, is_older, read, reference, remove, touch};
use super::partial::Partial;
use super::past::pins;
use crate::registry::SourceError;

/// A package of the cache, the one used longest ago first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    used: SystemTime,
    digest: String,
    bytes: u64,
}

impl CacheDir {
    /// Removes unfinished downloads that nobody continues, then packages that nobody uses, until at most `limit` bytes are
    /// left, and what has no use at all. Says how many went.
    pub(crate) fn sweep(&self, limit: u64) -> Result<usize, SourceError> {
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
}
