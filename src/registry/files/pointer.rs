//! Pointers: small objects that are replaced whole, each change knowing what it replaces.

use std::fs::File;
use std::time::Duration;

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::StoreRegistry;
use crate::model::Version;
use crate::registry::SourceError;

/// Others who may move the same pointer before we do.
const ATTEMPTS: usize = 50;

/// The longest wait for others who change a model in the same directory; each takes a moment only.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A pointer as it was read.
struct Seen {
    /// `None` when it points nowhere, or holds garbage.
    version: Option<Version>,
    /// How to replace exactly this one.
    mode: PutMode,
}

impl StoreRegistry {
    /// Points to `version`; the answer is what it pointed to before. Of two who do so at once the second knows of the
    /// first: stores compare, and in a directory one waits for the other.
    pub(crate) async fn point(
        &self,
        path: &Path,
        version: Version,
    ) -> Result<Option<Version>, SourceError> {
        let _lock = self.lock(path).await;
        for _ in 0..ATTEMPTS {
            let seen = self.pointer(path).await?;
            match self.replace(path, version.to_string(), seen.mode).await {
                Ok(()) => return Ok(seen.version),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                // What cannot compare has a lock at best.
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    let put = self.replace(path, version.to_string(), PutMode::Overwrite);
                    put.await.map_err(|error| self.failed(error))?;
                    return Ok(seen.version);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(SourceError::Unreachable {
            registry: self.address.clone(),
            reason: format!("`{path}` is changed by others all the time"),
        })
    }

    /// Points nowhere, unless it has been moved away from `version` already.
    pub(crate) async fn leave(&self, path: &Path, version: Version) -> Result<(), SourceError> {
        let _lock = self.lock(path).await;
        let seen = self.pointer(path).await?;
        if seen.version != Some(version) {
            return Ok(());
        }
        if self.directory.is_some() {
            return self.delete(path).await;
        }
        // Deleting cannot be made to depend on what is there, so an empty object stands for none.
        match self.replace(path, String::new(), seen.mode).await {
            Ok(()) | Err(Error::Precondition { .. } | Error::NotFound { .. }) => Ok(()),
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                self.delete(path).await
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Keeps other writers of a model in a directory waiting while it is held; readers need none. `None` for stores, and
    /// where the file system knows no locks.
    async fn lock(&self, path: &Path) -> Option<File> {
        let model = path.prefix_match(&self.root)?.next()?;
        let path = self.directory.as_ref()?.join(model.as_ref()).join(".lock");
        let file = File::create(path).ok()?;
        let locking = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return true,
                    // Waiting for it could keep the one who holds it from going on: both may be tasks of ours.
                    Err(std::fs::TryLockError::WouldBlock) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(std::fs::TryLockError::Error(_)) => return false,
                }
            }
        };
        let locked = tokio::time::timeout(LOCK_PATIENCE, locking).await;
        locked.unwrap_or(false).then_some(file)
    }

    async fn pointer(&self, path: &Path) -> Result<Seen, SourceError> {
        if self.directory.is_some() {
            let (text, mode) = match self.text(path).await {
                Ok(None) => (None, PutMode::Create),
                Ok(text) => (text, PutMode::Overwrite),
                // What cannot be read is replaced, as garbage is.
                Err(SourceError::Invalid(_) | SourceError::Place { .. }) => {
                    (None, PutMode::Overwrite)
                }
                Err(error) => return Err(error),
            };
            let version = text.and_then(|text| text.trim().parse().ok());
            return Ok(Seen { version, mode });
        }
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => {
                return Ok(Seen {
                    version: None,
                    mode: PutMode::Create,
                });
            }
            Err(error) => return Err(self.failed(error)),
        };
        let mode = PutMode::Update(UpdateVersion {
            e_tag: found.meta.e_tag.clone(),
            version: found.meta.version.clone(),
        });
        let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
        let version = std::str::from_utf8(&bytes).ok();
        let version = version.and_then(|text| text.trim().parse().ok());
        Ok(Seen { version, mode })
    }

    async fn replace(
        &self,
        path: &Path,
        text: String,
        mode: PutMode,
    ) -> Result<(), object_store::Error> {
        let payload = PutPayload::from(text);
        let put = self.store.put_opts(path, payload, PutOptions::from(mode));
        put.await.map(drop)
    }

    pub(crate) async fn delete(&self, path: &Path) -> Result<(), SourceError> {
        match self.store.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}
