//! From a package on disk to a servable in the catalog.

mod loader;

pub use loader::{LoadError, LoadOptions, Loader, WarmUp};
