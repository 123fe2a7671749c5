//! What a load begins with, and what comes of it.

use std::sync::Arc;

use super::error::LoadError;
use super::options::LoadOptions;
use crate::model::{ModelId, Package};
use crate::registry::{Lease, Wanted};
use crate::serving::Servable;

/// One version to load.
pub struct LoadRequest {
    /// Which version.
    pub id: ModelId,
    /// Where it comes from.
    pub wanted: Wanted,
    /// How it is loaded.
    pub options: LoadOptions,
    /// Present when it takes the place of a version that serves.
    pub gate: Option<Gate>,
    /// Whether an operator retries it although earlier loads of it never returned.
    pub insisted: bool,
    /// Whether other versions serve requests meanwhile, which must not feel the load.
    pub background: bool,
}

/// Decides whether a candidate may take the place of what serves.
pub type Gate = Arc<dyn Fn(&Package) -> Result<(), LoadError> + Send + Sync>;

/// A version that can serve. Its series go with it, unless the manager keeps it: a load may end when nobody wants it any
/// more.
pub struct Loaded(Option<Parts>);

type Parts = (Arc<Servable>, Option<Lease>, Option<String>);

impl Loaded {
    /// A loaded version. `files` keeps its files in the cache, where their name is `content`.
    pub fn new(servable: Arc<Servable>, files: Option<Lease>, content: Option<String>) -> Self {
        Self(Some((servable, files, content)))
    }

    /// The name of the engine that runs it.
    pub(super) fn engine(&self) -> &'static str {
        self.0
            .as_ref()
            .map_or("", |(servable, ..)| servable.engine())
    }

    /// The version, what keeps its files, and their name.
    pub(crate) fn keep(mut self) -> Parts {
        self.0.take().expect("only this takes it, once")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Some((servable, ..)) = &self.0 {
            servable.metrics().remove();
        }
    }
}

impl std::fmt::Debug for LoadRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadRequest")
            .field("id", &self.id)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}
