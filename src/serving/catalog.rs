//! The one snapshot that says which names stand for which loaded versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::servable::{Servable, ServableHandle};
use super::state::VersionState;
use crate::error::{ErrorKind, Kinded};
use crate::model::{ModelId, ModelName, Version};

/// Names, versions and their servables, behind one atomic pointer.
#[derive(Debug, Default)]
pub struct Catalog {
    current: ArcSwap<CatalogSnapshot>,
    /// One writer at a time; readers never wait.
    writer: Mutex<()>,
}

/// An immutable view of the catalog: a request sees one, whole.
#[derive(Debug, Clone, Default)]
pub struct CatalogSnapshot {
    /// Everything wanted or loaded.
    pub models: BTreeMap<ModelName, ModelEntry>,
    /// Whether it is known what is wanted. Until then the server is not ready, however empty the catalog.
    pub known: bool,
    /// The model that paths without a name mean, where the operator chose one.
    pub default_model: Option<ModelName>,
}

/// One model of a [`CatalogSnapshot`].
#[derive(Debug, Clone, Default)]
pub struct ModelEntry {
    /// Its versions.
    pub versions: BTreeMap<Version, VersionEntry>,
    /// Whether the server is not ready without it.
    pub required: bool,
}

/// One version of a [`ModelEntry`].
#[derive(Debug, Clone)]
pub struct VersionEntry {
    /// Where it stands.
    pub state: VersionState,
    /// Present while it can answer.
    pub servable: Option<Arc<Servable>>,
}

/// Which model a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// `None` is the default model.
    pub model: Option<ModelName>,
    /// Which of its versions.
    pub version: VersionSelector,
}

/// Which version of a model a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSelector {
    /// The highest one that is ready.
    Default,
    /// This one.
    Exactly(Version),
}

/// Why a request finds no servable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No model of this name.
    #[error("no model named `{name}`; this server has {}", list(known))]
    UnknownModel {
        /// The name asked for.
        name: ModelName,
        /// The names that exist.
        known: Vec<ModelName>,
    },
    /// The model has no such version.
    #[error("model `{}` has no version {}; it has {}", id.name, id.version, list(known))]
    UnknownVersion {
        /// What was asked for.
        id: ModelId,
        /// The versions that exist.
        known: Vec<Version>,
    },
    /// A path without a name, and several models.
    #[error(
        "this server has no default model; use `/models/{{name}}/invocations` with one of {}",
        list(known)
    )]
    NoDefault {
        /// The names that exist.
        known: Vec<ModelName>,
    },
    /// It is not known yet which models there are.
    #[error("the server is starting: its models are not known yet")]
    Starting,
    /// The model is known but cannot answer.
    #[error("model `{name}` is not ready: {state}")]
    NotReady {
        /// The model.
        name: ModelName,
        /// Where it stands.
        state: VersionState,
    },
}

impl Kinded for LookupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } | Self::NoDefault { .. } => {
                ErrorKind::NotFound
            }
            Self::Starting | Self::NotReady { .. } => ErrorKind::NotReady,
        }
    }
}

/// At most ten names: a server may have a thousand.
fn list<T: std::fmt::Display>(known: &[T]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = known
        .iter()
        .take(10)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = known.len().saturating_sub(10);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(", "))
}

impl Catalog {
    /// The view of this moment.
    pub fn snapshot(&self) -> Arc<CatalogSnapshot> {
        self.current.load_full()
    }

    /// Finds the servable that a request means.
    ///
    /// # Errors
    /// [`LookupError`], naming what there is.
    pub fn lookup(&self, selector: &Selector) -> Result<ServableHandle, LookupError> {
        self.current.load().lookup(selector)
    }

    /// Replaces the snapshot by a changed copy, in one step.
    pub fn update(&self, change: impl FnOnce(&mut CatalogSnapshot)) {
        let _one_writer = self.writer.lock();
        let mut next = CatalogSnapshot::clone(&self.current.load());
        change(&mut next);
        self.current.store(Arc::new(next));
    }
}

impl CatalogSnapshot {
    /// Whether each wanted model serves a version or has settled without one, and each required one serves.
    pub fn is_ready(&self) -> bool {
        self.known
            && self.models.values().all(|model| {
                let serves = model
                    .versions
                    .values()
                    .any(|version| version.servable.is_some());
                let settled = model
                    .versions
                    .values()
                    .all(|version| version.state.is_settled());
                serves || (settled && !model.required)
            })
    }

    /// Finds the servable that a request means.
    ///
    /// # Errors
    /// [`LookupError`], naming what there is.
    pub fn lookup(&self, selector: &Selector) -> Result<ServableHandle, LookupError> {
        if !self.known {
            return Err(LookupError::Starting);
        }
        let name = match &selector.model {
            Some(name) => name,
            None => self.default_name()?,
        };
        let model = self
            .models
            .get(name)
            .ok_or_else(|| LookupError::UnknownModel {
                name: name.clone(),
                known: self.models.keys().cloned().collect(),
            })?;
        match selector.version {
            VersionSelector::Default => model.default_version(name),
            VersionSelector::Exactly(version) => model.exact_version(name, version),
        }
    }

    fn default_name(&self) -> Result<&ModelName, LookupError> {
        let only = || {
            (self.models.len() == 1)
                .then(|| self.models.keys().next())
                .flatten()
        };
        self.default_model
            .as_ref()
            .or_else(only)
            .ok_or_else(|| LookupError::NoDefault {
                known: self.models.keys().cloned().collect(),
            })
    }
}

impl ModelEntry {
    fn default_version(&self, name: &ModelName) -> Result<ServableHandle, LookupError> {
        let mut newest_first = self.versions.values().rev();
        let newest = newest_first.clone().next();
        newest_first
            .find_map(|version| version.servable.clone())
            .ok_or_else(|| LookupError::NotReady {
                name: name.clone(),
                state: newest.map_or(VersionState::New, |version| version.state.clone()),
            })
    }

    fn exact_version(
        &self,
        name: &ModelName,
        version: Version,
    ) -> Result<ServableHandle, LookupError> {
        let entry = self
            .versions
            .get(&version)
            .ok_or_else(|| LookupError::UnknownVersion {
                id: ModelId {
                    name: name.clone(),
                    version,
                },
                known: self.versions.keys().copied().collect(),
            })?;
        let not_ready = || LookupError::NotReady {
            name: name.clone(),
            state: entry.state.clone(),
        };
        entry.servable.clone().ok_or_else(not_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::FailureReason;

    fn name(text: &str) -> ModelName {
        ModelName::new(text).unwrap()
    }

    fn entry(state: VersionState, required: bool) -> ModelEntry {
        let versions = [(
            Version(1),
            VersionEntry {
                state,
                servable: None,
            },
        )]
        .into();
        ModelEntry { versions, required }
    }

    fn catalog(models: &[(&str, ModelEntry)]) -> Catalog {
        let catalog = Catalog::default();
        catalog.update(|snapshot| {
            snapshot.known = true;
            snapshot.models = models
                .iter()
                .map(|(model, entry)| (name(model), entry.clone()))
                .collect();
        });
        catalog
    }

    fn failed() -> VersionState {
        VersionState::Failed(FailureReason {
            message: "broken".to_owned(),
        })
    }

    #[test]
    fn messages_name_what_there_is() {
        let catalog = catalog(&[
            ("iris", entry(VersionState::Compiling, true)),
            ("wine", entry(failed(), false)),
        ]);
        let lookup = |model: Option<&str>, version| {
            let selector = Selector {
                model: model.map(name),
                version,
            };
            catalog.lookup(&selector).unwrap_err().to_string()
        };
        let default = VersionSelector::Default;
        assert_eq!(
            lookup(Some("rose"), default),
            "no model named `rose`; this server has `iris`, `wine`"
        );
        assert_eq!(
            lookup(None, default),
            "this server has no default model; use `/models/{name}/invocations` with one of `iris`, `wine`"
        );
        assert_eq!(
            lookup(Some("iris"), default),
            "model `iris` is not ready: compiling"
        );
        assert_eq!(
            lookup(Some("wine"), default),
            "model `wine` is not ready: failed: broken"
        );
        let seven = VersionSelector::Exactly(Version(7));
        assert_eq!(
            lookup(Some("iris"), seven),
            "model `iris` has no version 7; it has `1`"
        );
    }

    #[test]
    fn ready_once_each_model_has_settled_and_required_ones_serve() {
        assert!(
            !Catalog::default().snapshot().is_ready(),
            "it is not known yet what is wanted"
        );
        assert!(catalog(&[]).snapshot().is_ready(), "no model is wanted");
        assert!(
            !catalog(&[("a", entry(VersionState::WarmingUp, false))])
                .snapshot()
                .is_ready()
        );
        assert!(
            catalog(&[("a", entry(failed(), false))])
                .snapshot()
                .is_ready()
        );
        assert!(
            !catalog(&[("a", entry(failed(), true))])
                .snapshot()
                .is_ready()
        );
    }
}
