//! What models did since they were loaded.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::error::OipError;
use crate::serving::{CatalogSnapshot, Selector, Servable, ServableHandle, VersionSelector};
use crate::telemetry::Sum;

/// The answer to a question for statistics.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Statistics {
    /// One for each loaded version.
    pub(crate) model_stats: Vec<ModelStatistics>,
}

/// One version.
#[derive(Debug, Serialize)]
pub(crate) struct ModelStatistics {
    /// Its model.
    pub(crate) name: String,
    /// Its number.
    pub(crate) version: String,
    /// Milliseconds since the epoch; 0 for never.
    pub(crate) last_inference: u64,
    /// Rows run by the engine.
    pub(crate) inference_count: u64,
    /// Calls of the engine.
    pub(crate) execution_count: u64,
    /// By the part of a request's way.
    pub(crate) inference_stats: InferStatistics,
    /// Of models that answer one request several times; there are none.
    pub(crate) response_stats: BTreeMap<String, ()>,
    /// By the rows of a call.
    pub(crate) batch_stats: Vec<BatchStatistics>,
    /// What it holds.
    pub(crate) memory_usage: [MemoryUsage; 1],
}

/// How often, and how long together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct StatisticDuration {
    /// How often.
    pub(crate) count: u64,
    /// Nanoseconds.
    pub(crate) ns: u64,
}

/// The parts of a request's way.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct InferStatistics {
    /// Answered requests, from arrival to answer.
    pub(crate) success: StatisticDuration,
    /// Requests without an answer.
    pub(crate) fail: StatisticDuration,
    /// The wait for the engine.
    pub(crate) queue: StatisticDuration,
    /// From the message to the tensors.
    pub(crate) compute_input: StatisticDuration,
    /// Calls of the engine.
    pub(crate) compute_infer: StatisticDuration,
    /// From the outputs to the message.
    pub(crate) compute_output: StatisticDuration,
    /// There is no cache.
    pub(crate) cache_hit: StatisticDuration,
    /// There is no cache.
    pub(crate) cache_miss: StatisticDuration,
}

/// The calls of one number of rows; requests are read and written outside of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct BatchStatistics {
    /// The rows.
    pub(crate) batch_size: u64,
    /// Nothing.
    pub(crate) compute_input: StatisticDuration,
    /// The calls.
    pub(crate) compute_infer: StatisticDuration,
    /// Nothing.
    pub(crate) compute_output: StatisticDuration,
}

/// Memory of one kind.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct MemoryUsage {
    /// `CPU`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Which device.
    pub(crate) id: i64,
    /// How much.
    pub(crate) byte_size: u64,
}

impl From<Sum> for StatisticDuration {
    fn from(Sum { count, ns }: Sum) -> Self {
        Self { count, ns }
    }
}

/// Of every loaded version.
pub(crate) fn all(snapshot: &CatalogSnapshot) -> Statistics {
    let versions = snapshot
        .models
        .values()
        .flat_map(|model| model.versions.values());
    of(versions.filter_map(|entry| entry.servable.as_ref()))
}

/// Of one version, or of all loaded versions of one model. Nothing is loaded for it.
///
/// # Errors
/// When none is loaded.
pub(crate) fn selected(
    snapshot: &CatalogSnapshot,
    selector: &Selector,
) -> Result<Statistics, OipError> {
    if selector.version == VersionSelector::Default {
        let model = selector.model.as_ref();
        let model = model.and_then(|model| snapshot.models.get(model));
        let versions = model.into_iter().flat_map(|model| model.versions.values());
        let statistics = of(versions.filter_map(|entry| entry.servable.as_ref()));
        if !statistics.model_stats.is_empty() {
            return Ok(statistics);
        }
    }
    Ok(of([&snapshot.lookup(selector)?]))
}

fn of<'s>(servables: impl IntoIterator<Item = &'s ServableHandle>) -> Statistics {
    Statistics {
        model_stats: servables
            .into_iter()
            .map(|servable| version(servable))
            .collect(),
    }
}

fn version(servable: &Servable) -> ModelStatistics {
    let totals = servable.metrics().totals();
    let batch = |&(batch_size, runs): &(u64, Sum)| BatchStatistics {
        batch_size,
        compute_input: StatisticDuration::default(),
        compute_infer: runs.into(),
        compute_output: StatisticDuration::default(),
    };
    // Clients take the difference of two moments while requests run, and insist that each part of the way was gone as
    // often as the others: by the requests that came to its end. Those of one call share its time.
    let requests = totals.success.count;
    let part = |sum: Sum| StatisticDuration {
        count: requests,
        ns: sum.ns,
    };
    let asked = totals.success.count + totals.fail.count > 0;
    ModelStatistics {
        name: servable.id().name.as_str().to_owned(),
        version: servable.id().version.to_string(),
        last_inference: if asked { milliseconds(servable) } else { 0 },
        inference_count: totals.rows,
        execution_count: totals.run.count,
        inference_stats: InferStatistics {
            success: totals.success.into(),
            fail: totals.fail.into(),
            queue: part(totals.queue),
            compute_input: part(totals.decode),
            compute_infer: part(totals.run),
            compute_output: part(totals.encode),
            ..InferStatistics::default()
        },
        response_stats: BTreeMap::new(),
        batch_stats: totals.batches.iter().map(batch).collect(),
        memory_usage: [MemoryUsage {
            kind: "CPU",
            id: 0,
            byte_size: servable.footprint(),
        }],
    }
}

fn milliseconds(servable: &Servable) -> u64 {
    let date = servable.health().last_used_date();
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
