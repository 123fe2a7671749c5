//! From a name in a request to a loaded version of a model, and the one place where a request is run and measured.

mod admin;
mod caller;
mod catalog;
mod evidence;
mod exchange;
mod host;
mod lease;
mod observation;
mod observer;
mod request;
mod running;
mod servable;
mod service;
mod state;
mod traffic;
mod watch;

pub use admin::{Admin, AdminError, Cause, HoldRecord, SwapOutcome, SwapRecord};
pub use caller::Caller;
pub use catalog::{
    Catalog, CatalogSnapshot, LookupError, ModelEntry, Selector, VersionEntry, VersionSelector,
};
pub use evidence::{Counts, Evidence};
pub use host::{HostError, HostedModel, ModelHost};
pub use lease::{Lease, Leases, Released, Remains};
pub use observation::Observation;
pub use observer::{Arrival, Observable, Observed, Observer, Observers};
pub use request::{RawParts, RequestContext, RequestId};
pub use running::Running;
pub use servable::{
    Confinement, Health, Limits, RowSharing, Servable, ServableHandle, ServableParts,
};
pub use service::{Answered, Codec, Demand, InferenceService, RequestOptions, ServeError};
pub use state::{ExampleError, FailureReason, VersionState};
pub use traffic::meets_challenger;
