//! When a server may begin: what must serve first, and what cannot be missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;

use crate::model::{ModelId, ModelName};
use crate::registry::local_packages::SHOWN;
use crate::serving::{CatalogSnapshot, Servable, VersionState};

/// What the server cannot begin without.
#[derive(Debug, Default)]
pub struct Requirements {
    /// Of each of these one model must serve.
    pub groups: Vec<BTreeSet<ModelName>>,
    /// Versions that a required model can be without.
    pub spare: BTreeSet<ModelId>,
}

impl Requirements {
    /// The servables, once nothing more happens to what was wanted at the start.
    ///
    /// # Errors
    /// Why what cannot be missing cannot be served.
    pub fn settled(
        &self,
        snapshot: &CatalogSnapshot,
    ) -> anyhow::Result<Option<Vec<Arc<Servable>>>> {
        let mut servables = Vec::new();
        let mut pending = !snapshot.known;
        for (name, model) in &snapshot.models {
            for (version, entry) in &model.versions {
                let id = ModelId {
                    name: name.clone(),
                    version: *version,
                };
                // What serves in its place, as before this process, is good enough to begin with.
                let is_spare = self.spare.contains(&id) || model.instead_of.is_some();
                match &entry.state {
                    VersionState::Ready => servables.extend(entry.servable.clone()),
                    VersionState::Unloaded => {}
                    state => match state.reason() {
                        Some(reason) if model.required && !is_spare => bail!(
                            "cannot serve model {name} version {version}: {}",
                            reason.detail
                        ),
                        Some(_) => {}
                        None => pending |= !model.given_up && model.instead_of.is_none(),
                    },
                }
            }
        }
        for group in &self.groups {
            if let Some(reasons) = failed_as_a_whole(group, snapshot) {
                bail!("{reasons}");
            }
        }
        pending |= !snapshot.is_settled();
        Ok((!pending).then_some(servables))
    }
}

/// Why none of these models serves, once that is certain.
fn failed_as_a_whole(group: &BTreeSet<ModelName>, snapshot: &CatalogSnapshot) -> Option<String> {
    let mut reasons = Vec::new();
    for name in group {
        let model = snapshot.models.get(name)?;
        for (version, entry) in &model.versions {
            let reason = entry.state.reason()?;
            if !entry.state.is_settled() && !model.given_up {
                return None;
            }
            reasons.push(format!("{name} version {version}: {}", reason.detail));
        }
    }
    let more = match reasons.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    reasons.truncate(SHOWN);
    (!reasons.is_empty()).then(|| format!("cannot serve model {}{more}", reasons.join("; model ")))
}
