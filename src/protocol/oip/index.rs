//! The repository index: which models there are and where each version stands.

use serde::Serialize;

use crate::model::ModelName;
use crate::serving::{CatalogSnapshot, VersionEntry, VersionState};

/// One version.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IndexRow {
    /// Its model.
    pub(crate) name: String,
    /// Its number.
    pub(crate) version: String,
    /// Where it stands, in the protocol's words.
    pub(crate) state: &'static str,
    /// More, in ours.
    pub(crate) reason: String,
}

/// Every version, or those that answer.
pub(crate) fn rows(snapshot: &CatalogSnapshot, only_ready: bool) -> Vec<IndexRow> {
    let rows = snapshot.models.iter().flat_map(|(name, model)| {
        let versions = model.versions.iter();
        let listed = versions.filter(|(_, entry)| !only_ready || answers(entry));
        let rows = listed.map(|(version, entry)| row(name, version.to_string(), state(entry)));
        let absent = model.absent.iter().filter(|_| !only_ready);
        let absent = absent.map(|reason| row(name, String::new(), ("UNAVAILABLE", reason.clone())));
        rows.chain(absent).collect::<Vec<_>>()
    });
    rows.collect()
}

fn row(name: &ModelName, version: String, (state, reason): (&'static str, String)) -> IndexRow {
    IndexRow {
        name: name.as_str().to_owned(),
        version,
        state,
        reason,
    }
}

fn answers(entry: &VersionEntry) -> bool {
    let servable = entry.servable.as_ref();
    let takes_requests = servable.is_some_and(|own| own.batcher().refusal().is_none());
    entry.state == VersionState::Ready && takes_requests
}

fn state(entry: &VersionEntry) -> (&'static str, String) {
    let refusal = entry
        .servable
        .as_ref()
        .and_then(|own| own.batcher().refusal());
    if let Some(reason) = refusal {
        return ("UNAVAILABLE", reason.to_string());
    }
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
        VersionState::Unsupported(reason) => {
            ("UNAVAILABLE", format!("unsupported: {}", reason.message))
        }
    }
}
