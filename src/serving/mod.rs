//! From a name in a request to a loaded version of a model, and the one place where a request is run and measured.

mod admin;
mod aside;
mod catalog;
mod host;
mod servable;
mod service;
mod state;

pub use admin::{Admin, AdminError, Cause, HoldRecord, SwapOutcome, SwapRecord};
pub use aside::Aside;
pub use catalog::{
    Catalog, CatalogSnapshot, LookupError, ModelEntry, Selector, VersionEntry, VersionSelector,
};
pub use host::{HostError, HostedModel, ModelHost};
pub use servable::{Limits, RowSharing, Servable, ServableHandle, Vitals};
pub use service::{Answered, Codec, Demand, InferenceService, ServeError, Wishes};
pub use state::{FailureReason, VersionState};
