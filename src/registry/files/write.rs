//! Changes, each of which is one object that counts.

use std::path::Path as FilePath;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{PutMode, PutOptions, PutPayload};
use serde_json::json;

use super::layout::{self, VersionFile, child};
use super::{StoreRegistry, upload};
use crate::model::{Alias, ModelId, ModelName, Stage, Version};
use crate::registry::{RegistryWriter, SourceError};

/// Writers that may take a number before us.
const ATTEMPTS: u64 = 1000;

#[async_trait]
impl RegistryWriter for StoreRegistry {
    async fn register(
        &self,
        name: &ModelName,
        directory: &FilePath,
    ) -> Result<Version, SourceError> {
        let package = upload::package(directory)?;
        let versions = self.versions(name);
        let version = self.reserve(name, &versions).await?;
        let place = child(&versions, &version.to_string());
        let digest = self.upload_sealed(&package, &place).await?;
        let id = ModelId {
            name: name.clone(),
            version,
        };
        let source = package.root.display().to_string();
        if !self.complete(&id, digest, source).await? {
            return Err(SourceError::Invalid(format!(
                "version {version} of model `{name}` was completed by somebody else"
            )));
        }
        self.remember(name, json!({ "what": "registered", "to": version }))
            .await?;
        Ok(version)
    }

    async fn transition(
        &self,
        id: &ModelId,
        stage: Stage,
        _archive_existing: bool,
    ) -> Result<(), SourceError> {
        let model = self.existing(id).await?;
        let stages = child(&layout::model(&self.root, &id.name), "stages");
        let mut from = None;
        if matches!(stage, Stage::Staging | Stage::Production) {
            // One version at a time is in a stage: whichever was there is archived by this.
            let pointer = child(&stages, stage.as_str());
            from = self.point(&pointer, id.version).await?;
        }
        let left = model
            .stages
            .iter()
            .filter(|(other, version)| **other != stage && **version == id.version);
        for (other, version) in left {
            let pointer = child(&stages, other.as_str());
            self.leave(&pointer, *version).await?;
        }
        let change =
            json!({ "what": "stage", "stage": stage.as_str(), "from": from, "to": id.version });
        self.remember(&id.name, change).await
    }

    async fn set_alias(&self, alias: &Alias, id: &ModelId) -> Result<(), SourceError> {
        self.existing(id).await?;
        let pointer = child(
            &child(&layout::model(&self.root, &id.name), "aliases"),
            alias.as_str(),
        );
        let from = self.point(&pointer, id.version).await?;
        let change =
            json!({ "what": "alias", "alias": alias.as_str(), "from": from, "to": id.version });
        self.remember(&id.name, change).await
    }

    async fn delete_alias(&self, name: &ModelName, alias: &Alias) -> Result<(), SourceError> {
        let model = self.model(name).await?;
        let pointer = child(
            &child(&layout::model(&self.root, name), "aliases"),
            alias.as_str(),
        );
        self.delete(&pointer).await?;
        match model.aliases.get(alias) {
            Some(from) => {
                let change =
                    json!({ "what": "alias", "alias": alias.as_str(), "from": from, "to": null });
                self.remember(name, change).await
            }
            None => Ok(()),
        }
    }
}

impl StoreRegistry {
    /// The next number that nobody has, taken for us: two who register at once get different ones. A number whose writer
    /// died stays unused, since a version exists only once its `.json` does.
    async fn reserve(&self, name: &ModelName, versions: &Path) -> Result<Version, SourceError> {
        let highest = match self.model(name).await {
            Ok(model) => model.latest.map_or(0, |version| version.0),
            Err(SourceError::NotFound(_)) => 0,
            Err(error) => return Err(error),
        };
        for number in highest + 1..=highest + ATTEMPTS {
            let mark = layout::reservation(versions, Version(number));
            let options = PutOptions::from(PutMode::Create);
            match self
                .store
                .put_opts(&mark, PutPayload::from_static(b""), options)
                .await
            {
                Ok(_) => return Ok(Version(number)),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(SourceError::Invalid(format!(
            "no free version number of `{name}` after {highest} in `{}`",
            self.address
        )))
    }

    async fn existing(
        &self,
        id: &ModelId,
    ) -> Result<crate::registry::RegisteredModel, SourceError> {
        let model = self.model(&id.name).await?;
        if model.versions.contains_key(&id.version) {
            return Ok(model);
        }
        let known: Vec<String> = model
            .versions
            .keys()
            .map(|version| format!("`{version}`"))
            .collect();
        Err(SourceError::NotFound(format!(
            "model `{}` has no version {} in `{}`; it has {}",
            id.name,
            id.version,
            self.address,
            known.join(", ")
        )))
    }

    /// The directory of a model's versions.
    pub(crate) fn versions(&self, name: &ModelName) -> Path {
        child(&layout::model(&self.root, name), "versions")
    }

    /// Makes a version exist whose files are there; `false` when it exists already.
    pub(crate) async fn complete(
        &self,
        id: &ModelId,
        digest: String,
        source: String,
    ) -> Result<bool, SourceError> {
        let file = VersionFile {
            created: jiff::Timestamp::now().to_string(),
            digest,
            source,
            description: String::new(),
        };
        let text = serde_json::to_string_pretty(&file).expect("a struct of texts");
        let path = layout::version_file(&self.versions(&id.name), id.version);
        match self.create(&path, text).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn create(&self, path: &Path, text: String) -> object_store::Result<()> {
        let options = PutOptions::from(PutMode::Create);
        let put = self.store.put_opts(path, PutPayload::from(text), options);
        put.await.map(drop)
    }

    /// Appends to the history of a model.
    pub(crate) async fn remember(
        &self,
        name: &ModelName,
        mut change: serde_json::Value,
    ) -> Result<(), SourceError> {
        let now = jiff::Timestamp::now();
        change["when"] = now.to_string().into();
        let object = format!(
            "{}-{}.json",
            now.as_millisecond(),
            uuid::Uuid::new_v4().simple()
        );
        let path = child(&child(&layout::model(&self.root, name), "history"), &object);
        let created = self.create(&path, change.to_string()).await;
        created.map_err(|error| self.failed(error))
    }
}
