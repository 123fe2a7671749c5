//! What requests hold in memory, read from their budget when somebody asks.

use std::sync::{Arc, OnceLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, Opts};

use crate::budget::{Budget, Refusals};

/// See the module. Clones look at one budget.
#[derive(Debug, Clone)]
pub(super) struct RequestMemory {
    budget: Arc<OnceLock<Budget>>,
    described: Families,
}

#[derive(Debug, Clone)]
struct Families {
    held: IntGauge,
    refused: IntCounterVec,
}

impl Families {
    fn new() -> Self {
        const WELL_FORMED: &str = "the name and the labels are well-formed constants";
        let held = IntGauge::new(
            "onstage_request_memory_bytes",
            "Bytes that requests hold, from their first byte until their answers are taken.",
        );
        let refused = Opts::new(
            "onstage_request_memory_refused_total",
            "Requests refused because they needed more memory than one request may hold (request), or than was left of `limits.memory` (process).",
        );
        Self {
            held: held.expect(WELL_FORMED),
            refused: IntCounterVec::new(refused, &["reason"]).expect(WELL_FORMED),
        }
    }
}

impl RequestMemory {
    /// Of no budget yet.
    pub(super) fn new() -> Self {
        Self {
            budget: Arc::default(),
            described: Families::new(),
        }
    }

    /// Reports this budget from here on.
    pub(super) fn watch(&self, budget: Budget) {
        // There is one, once.
        let _ = self.budget.set(budget);
    }
}

impl Collector for RequestMemory {
    fn desc(&self) -> Vec<&Desc> {
        let Families { held, refused } = &self.described;
        [held.desc(), refused.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Families { held, refused } = Families::new();
        let budget = self.budget.get();
        let used = budget.map_or(0, Budget::used);
        held.set(i64::try_from(used).unwrap_or(i64::MAX));
        let Refusals { request, process } = budget.map(Budget::refusals).unwrap_or_default();
        for (reason, count) in [("request", request), ("process", process)] {
            refused.with_label_values(&[reason]).inc_by(count);
        }
        [held.collect(), refused.collect()].concat()
    }
}
