//! The manager in a test.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::lifecycle::manager::Manager;
use crate::model::ModelName;

/// What the manager has done, and what it holds.
#[derive(Debug, Default)]
pub(crate) struct Work(Mutex<Seen>);

/// See [`Work`].
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) decided: BTreeMap<ModelName, usize>,
    pub(super) shown: BTreeMap<ModelName, usize>,
}

impl Work {
    pub(crate) fn decided(&self, model: &ModelName) {
        *self.0.lock().decided.entry(model.clone()).or_default() += 1;
    }

    pub(crate) fn shown(&self, model: &ModelName) {
        *self.0.lock().shown.entry(model.clone()).or_default() += 1;
    }

    pub(crate) fn see(&self, _manager: &Manager) {}
}
