//! What the management API answers.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::model::ModelName;
use crate::serving::{CatalogSnapshot, HoldRecord, ModelEntry, SwapRecord, VersionEntry};

/// `GET /admin/models`
#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) ready: bool,
    pub(super) models: Vec<Model>,
}

/// `GET /admin/models/{model}`
#[derive(Debug, Serialize)]
pub(super) struct Model {
    name: String,
    /// The version behind paths without one, when it can answer.
    serving: Option<String>,
    required: bool,
    hold: Option<Hold>,
    aliases: BTreeMap<String, String>,
    stages: BTreeMap<String, String>,
    versions: Vec<Version>,
}

/// A manual decision; without a version it keeps the model unloaded.
#[derive(Debug, Serialize)]
struct Hold {
    version: Option<String>,
    since: String,
}

#[derive(Debug, Serialize)]
struct Version {
    version: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Failure {
    reason: &'static str,
    message: String,
    attempt: u32,
    retry_at: Option<String>,
}

/// `GET /admin/history`
#[derive(Debug, Serialize)]
pub(super) struct History {
    pub(super) swaps: Vec<Swap>,
}

/// One change, or refused change, of the version that serves.
#[derive(Debug, Serialize)]
pub(super) struct Swap {
    at: String,
    model: String,
    from: Option<String>,
    to: Option<String>,
    cause: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seconds: f64,
    /// Seconds for each phase.
    phases: BTreeMap<&'static str, f64>,
}

pub(super) fn models(snapshot: &CatalogSnapshot, holds: &[HoldRecord]) -> Vec<Model> {
    let models = snapshot.models.iter();
    models
        .map(|(name, entry)| model(name, entry, holds))
        .collect()
}

pub(super) fn model(name: &ModelName, entry: &ModelEntry, holds: &[HoldRecord]) -> Model {
    let hold = holds.iter().find(|hold| hold.model == *name);
    let serving = entry.serving();
    Model {
        name: name.as_str().to_owned(),
        serving: serving.map(|version| version.to_string()),
        required: entry.required,
        hold: hold.map(|hold| Hold {
            version: hold.version.map(|version| version.to_string()),
            since: time(hold.since),
        }),
        aliases: pointers(&entry.aliases),
        stages: pointers(&entry.stages),
        versions: entry
            .versions
            .iter()
            .map(|(number, entry)| version(number.to_string(), entry))
            .collect(),
    }
}

fn pointers<K: ToString, V: ToString>(pointers: &BTreeMap<K, V>) -> BTreeMap<String, String> {
    pointers
        .iter()
        .map(|(name, version)| (name.to_string(), version.to_string()))
        .collect()
}

fn version(version: String, entry: &VersionEntry) -> Version {
    let failure = entry.state.reason().map(|reason| Failure {
        reason: reason.label,
        message: reason.detail.clone(),
        attempt: reason.attempt,
        retry_at: reason.retry_at.map(time),
    });
    let servable = entry.servable.as_ref();
    Version {
        version,
        state: entry.state.label(),
        failure,
        engine: servable.map(|servable| servable.engine()),
        memory_bytes: servable.map(|servable| servable.footprint()),
        digest: servable.map(|servable| servable.package().digest.clone()),
    }
}

pub(super) fn swap(swap: &SwapRecord) -> Swap {
    let phases = swap.phases.iter();
    let phases: BTreeMap<&'static str, f64> = phases
        .map(|(phase, took)| (*phase, took.as_secs_f64()))
        .collect();
    Swap {
        at: time(swap.at),
        model: swap.model.as_str().to_owned(),
        from: swap.from.map(|version| version.to_string()),
        to: swap.to.map(|version| version.to_string()),
        cause: swap.cause.as_str(),
        outcome: swap.outcome.label(),
        reason: swap.outcome.reason().map(str::to_owned),
        // The sum of nothing is −0 to the standard library.
        seconds: phases.values().fold(0.0, |sum, seconds| sum + seconds),
        phases,
    }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
