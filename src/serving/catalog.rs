//! The one snapshot that says which names stand for which loaded versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::servable::{Servable, ServableHandle};
use super::state::{FailureReason, VersionState};
use crate::error::{ErrorKind, Kinded};
use crate::model::{Alias, ModelId, ModelName, Pointer, Stage, Version};

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
    /// Whether every model has once been served, or given up. From then on only required models count: one that comes
    /// later, or is tried again, must not take the others out of rotation.
    pub started: bool,
    /// Whether a request for a model that is not there is not told of others: callers may not know of all.
    pub discreet: bool,
    /// Whether a server that no model can serve is not ready, although none is wanted that could.
    pub needs_models: bool,
    /// Whether models come by request, so that the server is ready before the first one.
    pub hosts_models: bool,
}

/// One model of a [`CatalogSnapshot`].
#[derive(Debug, Clone, Default)]
pub struct ModelEntry {
    /// Its versions.
    pub versions: BTreeMap<Version, VersionEntry>,
    /// The version of paths without one; `None` is the highest one that can answer.
    pub default: Option<Version>,
    /// Where each alias leads: to the last version that could answer, when the wanted one cannot yet.
    pub aliases: BTreeMap<Alias, Version>,
    /// Likewise for stages.
    pub stages: BTreeMap<Stage, Version>,
    /// Whether the server is not ready without it.
    pub required: bool,
    /// How long a request may wait for it to be loaded, when it may be unloaded although it is wanted.
    pub on_demand: Option<Duration>,
    /// Why it has no version, where it is known only that there should be one.
    pub absent: Option<String>,
    /// Whether a server that starts need not wait for what is tried again.
    pub given_up: bool,
    /// The version that is wanted for paths without one, while another one serves in its place.
    pub instead_of: Option<Version>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSelector {
    /// The one that the registry or the operator made the default, else the highest one that is ready.
    Default,
    /// This one.
    Exactly(Version),
    /// The one that an alias or a stage leads to.
    Pointer(Pointer),
}

/// Why a request finds no servable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No model of this name.
    #[error("no model named `{name}`{}", there_is(known.as_deref()))]
    UnknownModel {
        /// The name asked for.
        name: ModelName,
        /// The names that exist.
        known: Option<Vec<ModelName>>,
    },
    /// The model has no such version.
    #[error("model `{}` has no version {}; it has {}", id.name, id.version, list(known))]
    UnknownVersion {
        /// The requested version.
        id: ModelId,
        /// The versions that exist.
        known: Vec<Version>,
    },
    /// The model has no version behind such an alias or stage.
    #[error(
        "model `{name}` has no version behind {}; it has {}",
        show(pointer),
        list(known)
    )]
    UnknownPointer {
        /// The model.
        name: ModelName,
        /// The requested alias or stage.
        pointer: Pointer,
        /// The aliases and stages that lead somewhere.
        known: Vec<String>,
    },
    /// A path without a name, and several models.
    #[error(
        "this server has no default model{}",
        instead(known.as_deref())
    )]
    NoDefault {
        /// The names that exist; `None` where not everybody may learn them.
        known: Option<Vec<ModelName>>,
    },
    /// The models are not known yet.
    #[error("the server is starting: its models are not known yet")]
    Starting,
    /// The model is wanted and not loaded; asking for it loads it.
    #[error("model `{name}` is not loaded yet; it is loaded on demand")]
    Asleep {
        /// The model.
        name: ModelName,
        /// How long a request may wait for it.
        wait: Duration,
        /// Whether it is on its way already.
        is_loading: bool,
    },
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
            Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownPointer { .. }
            | Self::NoDefault { .. } => ErrorKind::NotFound,
            Self::Starting | Self::Asleep { .. } | Self::NotReady { .. } => ErrorKind::NotReady,
        }
    }
}

fn show(pointer: &Pointer) -> String {
    match pointer {
        Pointer::Alias(alias) => format!("alias `{alias}`"),
        Pointer::Stage(stage) => format!("stage `{stage}`"),
    }
}

fn there_is(known: Option<&[ModelName]>) -> String {
    known.map_or(String::new(), |known| {
        format!("; this server has {}", list(known))
    })
}

/// What to do without a default model.
fn instead(known: Option<&[ModelName]>) -> String {
    const PATH: &str = "use `/models/{name}/invocations`";
    match known {
        None => format!("; {PATH}"),
        Some([]) => ", as it has no models; `onstage status` tells what it waits for".to_owned(),
        Some(known) => format!("; {PATH} with one of {}", list(known)),
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
        next.started = next.started || next.is_settled();
        self.current.store(Arc::new(next));
    }
}

impl CatalogSnapshot {
    /// Whether the server should get requests: it [has settled](Self::is_settled), and at least one model can answer.
    ///
    /// Where no model is wanted, or none that is for this server, the operator decides.
    pub fn is_ready(&self) -> bool {
        let answers = self.hosts_models || self.models.values().any(ModelEntry::can_answer);
        let nothing_to_serve = || self.models.values().all(ModelEntry::is_foreign);
        self.is_settled() && (answers || (!self.needs_models && nothing_to_serve()))
    }

    /// Whether each wanted model serves a version or has settled without one, and each required one serves.
    ///
    /// A version that waits to be tried again has not settled, so a new server waits for it, for a while; once it has
    /// [started](Self::started), or a model serves, a failing one changes nothing.
    pub fn is_settled(&self) -> bool {
        self.known
            && self.models.values().all(|model| {
                let settled = model
                    .versions
                    .values()
                    .all(|version| version.state.is_settled());
                let may_wait = model.on_demand.is_some() || self.started;
                model.serves() || (!model.required && (settled || model.given_up || may_wait))
            })
    }

    /// Finds the servable that a request means.
    ///
    /// # Errors
    /// [`LookupError`], naming what there is.
    pub fn lookup(&self, selector: &Selector) -> Result<ServableHandle, LookupError> {
        // Until it is known what is wanted, a model that is not there may only be late.
        let absent = |error: LookupError| {
            if self.known {
                error
            } else {
                LookupError::Starting
            }
        };
        let name = match &selector.model {
            Some(name) => name,
            None if !self.known && self.default_model.is_none() => {
                return Err(LookupError::Starting);
            }
            None => self.default_name()?,
        };
        let model = self.models.get(name).ok_or_else(|| {
            absent(LookupError::UnknownModel {
                name: name.clone(),
                known: (!self.discreet).then(|| self.models.keys().cloned().collect()),
            })
        })?;
        match &selector.version {
            VersionSelector::Default => model.default_version(name),
            VersionSelector::Exactly(version) => model.exact_version(name, *version),
            VersionSelector::Pointer(pointer) => model.pointed_version(name, pointer),
        }
    }

    /// The model that paths without a name mean.
    ///
    /// # Errors
    /// [`LookupError::NoDefault`].
    pub fn default_name(&self) -> Result<&ModelName, LookupError> {
        let only = || {
            (self.models.len() == 1)
                .then(|| self.models.keys().next())
                .flatten()
        };
        self.default_model
            .as_ref()
            .or_else(only)
            .ok_or_else(|| LookupError::NoDefault {
                known: (!self.discreet).then(|| self.models.keys().cloned().collect()),
            })
    }
}

impl VersionEntry {
    fn is_same(&self, other: &Self) -> bool {
        let same_servable = match (&self.servable, &other.servable) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_servable && self.state == other.state
    }
}

impl ModelEntry {
    fn serves(&self) -> bool {
        let mut versions = self.versions.values();
        versions.any(|version| version.servable.is_some())
    }

    /// Whether a request is answered, perhaps after it has been loaded for it.
    fn can_answer(&self) -> bool {
        let mut versions = self.versions.values();
        let may_load = self.on_demand.is_some();
        self.serves() || (may_load && versions.any(|version| version.state.reason().is_none()))
    }

    /// Whether it is a model of another kind.
    fn is_foreign(&self) -> bool {
        let mut versions = self.versions.values();
        let is_foreign = |entry: &VersionEntry| matches!(entry.state, VersionState::Unsupported(_));
        !self.versions.is_empty() && versions.all(is_foreign)
    }

    /// Whether a request would see no difference.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_versions = || {
            let mut pairs = self.versions.iter().zip(&other.versions);
            pairs.all(|((version, entry), (other_version, other_entry))| {
                version == other_version && entry.is_same(other_entry)
            })
        };
        self.versions.len() == other.versions.len()
            && self.default == other.default
            && self.required == other.required
            && self.on_demand == other.on_demand
            && self.absent == other.absent
            && self.given_up == other.given_up
            && self.instead_of == other.instead_of
            && self.aliases == other.aliases
            && self.stages == other.stages
            && same_versions()
    }

    /// The version behind paths without one, when it can answer.
    pub fn serving(&self) -> Option<Version> {
        let answers = |entry: &VersionEntry| entry.servable.is_some();
        match self.default {
            Some(version) => {
                let entry = self.versions.get(&version);
                entry.is_some_and(answers).then_some(version)
            }
            None => {
                let mut newest_first = self.versions.iter().rev();
                let newest = newest_first.find(|(_, entry)| answers(entry));
                newest.map(|(version, _)| *version)
            }
        }
    }

    /// Where an alias or stage leads.
    pub fn follow(&self, pointer: &Pointer) -> Option<Version> {
        match pointer {
            Pointer::Alias(alias) => self.aliases.get(alias).copied(),
            Pointer::Stage(stage) => self.stages.get(stage).copied(),
        }
    }

    fn pointed_version(
        &self,
        name: &ModelName,
        pointer: &Pointer,
    ) -> Result<ServableHandle, LookupError> {
        let version = self.follow(pointer).ok_or_else(|| {
            let aliases = self.aliases.keys().map(|alias| format!("@{alias}"));
            let stages = self.stages.keys().map(ToString::to_string);
            LookupError::UnknownPointer {
                name: name.clone(),
                pointer: pointer.clone(),
                known: aliases.chain(stages).collect(),
            }
        })?;
        self.exact_version(name, version)
    }

    fn default_version(&self, name: &ModelName) -> Result<ServableHandle, LookupError> {
        if let Some(version) = self.default {
            return self.exact_version(name, version);
        }
        let mut newest_first = self.versions.values().rev();
        let newest = newest_first.clone().next();
        newest_first
            .find_map(|version| version.servable.clone())
            .ok_or_else(|| match (newest, &self.absent) {
                (Some(newest), _) => self.not_ready(name, &newest.state),
                (None, Some(reason)) => self.not_ready(name, &absent(reason)),
                (None, None) => self.not_ready(name, &VersionState::New),
            })
    }

    fn not_ready(&self, name: &ModelName, state: &VersionState) -> LookupError {
        match (self.on_demand, state) {
            (None, _) | (_, VersionState::Failed(_) | VersionState::Unsupported(_)) => {
                LookupError::NotReady {
                    name: name.clone(),
                    state: state.clone(),
                }
            }
            (Some(wait), state) => LookupError::Asleep {
                name: name.clone(),
                wait,
                is_loading: *state != VersionState::Unloaded,
            },
        }
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
        let not_ready = || self.not_ready(name, &entry.state);
        entry.servable.clone().ok_or_else(not_ready)
    }
}

/// The state of a model without a version.
fn absent(reason: &str) -> VersionState {
    VersionState::Failed(FailureReason {
        label: "absent",
        message: reason.to_owned(),
        detail: reason.to_owned(),
        attempt: 0,
        retry_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ModelEntry {
            versions,
            required,
            ..ModelEntry::default()
        }
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
            label: "compile",
            message: "broken".to_owned(),
            detail: String::new(),
            attempt: 1,
            retry_at: None,
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
        let default = || VersionSelector::Default;
        assert_eq!(
            lookup(Some("rose"), default()),
            "no model named `rose`; this server has `iris`, `wine`"
        );
        assert_eq!(
            lookup(None, default()),
            "this server has no default model; use `/models/{name}/invocations` with one of `iris`, `wine`"
        );
        let nothing = self::catalog(&[]).lookup(&Selector {
            model: None,
            version: default(),
        });
        assert_eq!(
            nothing.unwrap_err().to_string(),
            "this server has no default model, as it has no models; `onstage status` tells what it waits for"
        );
        assert_eq!(
            lookup(Some("iris"), default()),
            "model `iris` is not ready: compiling"
        );
        assert_eq!(
            lookup(Some("wine"), default()),
            "model `wine` is not ready: failed: broken"
        );
        let alias = Pointer::Alias(Alias::new("champion").unwrap());
        assert_eq!(
            lookup(Some("iris"), VersionSelector::Pointer(alias)),
            "model `iris` has no version behind alias `champion`; it has none"
        );
        let seven = VersionSelector::Exactly(Version(7));
        assert_eq!(
            lookup(Some("iris"), seven),
            "model `iris` has no version 7; it has `1`"
        );
    }

    #[test]
    fn once_settled_only_required_models_count() {
        let catalog = catalog(&[("a", entry(failed(), false))]);
        assert!(catalog.snapshot().is_settled());
        let add = |model: &str, entry: ModelEntry| {
            catalog.update(|snapshot| drop(snapshot.models.insert(name(model), entry)));
        };
        add("later", entry(VersionState::Fetching, false));
        assert!(catalog.snapshot().is_settled(), "the others serve on");
        add("needed", entry(VersionState::Fetching, true));
        assert!(!catalog.snapshot().is_settled());
    }

    #[test]
    fn a_start_waits_for_what_is_tried_again_until_it_is_given_up() {
        let retried = |given_up| {
            let VersionState::Failed(reason) = failed() else {
                unreachable!()
            };
            let again = FailureReason {
                retry_at: Some(std::time::SystemTime::now()),
                ..reason
            };
            ModelEntry {
                given_up,
                ..entry(VersionState::Failed(again), false)
            }
        };
        let settled = |entry: ModelEntry| catalog(&[("a", entry)]).snapshot().is_settled();
        assert!(!settled(retried(false)));
        assert!(settled(retried(true)));
        let VersionState::Failed(reason) = failed() else {
            unreachable!()
        };
        assert!(settled(entry(VersionState::Unsupported(reason), false)));
    }

    #[test]
    fn a_model_without_a_version_says_why() {
        let absent = ModelEntry {
            absent: Some("the registry has none".to_owned()),
            ..ModelEntry::default()
        };
        let catalog = catalog(&[("a", absent)]);
        let selector = Selector {
            model: Some(name("a")),
            version: VersionSelector::Default,
        };
        assert_eq!(
            catalog.lookup(&selector).unwrap_err().to_string(),
            "model `a` is not ready: failed: the registry has none"
        );
        assert!(catalog.snapshot().is_settled());
        assert!(!catalog.snapshot().is_ready(), "nothing answers");
    }

    #[test]
    fn ready_needs_a_model_that_answers_where_one_is_wanted() {
        let asleep = || ModelEntry {
            on_demand: Some(Duration::from_secs(1)),
            ..entry(VersionState::Unloaded, false)
        };
        let VersionState::Failed(reason) = failed() else {
            unreachable!()
        };
        let foreign = || entry(VersionState::Unsupported(reason.clone()), false);
        let bad = || entry(failed(), false);
        let lazy_and_bad = || ModelEntry {
            on_demand: Some(Duration::from_secs(1)),
            ..bad()
        };
        let ready = |models: &[(&str, ModelEntry)], needs_models: bool| {
            let catalog = catalog(models);
            catalog.update(|snapshot| snapshot.needs_models = needs_models);
            catalog.snapshot().is_ready()
        };
        for needs_models in [false, true] {
            assert!(!ready(&[("a", bad())], needs_models));
            assert!(!ready(&[("a", bad()), ("b", foreign())], needs_models));
            assert!(!ready(&[("a", lazy_and_bad())], needs_models));
            assert!(ready(&[("a", bad()), ("b", asleep())], needs_models));
            assert_eq!(ready(&[], needs_models), !needs_models);
            assert_eq!(ready(&[("a", foreign())], needs_models), !needs_models);
        }
        let hosts = catalog(&[("a", bad())]);
        hosts.update(|snapshot| snapshot.hosts_models = true);
        assert!(hosts.snapshot().is_ready(), "models come by request");
    }

    #[test]
    fn settled_once_each_model_is_and_required_ones_serve() {
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
                .is_settled()
        );
        assert!(
            !catalog(&[("a", entry(failed(), true))])
                .snapshot()
                .is_settled()
        );
    }
}
