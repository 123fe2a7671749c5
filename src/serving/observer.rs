//! Those who look at requests after they were answered: what the model saw, what it said, and under which circumstances.
//!
//! A version has the observers that its loader gave it. Where there are none, a request pays for one comparison; where
//! there are, each says before the run whether it wants this request, as nothing is kept for those that nobody wants.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::request::{RequestContext, RequestId};
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
