//! What a registry holds, as far as serving needs to know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::uri::Which;
use crate::model::{Alias, ModelId, ModelName, Pointer, Stage, Version};

/// What to ask a registry for. One question for all models, so that polling stays cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Every registered model.
    pub everything: bool,
    /// These, beside or instead of all; one that does not exist is left out of the answer.
    pub models: BTreeSet<ModelName>,
    /// These versions must be in the answer's `versions` when they exist.
    pub versions: BTreeSet<ModelId>,
    /// All versions of the models, also those that no stage and no alias names.
    pub every_version: bool,
}

/// A whole answer: what is not in it does not exist. A part that could not be read is an error or [broken](Self::broken),
/// never an omission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryState {
    /// The models asked for that exist.
    pub models: BTreeMap<ModelName, RegisteredModel>,
    /// Models that exist and whose records cannot be read, with the reasons.
    #[serde(default)]
    pub broken: BTreeMap<ModelName, String>,
}

/// One registered model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredModel {
    /// Where each alias points.
    pub aliases: BTreeMap<Alias, Version>,
    /// The highest version in each stage that has one.
    pub stages: BTreeMap<Stage, Version>,
    /// The highest version.
    pub latest: Option<Version>,
    /// Tags of the model.
    pub tags: BTreeMap<String, String>,
    /// At least each version named above, and the requested ones.
    pub versions: BTreeMap<Version, RegisteredVersion>,
}

/// One version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredVersion {
    /// Whether its files are complete.
    pub status: VersionStatus,
    /// Where its files are, in the source's own terms.
    pub location: String,
    /// Changes when the files may have: a version number can be given again after a deletion.
    pub revision: String,
    /// SHA-256 of the package as `sha256:<hex>` ([`Package::digest`](crate::model::Package)), where the registry knows it.
    pub digest: Option<String>,
}

/// Whether a version can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionStatus {
    /// It can.
    Ready,
    /// Not, or not yet: the registry's words.
    Unready(String),
}

/// Where to get one package.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageRef {
    /// Its registered name and version.
    pub id: ModelId,
    /// See [`RegisteredVersion::location`].
    pub location: String,
    /// See [`RegisteredVersion::revision`].
    pub revision: String,
    /// See [`RegisteredVersion::digest`].
    pub digest: Option<String>,
}

/// Why a version has no package yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLoadable {
    /// The registry does not list it.
    #[error("version {0} is not in the registry's answer")]
    Missing(Version),
    /// It is not complete; in the registry's words.
    #[error("{0}")]
    Unready(String),
}

impl RegisteredModel {
    /// The version that is meant, if there is one.
    pub fn resolve(&self, which: &Which) -> Option<Version> {
        match which {
            Which::Version(version) => self.versions.contains_key(version).then_some(*version),
            Which::Latest => self.latest,
            Which::Pointer(pointer) => self.follow(pointer),
        }
    }

    /// Where an alias or stage points.
    pub fn follow(&self, pointer: &Pointer) -> Option<Version> {
        match pointer {
            Pointer::Alias(alias) => self.aliases.get(alias).copied(),
            Pointer::Stage(stage) => self.stages.get(stage).copied(),
        }
    }

    /// The package of `version`, once it can be loaded.
    ///
    /// # Errors
    /// [`NotLoadable`].
    pub fn package(&self, name: &ModelName, version: Version) -> Result<PackageRef, NotLoadable> {
        let registered = self.versions.get(&version);
        let registered = registered.ok_or(NotLoadable::Missing(version))?;
        match &registered.status {
            VersionStatus::Unready(reason) => Err(NotLoadable::Unready(reason.clone())),
            VersionStatus::Ready => Ok(PackageRef {
                id: ModelId {
                    name: name.clone(),
                    version,
                },
                location: registered.location.clone(),
                revision: registered.revision.clone(),
                digest: registered.digest.clone(),
            }),
        }
    }
}
