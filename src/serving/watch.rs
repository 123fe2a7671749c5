//! One request on its way past those who look at requests of its version.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::catalog::{Selector, VersionSelector};
use super::observer::{Arrival, Observed};
use super::request::{RequestContext, RequestId};
use super::servable::ServableHandle;
use crate::engine::Outputs;
use crate::error::ErrorKind;
use crate::model::Batch;
use crate::telemetry::Protocol;

/// One request on its way past the observers of its version.
pub(super) struct Watch {
    servable: ServableHandle,
    /// Those who want it, by their place.
    wanted: SmallVec<[(usize, f64); 2]>,
    seen: Observed,
}

impl Watch {
    /// `None` when nobody looks at requests of this version.
    pub(super) fn begin(
        servable: &ServableHandle,
        selector: &Selector,
        (protocol, started): (Protocol, Instant),
    ) -> Option<Self> {
        if servable.observers().is_empty() {
            return None;
        }
        let context = RequestContext::current();
        let seen = Observed {
            id: context.id.clone(),
            context,
            protocol,
            pointer: match &selector.version {
                VersionSelector::Pointer(pointer) => Some(pointer.clone()),
                VersionSelector::Default | VersionSelector::Exactly(_) => None,
            },
            started,
            took: Duration::ZERO,
            inputs: None,
            outputs: None,
            // What is dropped before anybody says how it ended was given up by its client.
            failure: Some(ErrorKind::Cancelled),
        };
        Some(Self {
            servable: Arc::clone(servable),
            wanted: SmallVec::new(),
            seen,
        })
    }

    /// The request was read; `id` is the one in its body.
    pub(super) fn decoded(&mut self, batch: &Batch, id: Option<RequestId>) {
        if let Some(id) = id.filter(|_| self.seen.id.is_made()) {
            self.seen.id = id;
        }
        self.ask(Some(batch));
    }

    /// Another version runs it, with the inputs in an order of its own.
    pub(super) fn moved_to(&mut self, servable: &ServableHandle, batch: Option<&Batch>) {
        self.servable = Arc::clone(servable);
        self.ask(batch);
    }

    /// Whether somebody holds the inputs until the end.
    pub(super) fn keeps_inputs(&self) -> bool {
        self.seen.inputs.is_some()
    }

    /// The engine answered.
    pub(super) fn answered(&mut self, outputs: &Outputs) {
        if !self.wanted.is_empty() {
            self.seen.outputs = Some(outputs.clone());
        }
    }

    /// The request ended.
    pub(super) fn finish(mut self, failure: Option<ErrorKind>) {
        self.seen.failure = failure;
    }

    fn ask(&mut self, batch: Option<&Batch>) {
        let arrival = Arrival {
            id: &self.seen.id,
            is_private: self.seen.context.is_private,
            rows: batch.map(Batch::rows),
            at: self.seen.started,
        };
        let observers = self.servable.observers().iter().enumerate();
        let wanted = observers.filter_map(|(place, observer)| {
            let share = observer.wants(&arrival)?;
            Some((place, share))
        });
        self.wanted = wanted.collect();
        self.seen.inputs = batch.filter(|_| !self.wanted.is_empty()).cloned();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let is_undecoded = self.seen.inputs.is_none() && self.seen.failure.is_some();
        if self.wanted.is_empty() && is_undecoded {
            self.ask(None);
        }
        if self.wanted.is_empty() {
            return;
        }
        if self.seen.failure.is_some() {
            self.seen.outputs = None;
        }
        let seen = Observed {
            took: self.seen.started.elapsed(),
            inputs: self.seen.inputs.take(),
            outputs: self.seen.outputs.take(),
            pointer: self.seen.pointer.take(),
            ..self.seen.clone()
        };
        let seen = Arc::new(seen);
        for (place, share) in self.wanted.drain(..) {
            if let Some(observer) = self.servable.observers().get(place) {
                observer.observe(Arc::clone(&seen), share);
            }
        }
    }
}
