//! What a start begins with: the version that served before, until it serves again or cannot.
//!
//! From then on a restart is a running server whose registry has moved meanwhile: the same gate, the same probation, the
//! same way back.

use std::collections::BTreeMap;

use crate::model::Version;
use crate::registry::{DesiredModel, PackageRef, Served, Wanted};

/// A version that served before this process, while something else is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning(Served);

impl Beginning {
    /// `None` when a start begins with what is wanted anyway.
    pub(super) fn resume(served: Served, wish: &DesiredModel) -> Option<Self> {
        if wish.pinned {
            return None;
        }
        let is_wanted = |version: Version, package: &PackageRef| {
            wish.versions.get(&version) == Some(&Wanted::Package(package.clone()))
        };
        let all_wanted = served
            .packages
            .iter()
            .all(|(version, package)| is_wanted(*version, package));
        let same = wish.default == Some(served.default)
            && all_wanted
            && leads_alike(&served.aliases, &wish.aliases)
            && leads_alike(&served.stages, &wish.stages);
        (!same && served.packages.contains_key(&served.default)).then_some(Self(served))
    }

    /// The version of paths without one.
    pub(super) fn version(&self) -> Version {
        self.0.default
    }

    /// What is wanted for the beginning: the paths that are wanted now, leading to where they led.
    pub(super) fn desired(&self, wish: &DesiredModel) -> DesiredModel {
        let aliases = led(&self.0.aliases, &wish.aliases);
        let stages = led(&self.0.stages, &wish.stages);
        let needed = aliases.values().chain(stages.values());
        let needed = needed.chain([&self.0.default]);
        let versions = needed.filter_map(|version| {
            let package = self.0.packages.get(version)?.clone();
            Some((*version, Wanted::Package(package)))
        });
        DesiredModel {
            default: Some(self.0.default),
            versions: versions.collect(),
            aliases,
            stages,
            absent: None,
            pinned: false,
        }
    }
}

/// Whether pointers that are in both lead to the same versions.
fn leads_alike<K: Ord>(before: &BTreeMap<K, Version>, now: &BTreeMap<K, Version>) -> bool {
    let mut both = before.iter();
    both.all(|(key, version)| now.get(key).is_none_or(|wanted| wanted == version))
}

/// Where pointers led that are still wanted.
fn led<K: Ord + Clone>(
    before: &BTreeMap<K, Version>,
    now: &BTreeMap<K, Version>,
) -> BTreeMap<K, Version> {
    let kept = before.iter().filter(|(key, _)| now.contains_key(key));
    kept.map(|(key, version)| (key.clone(), *version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Alias, ModelId, ModelName};

    fn package(version: u64) -> PackageRef {
        PackageRef {
            id: ModelId {
                name: ModelName::new("m").unwrap(),
                version: Version(version),
            },
            location: format!("at/{version}"),
            revision: version.to_string(),
            digest: None,
        }
    }

    fn champion() -> Alias {
        Alias::new("champion").unwrap()
    }

    fn served(version: u64) -> Served {
        Served {
            model: ModelName::new("m").unwrap(),
            default: Version(version),
            aliases: [(champion(), Version(version))].into(),
            stages: BTreeMap::new(),
            packages: [(Version(version), package(version))].into(),
        }
    }

    fn wish(version: u64) -> DesiredModel {
        DesiredModel {
            default: Some(Version(version)),
            versions: [(Version(version), Wanted::Package(package(version)))].into(),
            aliases: [(champion(), Version(version))].into(),
            ..DesiredModel::default()
        }
    }

    #[test]
    fn a_start_begins_with_what_served_while_another_version_is_wanted() {
        let beginning = Beginning::resume(served(1), &wish(2)).unwrap();
        assert_eq!(beginning.desired(&wish(2)), wish(1));
        assert_eq!(Beginning::resume(served(2), &wish(2)), None);
        let pinned = DesiredModel {
            pinned: true,
            ..wish(2)
        };
        assert_eq!(Beginning::resume(served(1), &pinned), None);
    }

    #[test]
    fn other_files_under_the_same_number_are_another_version() {
        let mut again = wish(1);
        let anew = PackageRef {
            revision: "another".to_owned(),
            ..package(1)
        };
        again.versions = [(Version(1), Wanted::Package(anew))].into();
        assert!(Beginning::resume(served(1), &again).is_some());
    }

    #[test]
    fn aliases_that_are_gone_lead_nowhere_and_need_no_files() {
        let mut before = served(1);
        let old = Alias::new("old").unwrap();
        before.aliases.insert(old.clone(), Version(7));
        before.packages.insert(Version(7), package(7));
        let beginning = Beginning::resume(before.clone(), &wish(2)).unwrap();
        assert_eq!(beginning.desired(&wish(2)), wish(1));
        let mut both = wish(2);
        both.aliases.insert(old.clone(), Version(8));
        let desired = beginning.desired(&both);
        assert_eq!(desired.aliases[&old], Version(7));
        assert_eq!(desired.versions.len(), 2);
    }

    #[test]
    fn what_is_not_known_to_be_wanted_may_be_what_served() {
        let absent = DesiredModel {
            absent: Some("garbage".to_owned()),
            ..DesiredModel::default()
        };
        let beginning = Beginning::resume(served(1), &absent).unwrap();
        let desired = beginning.desired(&absent);
        assert_eq!(desired.default, Some(Version(1)));
        assert_eq!(desired.absent, None);
    }
}
