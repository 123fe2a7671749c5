//! The repository index: which models there are and where each version stands.

use serde::Serialize;

use crate::serving::{CatalogSnapshot, VersionEntry, VersionState};

/// One version.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::protocol) struct IndexRow {
    /// Its model.
    pub(in crate::protocol) name: String,
    /// Its number.
    pub(in crate::protocol) version: String,
    /// Where it stands, in the protocol's words.
    pub(in crate::protocol) state: &'static str,
    /// More, in ours.
    pub(in crate::protocol) reason: String,
}

/// Every version, or those that answer.
pub(in crate::protocol) fn rows(snapshot: &CatalogSnapshot, only_ready: bool) -> Vec<IndexRow> {
    let versions = snapshot.models.iter().flat_map(|(name, model)| {
        let versions = model.versions.iter();
        versions.map(move |(version, entry)| (name, version, entry))
    });
    let listed = versions.filter(|(_, _, entry)| !only_ready || answers(entry));
    let rows = listed.map(|(name, version, entry)| {
        let (state, reason) = state(entry);
        IndexRow {
            name: name.as_str().to_owned(),
            version: version.to_string(),
            state,
            reason,
        }
    });
    rows.collect()
}

fn answers(entry: &VersionEntry) -> bool {
    entry.state == VersionState::Ready && entry.servable.is_some()
}

fn state(entry: &VersionEntry) -> (&'static str, String) {
    match &entry.state {
        VersionState::New
        | VersionState::Fetching
        | VersionState::Verifying
        | VersionState::Compiling
        | VersionState::WarmingUp => ("LOADING", entry.state.label().replace('_', " ")),
        VersionState::Ready => ("READY", String::new()),
        VersionState::Draining => ("UNLOADING", String::new()),
        VersionState::Unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
        VersionState::Failed(reason) => ("UNAVAILABLE", reason.message.clone()),
    }
}
