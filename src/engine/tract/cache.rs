//! Plans by the shapes of the inputs.

use std::sync::Arc;

use parking_lot::Mutex;
use tract_onnx::prelude::*;

use super::load::{Loaded, Shapes};
use super::plan::Plan;

/// How many sets of shapes have a plan at a time: batch sizes, mostly.
const CAPACITY: usize = 32;

/// A loaded graph and the plans made from it, the most recently used first.
pub(super) struct Plans {
    loaded: Loaded,
    plans: Mutex<Vec<(Shapes, Arc<Plan>)>>,
}

impl Plans {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self {
            loaded,
            plans: Mutex::default(),
        }
    }

    /// The plan for `shapes`. Made outside the lock: two threads that need the same one at once both make it, which
    /// takes less than letting every other shape wait.
    pub(super) fn get_or_make(
        &self,
        shapes: &Shapes,
        make: impl FnOnce(&Loaded) -> TractResult<Plan>,
    ) -> TractResult<Arc<Plan>> {
        if let Some(plan) = touch(&mut self.plans.lock(), shapes) {
            return Ok(plan);
        }
        let plan = Arc::new(make(&self.loaded)?);
        let mut plans = self.plans.lock();
        if touch(&mut plans, shapes).is_none() {
            plans.insert(0, (shapes.clone(), Arc::clone(&plan)));
            plans.truncate(CAPACITY);
        }
        Ok(plan)
    }

    pub(super) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Drops the plan for `shapes`.
    pub(super) fn forget(&self, shapes: &Shapes) {
        self.plans.lock().retain(|(known, _)| known != shapes);
    }
}

/// The entry of `shapes`, moved to the front.
fn touch(plans: &mut [(Shapes, Arc<Plan>)], shapes: &Shapes) -> Option<Arc<Plan>> {
    let index = plans.iter().position(|(known, _)| known == shapes)?;
    plans[..=index].rotate_right(1);
    Some(Arc::clone(&plans[0].1))
}
