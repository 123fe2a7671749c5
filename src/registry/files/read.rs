//! What the registry holds.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::StoreRegistry;
use super::directory::{Directory, Text};
use super::layout::{self, Meaning, VersionFile};
use crate::model::{ModelName, Version};
use crate::registry::cache::blocking;
use crate::registry::{
    Query, RegisteredModel, RegisteredVersion, RegistryState, SourceError, VersionStatus,
};

/// The small objects of a store as they were last read, so that a look at what has not changed costs a list.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<Path, (String, String)>);

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

/// The error of one object, which is its model's.
fn words(error: SourceError) -> String {
    match error {
        SourceError::Malformed { reason, .. } => reason,
        error => error.to_string(),
    }
}

/// An object of a store that says something of a model.
struct Object {
    name: ModelName,
    meaning: Meaning,
    path: Path,
}

/// Objects that are read at the same time.
const AT_ONCE: usize = 16;

/// A pointer is a number; more is no pointer.
pub(crate) const LONGEST_POINTER: u64 = 64;

/// What says that a version exists is a few lines; more is none.
pub(crate) const LONGEST_RECORD: u64 = 1 << 20;

impl StoreRegistry {
    pub(crate) async fn read(&self, query: &Query) -> Result<RegistryState, SourceError> {
        let mut state = RegistryState::default();
        match self.local() {
            Some(directory) => self.read_directory(&directory, query, &mut state).await?,
            None if query.everything => self.read_below(&self.root, &mut state).await?,
            None => {
                for name in &query.models {
                    let path = layout::model(&self.root, name);
                    self.read_below(&path, &mut state).await?;
                }
            }
        }
        for (name, model) in &mut state.models {
            model.latest = model.versions.keys().next_back().copied();
            let mut pointers = model.aliases.values().chain(model.stages.values());
            if let Some(missing) = pointers.find(|version| !model.versions.contains_key(version)) {
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

    /// What is wrong with the files of a model on this machine is wrong with it alone; an object store that does not
    /// answer has no part of an answer.
    async fn read_directory(
        &self,
        directory: &Directory,
        query: &Query,
        state: &mut RegistryState,
    ) -> Result<(), SourceError> {
        let (directory, query) = (directory.clone(), query.clone());
        let models = blocking(move || {
            let names = match query.everything {
                true => directory.models()?,
                false => query.models,
            };
            let read = names.into_iter().map(|name| {
                let objects = directory.model(&name);
                (name, objects)
            });
            Ok(read.collect::<Vec<_>>())
        });
        for (name, objects) in models.await? {
            match objects {
                Ok(objects) => {
                    for (meaning, path, text) in objects {
                        let name = name.clone();
                        let object = Object {
                            name,
                            meaning,
                            path,
                        };
                        self.take(state, object, text);
                    }
                }
                Err(error) => drop(state.broken.insert(name, words(error))),
            }
        }
        Ok(())
    }

    async fn read_below(&self, path: &Path, state: &mut RegistryState) -> Result<(), SourceError> {
        let listed: Vec<_> = self
            .store
            .list(Some(path))
            .try_collect()
            .await
            .map_err(|error| self.failed(error))?;
        let meanings: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let (name, meaning) = layout::meaning(&self.root, &object.location)?;
                Some((name, meaning, object))
            })
            .collect();
        let there: BTreeSet<Path> = meanings
            .iter()
            .map(|(_, _, object)| object.location.clone())
            .collect();
        self.memory.lock().forget(path, &there);
        let read = meanings
            .into_iter()
            .map(|(name, meaning, object)| async move {
                let text = match self.small_text(&meaning, &object).await {
                    Err(
                        error @ (SourceError::Malformed { .. }
                        | SourceError::Unauthenticated { .. }),
                    ) => Err(error),
                    text => Ok(text?),
                };
                let object = Object {
                    name,
                    meaning,
                    path: object.location,
                };
                Ok::<_, SourceError>((object, text))
            });
        let read: Vec<_> = futures_util::stream::iter(read)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (object, text) in read {
            self.take(state, object, text);
        }
        Ok(())
    }

    /// The text of an object, unless it is larger than what it means can be.
    async fn small_text(&self, meaning: &Meaning, object: &ObjectMeta) -> Text {
        let longest = match meaning {
            Meaning::Version(_) => LONGEST_RECORD,
            Meaning::Stage(_) | Meaning::Alias(_) => LONGEST_POINTER,
        };
        if object.size > longest {
            let what = format!("it has {} bytes, expected at most {longest}", object.size);
            return Err(self.malformed(&object.location, what));
        }
        self.remembered(object).await
    }

    /// Notes what an object says of its model; what cannot be read stops that model alone.
    fn take(&self, state: &mut RegistryState, object: Object, text: Text) {
        let name = object.name.clone();
        let noted = match text {
            Ok(Some(text)) => {
                let model = state.models.entry(name.clone()).or_default();
                self.note(model, object, &text)
            }
            // Gone between the list and the look: as if it had been gone before.
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            state.broken.insert(name, words(error));
        }
    }

    fn note(
        &self,
        model: &mut RegisteredModel,
        object: Object,
        text: &str,
    ) -> Result<(), SourceError> {
        let Object {
            name,
            meaning,
            path,
        } = object;
        let version = || -> Result<Option<Version>, SourceError> {
            let text = text.trim();
            // A pointer that was left points nowhere.
            let text = (!text.is_empty()).then_some(text);
            let version = text.map(str::parse).transpose();
            version.map_err(|error| self.malformed(&path, error))
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
                    serde_json::from_str(text).map_err(|error| self.malformed(&path, error))?;
                let registered = RegisteredVersion {
                    status: VersionStatus::Ready,
                    location: self.location(&name, version),
                    revision: format!("{} {}", file.created, file.digest),
                    digest: Some(file.digest),
                };
                model.versions.insert(version, registered);
            }
        }
        Ok(())
    }

    /// The URL of a version's package.
    pub(crate) fn location(&self, name: &ModelName, version: Version) -> String {
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

    /// The contents of an object that was listed; asked for only when it is not as it was at the last look.
    async fn remembered(&self, object: &ObjectMeta) -> Result<Option<String>, SourceError> {
        let Some(tag) = object.e_tag.as_deref().map(plain) else {
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
    pub(crate) async fn text(&self, path: &Path) -> Result<Option<String>, SourceError> {
        if let Some(directory) = self.local() {
            let path = path.clone();
            return blocking(move || directory.text(&path)).await;
        }
        Ok(self.tagged(path).await?.map(|(_, text)| text))
    }

    async fn tagged(&self, path: &Path) -> Result<Option<(Option<String>, String)>, SourceError> {
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        if found.meta.size > LONGEST_RECORD {
            return Err(self.malformed(path, format!("it has more than {LONGEST_RECORD} bytes")));
        }
        let tag = found.meta.e_tag.clone();
        let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
        let text = String::from_utf8(bytes.to_vec());
        let text = text.map_err(|_| self.malformed(path, "it is not UTF-8"))?;
        Ok(Some((tag, text)))
    }

    /// One model with its versions.
    pub(crate) async fn model(&self, name: &ModelName) -> Result<RegisteredModel, SourceError> {
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
