//! What of a registry is wanted: pure, from a [`RegistryState`] to a [`DesiredState`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;

use super::state::{PackageRef, Query, RegisteredModel, RegistryState};
use super::uri::{ModelUri, Which};
use crate::model::{Alias, ModelId, ModelName, Pointer, Stage, Version, fits_pattern};

/// What to serve from a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Single models, first listed first.
    pub targets: Vec<Target>,
    /// Names of targets that may be missing.
    pub optional: BTreeSet<ModelName>,
    /// Of every model that passes `filter`: the versions that these point to. The first that matches a model decides
    /// its paths without a version.
    pub follow: Vec<Pointer>,
    /// Which models to follow.
    pub filter: Filter,
}

/// One model that is wanted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name to serve it under; `None` is its own.
    pub serve_as: Option<ModelName>,
    /// Which version.
    pub uri: ModelUri,
}

/// Which registered models are followed: conditions separated by commas, all of which must hold. `fraud-*` is a pattern
/// for the name, `tag.team=pay*` one for a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Name(String),
    Tag { key: String, value: String },
}

/// Why a text is no [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid condition `{0}`: expected a pattern for the name such as `fraud-*`, or for a tag such as `tag.team=payments`"
)]
pub struct FilterError(String);

/// Everything that should be served. Omission means unload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// By the name it is served under.
    pub models: BTreeMap<ModelName, DesiredModel>,
    /// Whether every source of the desired state has answered; until then a missing model may only be late.
    pub complete: bool,
}

/// One model that should be served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredModel {
    /// The version of paths without one; `None` is the highest one that can answer.
    pub default: Option<Version>,
    /// All versions that should be loaded, `default` among them.
    pub versions: BTreeMap<Version, Wanted>,
    /// Aliases of these versions.
    pub aliases: BTreeMap<Alias, Version>,
    /// Stages of these versions.
    pub stages: BTreeMap<Stage, Version>,
    /// Why the desired version is unknown; then there is none.
    pub absent: Option<String>,
    /// Whether the configuration names the version itself: then no other one may stand in for it.
    pub pinned: bool,
}

/// One version that should be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Its files can be had from the registry.
    Package(PackageRef),
    /// Its files are here already.
    Local(PathBuf),
    /// The registry has no complete files yet: its words.
    Unready(String),
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let condition = |part: &str| {
            let invalid = || FilterError(part.escape_debug().to_string());
            match (part.strip_prefix("tag."), part.split_once('=')) {
                (Some(tag), _) => {
                    let (key, value) = tag.split_once('=').ok_or_else(invalid)?;
                    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                    (!key.is_empty())
                        .then_some(Condition::Tag { key, value })
                        .ok_or_else(invalid)
                }
                (None, Some(("name", pattern))) => Ok(Condition::Name(pattern.trim().to_owned())),
                (None, Some(_)) => Err(invalid()),
                (None, None) => Ok(Condition::Name(part.to_owned())),
            }
        };
        parts.map(condition).collect::<Result<_, _>>().map(Self)
    }
}

impl Filter {
    /// Whether a model fits all conditions.
    pub(super) fn passes(&self, name: &ModelName, model: &RegisteredModel) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Name(pattern) => fits_pattern(pattern, name.as_str()),
            Condition::Tag { key, value } => model
                .tags
                .get(key)
                .is_some_and(|tag| fits_pattern(value, tag)),
        })
    }
}

impl Selection {
    /// Whether nothing is wanted from the registry.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.follow.is_empty()
    }

    /// What to ask the registry for.
    pub fn query(&self) -> Query {
        let mut query = Query {
            everything: !self.follow.is_empty(),
            ..Query::default()
        };
        for target in &self.targets {
            let ModelUri::Registered { name, which } = &target.uri else {
                continue;
            };
            query.models.insert(name.clone());
            if let Which::Version(version) = which {
                query.versions.insert(ModelId {
                    name: name.clone(),
                    version: *version,
                });
            }
        }
        query
    }

    /// What should be served, given what the registry holds. `resolved` are the packages of targets that are no
    /// registered versions. A target that the registry does not have is left out.
    pub fn desired(
        &self,
        state: &RegistryState,
        resolved: &BTreeMap<ModelUri, PackageRef>,
    ) -> DesiredState {
        let mut desired = DesiredState {
            complete: true,
            ..DesiredState::default()
        };
        for target in &self.targets {
            let Some((served, version, wanted)) = target.find(state, resolved) else {
                continue;
            };
            let pinned = target.is_pinned();
            desired.want(&served, version, (wanted, pinned));
        }
        let followed = state
            .models
            .iter()
            .filter(|(name, model)| self.filter.passes(name, model));
        for (name, model) in followed {
            for version in self
                .follow
                .iter()
                .filter_map(|pointer| model.follow(pointer))
            {
                desired.want(name, version, (wanted(model, name, version), false));
            }
        }
        self.name_pointers(state, &mut desired);
        self.name_broken(state, &mut desired);
        for target in self.optional_targets() {
            let reason = format!("the registry does not have `{}`", target.uri);
            target.lack(reason, &mut desired);
        }
        desired
    }

    /// What cannot be read may be what is wanted.
    fn name_broken(&self, state: &RegistryState, desired: &mut DesiredState) {
        // Why not is in the log: what stands there may be anybody's words.
        for name in state.broken.keys() {
            let reason = "the registry's records of it cannot be read";
            for target in self.targets.iter().filter(|target| target.is_of(name)) {
                target.lack(reason.to_owned(), desired);
            }
            let unknown = RegisteredModel::default();
            if !self.follow.is_empty() && self.filter.passes(name, &unknown) {
                desired.lack(name, reason.to_owned(), false);
            }
        }
    }

    /// Why a target that may not be missing cannot be found.
    pub fn unreadable<'s>(&self, state: &'s RegistryState) -> Option<&'s str> {
        let required = self
            .targets
            .iter()
            .filter(|target| !target.is_among(&self.optional));
        let mut broken = required.filter_map(|target| match &target.uri {
            ModelUri::Registered { name, .. } => state.broken.get(name),
            ModelUri::Logged(_) | ModelUri::Run { .. } => None,
        });
        broken.next().map(String::as_str)
    }

    /// What should be served while the registry cannot be read, for this reason. `None` when what is wanted depends on
    /// what it holds, or the server cannot do without it.
    pub fn without_registry(&self, reason: &str) -> Option<DesiredState> {
        let mut desired = DesiredState {
            complete: true,
            ..DesiredState::default()
        };
        for target in self.optional_targets() {
            target.lack(reason.to_owned(), &mut desired);
        }
        let is_all = self.follow.is_empty() && !self.has_required();
        is_all.then_some(desired)
    }

    /// Whether it names a version that the server cannot do without.
    pub fn has_required(&self) -> bool {
        self.targets
            .iter()
            .any(|target| !target.is_among(&self.optional))
    }

    fn optional_targets(&self) -> impl Iterator<Item = &Target> {
        let targets = self.targets.iter();
        targets.filter(|target| target.is_among(&self.optional))
    }

    /// Targets of registered models that the registry does not have, and that may not be missing.
    pub fn missing(&self, state: &RegistryState) -> Vec<&ModelUri> {
        let is_missing = |uri: &&ModelUri| match uri {
            ModelUri::Registered { name, which } => {
                let model = state.models.get(name);
                model.and_then(|model| model.resolve(which)).is_none()
            }
            ModelUri::Logged(_) | ModelUri::Run { .. } => false,
        };
        let targets = self.targets.iter();
        let targets = targets.filter(|target| !target.is_among(&self.optional));
        targets
            .map(|target| &target.uri)
            .filter(is_missing)
            .collect()
    }

    /// Every alias and stage whose version is wanted anyway is a path to it.
    fn name_pointers(&self, state: &RegistryState, desired: &mut DesiredState) {
        for (served, model) in &mut desired.models {
            let registered: BTreeSet<&ModelName> = model
                .versions
                .values()
                .filter_map(|wanted| match wanted {
                    Wanted::Package(package) => Some(&package.id.name),
                    Wanted::Local(_) | Wanted::Unready(_) => None,
                })
                .chain([served])
                .collect();
            let Some(found) = registered.iter().find_map(|name| state.models.get(*name)) else {
                continue;
            };
            let versions = &model.versions;
            let is_wanted = |version: &Version| versions.contains_key(version);
            let aliases = found
                .aliases
                .iter()
                .filter(|(_, version)| is_wanted(version));
            model.aliases = aliases
                .map(|(alias, version)| (alias.clone(), *version))
                .collect();
            let stages = found
                .stages
                .iter()
                .filter(|(_, version)| is_wanted(version));
            model.stages = stages.map(|(stage, version)| (*stage, *version)).collect();
        }
    }
}

impl Target {
    /// The name that it is served under, where that is known before it is found.
    fn served_as(&self) -> Option<&ModelName> {
        self.serve_as.as_ref().or(match &self.uri {
            ModelUri::Registered { name, .. } => Some(name),
            ModelUri::Logged(_) | ModelUri::Run { .. } => None,
        })
    }

    /// Whether it means one version for ever, and no pointer that moves.
    fn is_pinned(&self) -> bool {
        match &self.uri {
            ModelUri::Registered { which, .. } => matches!(which, Which::Version(_)),
            ModelUri::Logged(_) | ModelUri::Run { .. } => true,
        }
    }

    /// Wants it although there is no version of it, where its name is known.
    fn lack(&self, reason: String, desired: &mut DesiredState) {
        if let Some(served) = self.served_as() {
            desired.lack(served, reason, self.is_pinned());
        }
    }

    fn is_of(&self, model: &ModelName) -> bool {
        matches!(&self.uri, ModelUri::Registered { name, .. } if name == model)
    }

    fn is_among(&self, names: &BTreeSet<ModelName>) -> bool {
        self.served_as().is_some_and(|name| names.contains(name))
    }

    fn find(
        &self,
        state: &RegistryState,
        resolved: &BTreeMap<ModelUri, PackageRef>,
    ) -> Option<(ModelName, Version, Wanted)> {
        match &self.uri {
            ModelUri::Registered { name, which } => {
                let model = state.models.get(name)?;
                let version = model.resolve(which)?;
                let served = self.serve_as.as_ref().unwrap_or(name);
                Some((served.clone(), version, wanted(model, name, version)))
            }
            uri @ (ModelUri::Logged(_) | ModelUri::Run { .. }) => {
                let package = resolved.get(uri)?;
                let served = self.serve_as.as_ref().unwrap_or(&package.id.name);
                let wanted = Wanted::Package(package.clone());
                Some((served.clone(), package.id.version, wanted))
            }
        }
    }
}

fn wanted(model: &RegisteredModel, name: &ModelName, version: Version) -> Wanted {
    match model.package(name, version) {
        Ok(package) => Wanted::Package(package),
        Err(error) => Wanted::Unready(error.to_string()),
    }
}

impl DesiredState {
    /// Wants one more version of this machine; the first one of a model is its default.
    pub fn add(&mut self, name: &ModelName, version: Version, wanted: Wanted) {
        self.want(name, version, (wanted, true));
    }

    /// Wants one more version; the first one of a model is its default, and says whether that is pinned.
    fn want(&mut self, name: &ModelName, version: Version, (wanted, pinned): (Wanted, bool)) {
        let model = self
            .models
            .entry(name.clone())
            .or_insert_with(|| DesiredModel {
                default: Some(version),
                pinned,
                ..DesiredModel::default()
            });
        model.versions.entry(version).or_insert(wanted);
    }

    /// Wants a model of which there is no version, for this reason, unless there is one after all.
    fn lack(&mut self, name: &ModelName, reason: String, pinned: bool) {
        self.models
            .entry(name.clone())
            .or_insert_with(|| DesiredModel {
                absent: Some(reason),
                pinned,
                ..DesiredModel::default()
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{RegisteredVersion, VersionStatus};

    fn name(text: &str) -> ModelName {
        ModelName::new(text).unwrap()
    }

    fn alias(text: &str) -> Alias {
        Alias::new(text).unwrap()
    }

    /// A model with versions 1 to `latest`; `pointers` such as `@champion=2` and `Production=1`.
    fn model(latest: u64, pointers: &[(&str, u64)]) -> RegisteredModel {
        let version = |number: u64| RegisteredVersion {
            status: VersionStatus::Ready,
            location: format!("at/{number}"),
            revision: number.to_string(),
            digest: None,
        };
        let mut model = RegisteredModel {
            latest: Some(Version(latest)),
            versions: (1..=latest).map(|n| (Version(n), version(n))).collect(),
            ..RegisteredModel::default()
        };
        for (pointer, version) in pointers {
            match pointer.parse().unwrap() {
                Pointer::Alias(alias) => model.aliases.insert(alias, Version(*version)),
                Pointer::Stage(stage) => model.stages.insert(stage, Version(*version)),
            };
        }
        model
    }

    fn state(models: &[(&str, RegisteredModel)]) -> RegistryState {
        let models = models.iter().map(|(n, model)| (name(n), model.clone()));
        RegistryState {
            models: models.collect(),
            ..RegistryState::default()
        }
    }

    fn follow(pointers: &[&str], filter: &str) -> Selection {
        Selection {
            follow: pointers.iter().map(|p| p.parse().unwrap()).collect(),
            filter: filter.parse().unwrap(),
            ..Selection::default()
        }
    }

    fn targets(uris: &[(&str, Option<&str>)]) -> Selection {
        let target = |(uri, serve_as): &(&str, Option<&str>)| Target {
            serve_as: serve_as.map(name),
            uri: uri.parse().unwrap(),
        };
        Selection {
            targets: uris.iter().map(target).collect(),
            ..Selection::default()
        }
    }

    fn versions(desired: &DesiredState, model: &str) -> (u64, Vec<u64>) {
        let model = &desired.models[&name(model)];
        let all = model.versions.keys().map(|version| version.0).collect();
        (model.default.unwrap().0, all)
    }

    #[test]
    fn what_may_be_missing_is_lacked_and_not_missed() {
        let mut selection = targets(&[
            ("models:/m@champion", Some("served")),
            ("models:/nobody/7", Some("optional")),
            ("models:/nobody/7", Some("needed")),
        ]);
        selection.optional = [name("optional")].into();
        assert!(selection.has_required());
        let state = state(&[("m", model(1, &[("@champion", 1)]))]);
        let missing = selection.missing(&state);
        assert_eq!(missing.len(), 1);
        let desired = selection.desired(&state, &BTreeMap::new());
        let names: Vec<_> = desired.models.keys().map(ModelName::as_str).collect();
        assert_eq!(names, ["optional", "served"]);
        let lacked = &desired.models[&name("optional")];
        let reason = "the registry does not have `models:/nobody/7`";
        assert_eq!(lacked.absent.as_deref(), Some(reason));
        assert!(
            selection.without_registry("away").is_none(),
            "one is needed"
        );
        selection.optional = ["optional", "served", "needed"].map(name).into();
        let without = selection.without_registry("away").unwrap();
        assert!(without.complete && without.models.len() == 3);
    }

    #[test]
    fn a_model_whose_records_cannot_be_read_may_be_wanted() {
        let mut broken = state(&[("m", model(1, &[("@champion", 1)]))]);
        let reason = || "garbage".to_owned();
        broken.broken = [(name("x"), reason()), (name("y"), reason())].into();
        let absent = |selection: &Selection| {
            let desired = selection.desired(&broken, &BTreeMap::new());
            let absent = desired.models.into_iter();
            let absent = absent.filter(|(_, model)| model.absent.is_some());
            absent.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(absent(&follow(&["@champion"], "")), ["x", "y"]);
        assert_eq!(absent(&follow(&["@champion"], "y*")), ["y"]);
        assert_eq!(absent(&follow(&["@champion"], "tag.team=a")), [""; 0]);
        let named = targets(&[("models:/x/1", Some("as"))]);
        assert_eq!(absent(&named), ["as"]);
        assert_eq!(named.unreadable(&broken), Some("garbage"));
    }

    #[test]
    fn the_first_followed_pointer_of_a_model_decides_its_default() {
        let state = state(&[
            ("both", model(3, &[("@champion", 3), ("Production", 2)])),
            ("stage", model(1, &[("Production", 1)])),
            ("neither", model(1, &[("Staging", 1)])),
        ]);
        let desired = follow(&["@champion", "Production"], "").desired(&state, &BTreeMap::new());
        assert_eq!(versions(&desired, "both"), (3, vec![2, 3]));
        assert_eq!(versions(&desired, "stage"), (1, vec![1]));
        assert!(!desired.models.contains_key(&name("neither")));
        let both = &desired.models[&name("both")];
        assert_eq!(both.aliases, [(alias("champion"), Version(3))].into());
        assert_eq!(both.stages, [(Stage::Production, Version(2))].into());
    }

    #[test]
    fn an_alias_that_is_not_followed_names_a_wanted_version_but_wants_none() {
        let state = state(&[(
            "m",
            model(3, &[("@champion", 3), ("@best", 3), ("@old", 1)]),
        )]);
        let desired = follow(&["@champion"], "").desired(&state, &BTreeMap::new());
        assert_eq!(versions(&desired, "m"), (3, vec![3]));
        let names: Vec<_> = desired.models[&name("m")].aliases.keys().collect();
        assert_eq!(names, [&alias("best"), &alias("champion")]);
    }

    #[test]
    fn targets_resolve_versions_latest_stages_aliases_and_other_names() {
        let state = state(&[("m", model(4, &[("@champion", 2), ("Staging", 3)]))]);
        for (uri, expected) in [
            ("models:/m/1", 1),
            ("models:/m/latest", 4),
            ("models:/m/staging", 3),
            ("models:/m@champion", 2),
        ] {
            let desired = targets(&[(uri, Some("other"))]).desired(&state, &BTreeMap::new());
            assert_eq!(
                versions(&desired, "other"),
                (expected, vec![expected]),
                "{uri}"
            );
        }
        let selection = targets(&[
            ("models:/m/9", None),
            ("models:/x@y", None),
            ("models:/m/1", None),
        ]);
        let missing: Vec<_> = selection
            .missing(&state)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(missing, ["models:/m/9", "models:/x@y"]);
    }

    #[test]
    fn a_version_without_complete_files_is_wanted_but_not_ready() {
        let mut unready = model(1, &[("@champion", 1)]);
        unready.versions.get_mut(&Version(1)).unwrap().status =
            VersionStatus::Unready("PENDING_REGISTRATION".to_owned());
        let desired =
            follow(&["@champion"], "").desired(&state(&[("m", unready)]), &BTreeMap::new());
        let wanted = &desired.models[&name("m")].versions[&Version(1)];
        assert_eq!(*wanted, Wanted::Unready("PENDING_REGISTRATION".to_owned()));
    }

    #[test]
    fn filters_take_names_and_tags() {
        let mut tagged = model(1, &[("@a", 1)]);
        tagged.tags.insert("team".to_owned(), "payments".to_owned());
        let state = state(&[
            ("fraud-eu", tagged),
            ("fraud-us", model(1, &[("@a", 1)])),
            ("x", model(1, &[("@a", 1)])),
        ]);
        let names = |filter: &str| -> Vec<String> {
            let desired = follow(&["@a"], filter).desired(&state, &BTreeMap::new());
            desired.models.keys().map(ToString::to_string).collect()
        };
        assert_eq!(names("fraud-*"), ["fraud-eu", "fraud-us"]);
        assert_eq!(names("name=*-us"), ["fraud-us"]);
        assert_eq!(names("fraud-*, tag.team=pay*"), ["fraud-eu"]);
        assert_eq!(names("tag.team=other"), [""; 0]);
        assert_eq!(names("f*d*s"), ["fraud-us"]);
        assert!("team=x".parse::<Filter>().is_err());
        assert!("tag.=x".parse::<Filter>().is_err());
    }

    #[test]
    fn the_query_asks_for_no_more_than_is_needed() {
        let query = targets(&[("models:/m/3", None), ("models:/n@a", None)]).query();
        assert!(!query.everything);
        assert_eq!(query.models, [name("m"), name("n")].into());
        assert_eq!(query.versions.len(), 1);
        assert!(follow(&["@a"], "").query().everything);
    }
}
