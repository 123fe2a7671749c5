//! Versions of another registry, taken over under the numbers that they have there.

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, PutMode, PutOptions, PutPayload};
use serde_json::json;

use super::StoreRegistry;
use super::layout::{self, VersionFile, child};
use crate::model::{ModelId, Package, Pointer, Stage};
use crate::registry::SourceError;

/// In a reservation: whoever finds it without a version may begin anew.
const MARK: &str = "imported";

/// A version as this registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// As `sha256:<hex>`.
    pub digest: String,
    /// What [`StoreRegistry::import`] or registering said of its origin.
    pub source: String,
}

impl StoreRegistry {
    /// What is under this number, if anything is.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn held(&self, id: &ModelId) -> Result<Option<StoredVersion>, SourceError> {
        let path = self.version_file(id);
        let Some(text) = self.text(&path).await? else {
            return Ok(None);
        };
        let file: VersionFile =
            serde_json::from_str(&text).map_err(|error| self.malformed(&path, error))?;
        Ok(Some(StoredVersion {
            digest: file.digest,
            source: file.source,
        }))
    }

    /// Adds a package under this number; `source` tells where it came from. The answer is whether it has been added:
    /// `false` when the same package is under the number already.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when another package has the number.
    pub async fn import(
        &self,
        id: &ModelId,
        package: &Package,
        source: &str,
    ) -> Result<bool, SourceError> {
        if self.holds(id, &package.digest).await? {
            return Ok(false);
        }
        let versions = self.versions(&id.name);
        let place = child(&versions, &id.version.to_string());
        self.claim(id).await?;
        self.clear(&place).await?;
        self.upload(package, &place).await?;
        let digest = package.digest.clone();
        if !self.complete(id, digest, source.to_owned()).await? {
            // Another import was quicker.
            return self.holds(id, &package.digest).await.map(|_| false);
        }
        let change = json!({ "what": "imported", "to": id.version, "source": source });
        self.remember(&id.name, change).await?;
        Ok(true)
    }

    /// Lets `pointer` point to a version that exists; whether that was a change. The stages `None` and `Archived` are
    /// no pointers here.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn adopt(&self, pointer: &Pointer, id: &ModelId) -> Result<bool, SourceError> {
        use crate::registry::RegistryWriter as _;
        if matches!(pointer, Pointer::Stage(Stage::None | Stage::Archived)) {
            return Ok(false);
        }
        let before = match self.model(&id.name).await {
            Ok(model) => model.follow(pointer),
            Err(SourceError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        if before == Some(id.version) {
            return Ok(false);
        }
        match pointer {
            Pointer::Alias(alias) => self.set_alias(alias, id).await?,
            Pointer::Stage(stage) => self.transition(id, *stage, true).await?,
        }
        Ok(true)
    }

    /// Whether the package of this digest is under this number.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when another one is.
    pub async fn holds(&self, id: &ModelId, digest: &str) -> Result<bool, SourceError> {
        let Some(held) = self.held(id).await? else {
            return Ok(false);
        };
        if held.digest == digest {
            return Ok(true);
        }
        let ModelId { name, version } = id;
        Err(SourceError::Invalid(format!(
            "version {version} of model `{name}` in `{}` is another package: its digest is `{}`, expected `{digest}`; \
             versions never change, so use another registry, or delete this version there first",
            self.address, held.digest
        )))
    }

    /// Takes the number, or what an import that ended early has left of it.
    async fn claim(&self, id: &ModelId) -> Result<(), SourceError> {
        let mark = self.reservation(id);
        let payload = PutPayload::from_static(MARK.as_bytes());
        let put = self
            .store
            .put_opts(&mark, payload, PutOptions::from(PutMode::Create));
        match put.await {
            Ok(_) => Ok(()),
            Err(Error::AlreadyExists { .. }) => {
                let text = self.text(&mark).await?.unwrap_or_default();
                if text == MARK {
                    return Ok(());
                }
                let ModelId { name, version } = id;
                Err(SourceError::Invalid(format!(
                    "version {version} of model `{name}` in `{}` is being registered by somebody, or was and never \
                     completed; in the latter case delete `{mark}`",
                    self.address
                )))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Removes what an earlier attempt left.
    async fn clear(&self, place: &Path) -> Result<(), SourceError> {
        let listed: Vec<_> = self
            .store
            .list(Some(place))
            .try_collect()
            .await
            .map_err(|error| self.failed(error))?;
        for object in listed {
            self.delete(&object.location).await?;
        }
        Ok(())
    }

    fn version_file(&self, id: &ModelId) -> Path {
        layout::version_file(&self.versions(&id.name), id.version)
    }

    fn reservation(&self, id: &ModelId) -> Path {
        layout::reservation(&self.versions(&id.name), id.version)
    }
}
