//! Brings one version from its files to a servable, off the request path.

mod compiler;
mod context;
mod error;
mod job;
mod loader;
mod options;
mod package_loader;
mod request;
mod row_independence;
mod warm_up;

pub use compiler::Compiler;
pub use context::LoadContext;
pub(super) use context::{LoadEnd, LoadEvent, LoadUpdate, Phases};
pub use error::LoadError;
pub(super) use job::Job;
pub use loader::Loader;
pub use options::{BatchingOptions, ExamplePolicy, LoadLimits, LoadOptions, RowPolicy};
pub use package_loader::{Opened, PackageLoader, Supply};
pub use request::{Gate, LoadRequest, Loaded};
pub use warm_up::{WarmUp, Warmed};
