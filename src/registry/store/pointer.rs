//! Pointers: small objects that are replaced whole, each change knowing what it replaces.

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::StoreRegistry;
use crate::model::Version;
use crate::registry::SourceError;

/// Others who may move the same pointer before we do.
const ATTEMPTS: usize = 50;

/// A pointer as it was read.
struct Seen {
    /// `None` when it points nowhere, or holds garbage.
    version: Option<Version>,
    /// How to replace exactly this one.
    mode: PutMode,
}

impl StoreRegistry {
    /// Points to `version`; the answer is what it pointed to before. Of two who do so at once the second knows of the
    /// first, where the store can compare.
    pub(super) async fn point(
        &self,
        path: &Path,
        version: Version,
    ) -> Result<Option<Version>, SourceError> {
        for _ in 0..ATTEMPTS {
            let seen = self.pointer(path).await?;
            match self.replace(path, version.to_string(), seen.mode).await {
                Ok(()) => return Ok(seen.version),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                // Directories cannot compare, nor can some stores: there the last one wins.
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
    pub(super) async fn leave(&self, path: &Path, version: Version) -> Result<(), SourceError> {
        let seen = self.pointer(path).await?;
        if seen.version != Some(version) {
            return Ok(());
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

    async fn pointer(&self, path: &Path) -> Result<Seen, SourceError> {
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

    pub(super) async fn delete(&self, path: &Path) -> Result<(), SourceError> {
        match self.store.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}
