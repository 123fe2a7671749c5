//! What the server can do once models begin to load.

use std::sync::Arc;

use super::{Admin, ModelHost};

/// The parts that come after the listeners: empty until they run.
#[derive(Clone, Default)]
pub struct Running {
    /// Decides against the registry.
    pub admin: Option<Arc<dyn Admin>>,
    /// Loads and unloads models by request, where a platform does that.
    pub host: Option<Arc<dyn ModelHost>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}
