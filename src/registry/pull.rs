//! Which versions of a registry to copy into another one: pure, like [`Selection::desired`].

use std::collections::{BTreeMap, BTreeSet};

use super::state::{PackageRef, RegisteredModel, RegistryState};
use super::uri::{ModelUri, Which};
use super::{Selection, SourceError};
use crate::model::{ModelId, ModelName, Pointer, Version};

/// One version to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Where its files are.
    pub package: PackageRef,
    /// The requested aliases and stages that point to it.
    pub pointers: BTreeSet<Pointer>,
    /// Whether a target names it, so that it cannot be left out.
    pub named: bool,
}

/// Everything to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulls {
    /// By name and version.
    pub versions: BTreeMap<ModelId, Pull>,
    /// Versions that are followed and not complete in the registry, with its words.
    pub unready: BTreeMap<ModelId, String>,
    /// Models whose records cannot be read, and that might be followed.
    pub broken: BTreeMap<ModelName, String>,
}

impl Selection {
    /// What to copy, given what the registry holds.
    ///
    /// # Errors
    /// [`SourceError`] for a target that the registry does not have, that is not complete, or that has no number.
    pub fn pulls(&self, state: &RegistryState) -> Result<Pulls, SourceError> {
        let mut pulls = Pulls::default();
        for target in &self.targets {
            let ModelUri::Registered { name, which } = &target.uri else {
                return Err(SourceError::Unsupported(format!(
                    "`{}` cannot be copied into a registry of files, whose versions have a name and a number: register it \
                     first, and name it as `models:/NAME/VERSION`",
                    target.uri
                )));
            };
            if let Some(reason) = state.broken.get(name) {
                return Err(SourceError::Invalid(format!(
                    "the registry's records of model `{name}` cannot be read: {reason}"
                )));
            }
            let model = state.models.get(name);
            let found = model.and_then(|model| Some((model, model.resolve(which)?)));
            let Some((model, version)) = found else {
                return Err(SourceError::NotFound(format!(
                    "the registry does not have `{}`",
                    target.uri
                )));
            };
            let pointer = match which {
                Which::Pointer(pointer) => Some(pointer),
                Which::Version(_) | Which::Latest => None,
            };
            let chosen = Chosen {
                name,
                model,
                version,
                pointer,
            };
            if let Err((id, reason)) = pulls.add(chosen, true) {
                return Err(SourceError::NotFound(format!(
                    "`{}` is version {}, which is not complete in the registry: {reason}",
                    target.uri, id.version
                )));
            }
        }
        if !self.follow.is_empty() {
            pulls.broken = state.broken.clone();
        }
        let followed = state.models.iter();
        for (name, model) in followed.filter(|(name, model)| self.filter.passes(name, model)) {
            for pointer in &self.follow {
                let Some(version) = model.follow(pointer) else {
                    continue;
                };
                let chosen = Chosen {
                    name,
                    model,
                    version,
                    pointer: Some(pointer),
                };
                if let Err((id, reason)) = pulls.add(chosen, false) {
                    pulls.unready.insert(id, reason);
                }
            }
        }
        Ok(pulls)
    }
}

/// A version of a model, and what points to it.
struct Chosen<'s> {
    name: &'s ModelName,
    model: &'s RegisteredModel,
    version: Version,
    pointer: Option<&'s Pointer>,
}

impl Pulls {
    /// The version and the registry's words when it is not complete.
    fn add(&mut self, chosen: Chosen<'_>, named: bool) -> Result<(), (ModelId, String)> {
        let Chosen {
            name,
            model,
            version,
            pointer,
        } = chosen;
        let id = ModelId {
            name: name.clone(),
            version,
        };
        let package = match model.package(name, version) {
            Ok(package) => package,
            Err(error) => return Err((id, error.to_string())),
        };
        let pull = self.versions.entry(id).or_insert_with(|| Pull {
            package,
            pointers: BTreeSet::new(),
            named: false,
        });
        pull.pointers.extend(pointer.cloned());
        pull.named |= named;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{RegisteredVersion, Target, VersionStatus};

    /// `iris` has versions 1 to 3, of which 3 is not complete.
    fn state() -> RegistryState {
        let version = |number| {
            let status = match number {
                3 => VersionStatus::Unready("PENDING".to_owned()),
                _ => VersionStatus::Ready,
            };
            let registered = RegisteredVersion {
                status,
                location: format!("place {number}"),
                revision: "r".to_owned(),
                digest: None,
            };
            (Version(number), registered)
        };
        let model = RegisteredModel {
            aliases: [
                ("champion".to_owned(), Version(1)),
                ("soon".to_owned(), Version(3)),
            ]
            .map(|(alias, version)| (crate::model::Alias::new(alias).unwrap(), version))
            .into(),
            stages: [(crate::model::Stage::Production, Version(1))].into(),
            latest: Some(Version(2)),
            versions: [1, 2, 3].map(version).into(),
            ..RegisteredModel::default()
        };
        RegistryState {
            models: [(ModelName::new("iris").unwrap(), model)].into(),
            ..RegistryState::default()
        }
    }

    fn pulls(targets: &[&str], follow: &[&str]) -> Result<Pulls, SourceError> {
        let target = |uri: &&str| Target {
            serve_as: None,
            uri: uri.parse().unwrap(),
        };
        let selection = Selection {
            targets: targets.iter().map(target).collect(),
            follow: follow.iter().map(|text| text.parse().unwrap()).collect(),
            ..Selection::default()
        };
        selection.pulls(&state())
    }

    fn shown(pulls: &Pulls) -> Vec<String> {
        let shown = |(id, pull): (&ModelId, &Pull)| {
            let pointers: Vec<String> = pull.pointers.iter().map(ToString::to_string).collect();
            format!("{} [{}] {}", id.version, pointers.join(" "), pull.named)
        };
        pulls.versions.iter().map(shown).collect()
    }

    #[test]
    fn a_version_comes_with_the_pointers_that_were_asked_for_and_no_others() {
        let of = |targets: &[&str], follow: &[&str]| shown(&pulls(targets, follow).unwrap());
        assert_eq!(of(&["models:/iris/1"], &[]), ["1 [] true"]);
        assert_eq!(of(&["models:/iris/latest"], &[]), ["2 [] true"]);
        assert_eq!(of(&["models:/iris@champion"], &[]), ["1 [@champion] true"]);
        assert_eq!(
            of(&["models:/iris/2"], &["Production", "@champion"]),
            ["1 [@champion Production] false", "2 [] true"]
        );
    }

    #[test]
    fn what_cannot_be_copied_is_an_error_when_named_and_left_out_when_followed() {
        for (target, reason) in [
            ("models:/iris/7", "does not have `models:/iris/7`"),
            (
                "models:/rose@champion",
                "does not have `models:/rose@champion`",
            ),
            (
                "models:/iris@soon",
                "version 3, which is not complete in the registry: PENDING",
            ),
            ("runs:/abc/model", "register it first"),
        ] {
            let error = pulls(&[target], &[]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let followed = pulls(&[], &["@soon", "@champion"]).unwrap();
        assert_eq!(shown(&followed), ["1 [@champion] false"]);
        assert_eq!(followed.unready.len(), 1);
    }
}
