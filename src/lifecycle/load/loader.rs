//! The seam between the manager, which decides what to load, and whatever loads it.

use async_trait::async_trait;

use super::context::LoadContext;
use super::error::LoadError;
use super::request::{LoadRequest, Loaded};

/// Loads versions. The manager decides which, and when.
#[async_trait]
pub trait Loader: Send + Sync {
    /// Loads one version, and reports each step to `context`.
    ///
    /// # Errors
    /// [`LoadError`].
    ///
    /// # Cancel safety
    /// The manager drops the future of a load that it has cancelled. What still runs then watches
    /// [`LoadContext::cancel`], and frees what it has.
    async fn load(&self, request: LoadRequest, context: &LoadContext) -> Result<Loaded, LoadError>;
}
