//! Those who look at requests after they were answered: what the model saw, what it said, and under which circumstances.
//!
//! A version has the observers that its loader gave it. Where there are none, a request pays for one comparison; where
//! there are, each says before the run whether it wants this request, as nothing is kept for those that nobody wants.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::catalog::{Selector, VersionSelector};
use super::request::{RequestContext, RequestId};
use super::servable::ServableHandle;
use crate::engine::Outputs;
use crate::error::ErrorKind;
use crate::model::{Batch, Package, Pointer, ResponseOutput, Signature};
use crate::telemetry::Protocol;

/// Looks at requests of one version.
pub trait Observer: Send + Sync + fmt::Debug {
    /// The share of requests like this one, or of their rows, that it wants, when this is one of them; `None` when it is
    /// not. Asked before each run: it must cost next to nothing, and never wait.
    fn wants(&self, arrival: &Arrival<'_>) -> Option<f64>;

    /// Takes a request that it wanted, on the thread of the connection and just before the answer is sent: what takes
    /// longer than to put it into a queue is for a task of its own. It must not wait, and may drop what it has no room for.
    /// `share` is what it said.
    fn observe(&self, seen: Arc<Observed>, share: f64);
}

/// Makes the observers of versions.
pub trait Observers: Send + Sync {
    /// What looks at the requests of this version; `None` when nothing does.
    fn observer(&self, version: &Observable<'_>) -> Option<Arc<dyn Observer>>;
}

/// A version that is about to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Observable<'a> {
    /// Its files, under the name and the version that it is served as.
    pub package: &'a Package,
    /// What its graph takes and gives, in the order of [`Observed::inputs`] and [`Observed::outputs`].
    pub signature: &'a Signature,
    /// Which outputs answer a scoring request.
    pub response: ResponseOutput,
}

/// A request that is about to run, or failed before it could.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Its id.
    pub id: &'a RequestId,
    /// Whether its client asked that nothing of it be kept.
    pub is_private: bool,
    /// How many rows it has; `None` when it failed before that was known.
    pub rows: Option<usize>,
    /// When it came in.
    pub at: Instant,
}

/// A request that has been answered, has failed or was given up.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Who sent it, and what it asks of observers.
    pub context: RequestContext,
    /// Its id: that of its headers, else of its body, else one that was made.
    pub id: RequestId,
    /// How it came in.
    pub protocol: Protocol,
    /// The alias or the stage that it asked for.
    pub pointer: Option<Pointer>,
    /// When it came in.
    pub started: Instant,
    /// How long it took, without reading its body and writing its answer.
    pub took: Duration,
    /// What the graph got, after the schema was enforced, in the order of the signature; `None` when it failed before. A
    /// number that was absent or null is a NaN of [its own](crate::tensor::Absent). What this holds stays charged to
    /// the memory of the request.
    pub inputs: Option<Batch>,
    /// What the graph gave, in the order of the signature; `None` when it failed.
    pub outputs: Option<Outputs>,
    /// How it failed.
    pub failure: Option<ErrorKind>,
}

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
