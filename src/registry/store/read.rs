//! What the registry holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::StoreRegistry;
use super::layout::{self, Meaning, VersionFile};
use crate::model::{ModelName, Version};
use crate::registry::{
    Query, RegisteredModel, RegisteredVersion, RegistryState, SourceError, VersionStatus,
};

/// The small objects of a store as they were last read, so that a look at what has not changed costs a list.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<Path, (String, String)>);

impl Memory {
    fn get(&self, path: &Path, tag: &str) -> Option<String> {
        let (kept, text) = self.0.get(path)?;
        (kept == tag).then(|| text.clone())
    }

    fn keep(&mut self, path: &Path, tag: &str, text: &str) {
        let entry = (tag.to_owned(), text.to_owned());
        self.0.insert(path.clone(), entry);
    }

    /// Drops what is below `place` and no longer there.
    fn forget(&mut self, place: &Path, there: &BTreeSet<Path>) {
        self.0
            .retain(|path, _| !path.prefix_matches(place) || there.contains(path));
    }
}

/// A tag without its quotes, which lists leave out in some stores.
fn plain(tag: &str) -> &str {
    tag.trim_matches('"')
}

/// Objects that are read at the same time.
const AT_ONCE: usize = 16;

/// The same of a directory of this machine, where each takes a thread for a moment.
const FILES_AT_ONCE: usize = 4;

/// A pointer is a number; more is no pointer.
const LONGEST_POINTER: u64 = 64;

/// The models that have a directory.
fn models_in(directory: &FilePath) -> Result<BTreeSet<ModelName>, SourceError> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(SourceError::io(directory))? {
        let entry = entry.map_err(SourceError::io(directory))?;
        names.extend(layout::name(&entry.file_name().to_string_lossy()));
    }
    Ok(names)
}

impl StoreRegistry {
    pub(super) async fn read(&self, query: &Query) -> Result<RegistryState, SourceError> {
        let mut state = RegistryState::default();
        match &self.directory {
            Some(directory) if query.everything => {
                for name in models_in(directory)? {
                    self.read_alone(&name, &mut state).await?;
                }
            }
            None if query.everything => self.read_below(&self.root, &mut state).await?,
            _ => {
                for name in &query.models {
                    self.read_alone(name, &mut state).await?;
                }
            }
        }
        for (name, model) in &mut state.models {
            model.latest = model.versions.keys().next_back().copied();
            let pointers = model.aliases.values().chain(model.stages.values());
            if let Some(missing) =
                { pointers }.find(|version| !model.versions.contains_key(version))
            {
                let reason = format!(
                    "model `{name}` has an alias or stage that points to version {missing}, which does not exist"
                );
                state.broken.entry(name.clone()).or_insert(reason);
            }
        }
        let broken = &state.broken;
        state
            .models
            .retain(|name, model| !model.versions.is_empty() && !broken.contains_key(name));
        match state.broken.values().next() {
            // Nothing can be read: that is the registry's trouble, not a model's.
            Some(reason) if state.models.is_empty() => Err(SourceError::Malformed {
                registry: self.address.clone(),
                reason: reason.clone(),
            }),
            _ => Ok(state),
        }
    }

    /// Reads one model. What is wrong with its files on this machine is wrong with it alone; an object store that does not
    /// answer has no part of an answer.
    async fn read_alone(
        &self,
        name: &ModelName,
        state: &mut RegistryState,
    ) -> Result<(), SourceError> {
        let path = layout::model(&self.root, name);
        match self.read_below(&path, state).await {
            Err(error) if self.directory.is_some() => {
                let reason = match error {
                    SourceError::Malformed { reason, .. } => reason,
                    error => error.to_string(),
                };
                state.broken.insert(name.clone(), reason);
                Ok(())
            }
            read => read,
        }
    }

    async fn read_below(&self, path: &Path, state: &mut RegistryState) -> Result<(), SourceError> {
        let listed: Vec<_> = self
            .store
            .list(Some(path))
            .try_collect()
            .await
            .map_err(|error| self.failed(error))?;
        let meanings: Vec<_> = { listed.into_iter() }
            .filter_map(|object| {
                let (name, meaning) = layout::meaning(&self.root, &object.location)?;
                Some((name, meaning, object))
            })
            .collect();
        let there: BTreeSet<Path> = { meanings.iter() }
            .map(|(_, _, object)| object.location.clone())
            .collect();
        self.memory.lock().forget(path, &there);
        let read = meanings
            .into_iter()
            .map(|(name, meaning, object)| async move {
                let is_pointer = !matches!(meaning, Meaning::Version(_));
                let read = if is_pointer && object.size > LONGEST_POINTER {
                    Err(self.malformed(&object.location, "it is no version number"))
                } else {
                    self.remembered(&object).await
                };
                let read = match read {
                    Err(SourceError::Malformed { reason, .. }) => Err(reason),
                    read => Ok(read?),
                };
                Ok::<_, SourceError>((name, meaning, object.location, read))
            });
        let at_once = match &self.directory {
            Some(_) => FILES_AT_ONCE,
            None => AT_ONCE,
        };
        let read: Vec<_> = futures_util::stream::iter(read)
            .buffer_unordered(at_once)
            .try_collect()
            .await?;
        for (name, meaning, path, read) in read {
            let text = match read {
                Ok(Some(text)) => text,
                // Gone between the list and the look: as if it had been gone before.
                Ok(None) => continue,
                Err(reason) => {
                    state.broken.insert(name, reason);
                    continue;
                }
            };
            let model = state.models.entry(name.clone()).or_default();
            match self.note(model, (&name, meaning), &path, &text) {
                Err(SourceError::Malformed { reason, .. }) => {
                    state.broken.insert(name, reason);
                }
                noted => noted?,
            }
        }
        Ok(())
    }

    fn note(
        &self,
        model: &mut RegisteredModel,
        (name, meaning): (&ModelName, Meaning),
        path: &Path,
        text: &str,
    ) -> Result<(), SourceError> {
        let version = || -> Result<Option<Version>, SourceError> {
            let text = text.trim();
            // A pointer that was left points nowhere.
            let text = (!text.is_empty()).then_some(text);
            let version = text.map(str::parse).transpose();
            version.map_err(|error| self.malformed(path, error))
        };
        match meaning {
            Meaning::Alias(alias) => {
                let version = version()?;
                model
                    .aliases
                    .extend(version.map(|version| (alias, version)));
            }
            Meaning::Stage(stage) => {
                let version = version()?;
                model.stages.extend(version.map(|version| (stage, version)));
            }
            Meaning::Version(version) => {
                let file: VersionFile =
                    serde_json::from_str(text).map_err(|error| self.malformed(path, error))?;
                let registered = RegisteredVersion {
                    status: VersionStatus::Ready,
                    location: self.location(name, version),
                    revision: format!("{} {}", file.created, file.digest),
                    digest: Some(file.digest),
                };
                model.versions.insert(version, registered);
            }
        }
        Ok(())
    }

    /// The URL of a version's package.
    pub(super) fn location(&self, name: &ModelName, version: Version) -> String {
        let mut url = self.url.clone();
        let model = layout::model(&Path::default(), name);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .push(model.as_ref())
                .push("versions")
                .push(&version.to_string());
        }
        url.into()
    }

    /// The contents of an object that was listed; asked for only when it is not as it was at the last look. A directory
    /// is always read: that is quick, and the time of a file does not tell each change.
    async fn remembered(&self, object: &ObjectMeta) -> Result<Option<String>, SourceError> {
        let tag = object.e_tag.as_deref().map(plain);
        let tag = tag.filter(|_| self.directory.is_none());
        let Some(tag) = tag else {
            return self.text(&object.location).await;
        };
        if let Some(text) = self.memory.lock().get(&object.location, tag) {
            return Ok(Some(text));
        }
        let Some((found, text)) = self.tagged(&object.location).await? else {
            return Ok(None);
        };
        // It may have been replaced since the list.
        if found.as_deref().map(plain) == Some(tag) {
            self.memory.lock().keep(&object.location, tag, &text);
        }
        Ok(Some(text))
    }

    /// The contents of an object; `None` when it is not there.
    pub(super) async fn text(&self, path: &Path) -> Result<Option<String>, SourceError> {
        Ok(self.tagged(path).await?.map(|(_, text)| text))
    }

    async fn tagged(&self, path: &Path) -> Result<Option<(Option<String>, String)>, SourceError> {
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let tag = found.meta.e_tag.clone();
        let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
        let text = String::from_utf8(bytes.to_vec());
        let text = text.map_err(|_| self.malformed(path, "it is not UTF-8"))?;
        Ok(Some((tag, text)))
    }

    /// One model with its versions.
    pub(super) async fn model(&self, name: &ModelName) -> Result<RegisteredModel, SourceError> {
        let query = Query {
            models: [name.clone()].into(),
            ..Query::default()
        };
        let found = self.read(&query).await?.models;
        found.into_values().next().ok_or_else(|| {
            SourceError::NotFound(format!("registry `{}` has no model `{name}`", self.address))
        })
    }
}
