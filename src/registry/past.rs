//! What earlier runs of the server left for the next one: what served last, and loads that never returned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::PackageRef;
use crate::model::{Alias, ModelName, Stage, Version};

/// What served of one model and is known to be good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The name that it is served under.
    pub model: ModelName,
    /// The version of paths without one.
    pub default: Version,
    /// Where its aliases led.
    pub aliases: BTreeMap<Alias, Version>,
    /// Where its stages led.
    pub stages: BTreeMap<Stage, Version>,
    /// Where each of these versions comes from.
    pub packages: BTreeMap<Version, PackageRef>,
}

/// Outlives the process. Writing never waits for a disk; reading may.
pub trait PastRuns: Send + Sync {
    /// What served last, by the name of the model. Blocking.
    fn served(&self) -> BTreeMap<ModelName, Served>;

    /// Remembers it, and keeps its files in the cache.
    fn save(&self, served: Served);

    /// Forgets a model that is no longer wanted.
    fn forget(&self, model: &ModelName);

    /// A load of these files begins. Blocking.
    fn load_begins(&self, content: &str);

    /// It has returned, whatever came of it. Blocking.
    fn load_ends(&self, content: &str);

    /// These files have answered requests: from now on a load of them may fail to return as often as it will.
    fn has_served(&self, content: &str);

    /// The process ends in an orderly way: loads that have not returned by then are nobody's fault. Blocking.
    fn stop(&self);
}
