//! What a record remembers of earlier runs, and leaves to the next one.

use std::collections::BTreeMap;

use super::Record;
use crate::lifecycle::policy::Phase;
use crate::model::Version;
use crate::registry::{PackageRef, PastRuns, Served, Wanted};
use crate::serving::Leases;

impl Record {
    /// Ends the beginning once each of its versions serves, or cannot. A version that is not known to be desired cannot take over.
    pub(crate) fn end_beginning(&mut self, leases: &Leases) -> bool {
        let (Some(beginning), Some(wish)) = (&self.beginning, &self.desired) else {
            return false;
        };
        let versions = beginning.desired(wish).versions.into_keys();
        let phases: Vec<Option<Phase>> = versions.map(|version| self.phase(version)).collect();
        let serves = self.phase(beginning.version()) == Some(Phase::Ready);
        let is_over = phases
            .iter()
            .all(|phase| matches!(phase, Some(Phase::Ready | Phase::Failed(_))));
        // While the desired state is unknown, the version that served before is better than none.
        if !is_over || (serves && wish.absent.is_some()) {
            return false;
        }
        self.beginning = None;
        self.forget_changed_packages(leases);
        true
    }

    /// What is known to be good of what serves now; `None` while that is not settled.
    fn proven(&self) -> Option<Served> {
        if self.beginning.is_some() {
            return None;
        }
        let probation = self.probation.as_ref();
        let proven = |version: Version| match probation {
            Some(probation) if probation.version == version => probation.fallback,
            _ => Some(version),
        };
        let package = |version: Version| match &self.slots.get(&version)?.wanted {
            Wanted::Package(package) if self.servable(version).is_some() => Some(package.clone()),
            _ => None,
        };
        let default = proven(self.paths.default?)?;
        let name = self.servable(default)?.id().name.clone();
        let mut packages: BTreeMap<Version, PackageRef> = [(default, package(default)?)].into();
        let mut lead = |version: &Version| {
            let version = proven(*version)?;
            packages.insert(version, package(version)?);
            Some(version)
        };
        let aliases = self.paths.aliases.iter();
        let aliases = aliases.filter_map(|(alias, version)| Some((alias.clone(), lead(version)?)));
        let aliases = aliases.collect();
        let stages = self.paths.stages.iter();
        let stages = stages.filter_map(|(stage, version)| Some((*stage, lead(version)?)));
        let stages = stages.collect();
        Some(Served {
            model: name,
            default,
            aliases,
            stages,
            packages,
        })
    }

    /// Writes down what the next start begins with, when that has changed.
    pub(crate) fn write_down(&mut self, past: &dyn PastRuns) {
        if let Some(served) = self.proven()
            && self.remembered.as_ref() != Some(&served)
        {
            past.save(served.clone());
            self.remembered = Some(served);
        }
    }
}
