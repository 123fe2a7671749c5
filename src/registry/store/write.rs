//! Changes, each of which is one object that counts.

use std::path::{Path as FilePath, PathBuf};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde_json::json;

use super::StoreRegistry;
use super::layout::{self, VersionFile, child};
use crate::model::{Alias, ModelId, ModelName, Package, Stage, Version};
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
        let package = Package::open(directory).map_err(|error| {
            SourceError::Invalid(format!(
                "`{}` cannot be registered: {error}",
                directory.display()
            ))
        })?;
        if !package.root.join("MLmodel").exists() || !directory.is_dir() {
            return Err(SourceError::Invalid(format!(
                "`{}` is no package: make one with `onstage package {} -o DIR`",
                directory.display(),
                package.model_file.display()
            )));
        }
        let versions = child(&layout::model(&self.root, name), "versions");
        let version = self.reserve(name, &versions).await?;
        let place = child(&versions, &version.to_string());
        for file in files(&package.root)? {
            let relative = file.strip_prefix(&package.root).unwrap_or(&file);
            let target = relative.iter().fold(place.clone(), |path, part| {
                child(&path, &part.to_string_lossy())
            });
            let bytes = std::fs::read(&file).map_err(SourceError::io(&file))?;
            let put = self.store.put(&target, PutPayload::from(bytes)).await;
            put.map_err(|error| self.failed(error))?;
        }
        let file = VersionFile {
            created: jiff::Timestamp::now().to_string(),
            digest: package.digest,
            source: package.root.display().to_string(),
            description: String::new(),
        };
        let text = serde_json::to_string_pretty(&file).expect("a struct of texts");
        self.put(
            &child(&versions, &format!("{version}.json")),
            text,
            PutMode::Create,
        )
        .await?;
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
        if matches!(stage, Stage::Staging | Stage::Production) {
            // One version at a time is in a stage: whichever was there is archived by this.
            let pointer = child(&stages, stage.as_str());
            self.put(&pointer, id.version.to_string(), PutMode::Overwrite)
                .await?;
        }
        let left = model
            .stages
            .iter()
            .filter(|(other, version)| **other != stage && **version == id.version);
        for (other, _) in left {
            self.delete(&child(&stages, other.as_str())).await?;
        }
        let from = model.stages.get(&stage);
        let change =
            json!({ "what": "stage", "stage": stage.as_str(), "from": from, "to": id.version });
        self.remember(&id.name, change).await
    }

    async fn set_alias(&self, alias: &Alias, id: &ModelId) -> Result<(), SourceError> {
        let model = self.existing(id).await?;
        let pointer = child(
            &child(&layout::model(&self.root, &id.name), "aliases"),
            alias.as_str(),
        );
        self.put(&pointer, id.version.to_string(), PutMode::Overwrite)
            .await?;
        let from = model.aliases.get(alias);
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
            let mark = child(&child(versions, &number.to_string()), ".reserved");
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

    async fn put(&self, path: &Path, text: String, mode: PutMode) -> Result<(), SourceError> {
        let put = self
            .store
            .put_opts(path, PutPayload::from(text), PutOptions::from(mode))
            .await;
        put.map(drop).map_err(|error| self.failed(error))
    }

    async fn delete(&self, path: &Path) -> Result<(), SourceError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Appends to the history of a model.
    async fn remember(
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
        self.put(&path, change.to_string(), PutMode::Create).await
    }
}

/// The files of a package, without those of tools.
fn files(directory: &FilePath) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(SourceError::io(&directory))? {
            let path = entry.map_err(SourceError::io(&directory))?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b".") || name == b"__pycache__" {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
