//! How a load begins.

use std::sync::Arc;

use super::{Record, Slot, Status};
use crate::engine::CancelToken;
use crate::lifecycle::load::{Gate, Job, LoadError, LoadRequest};
use crate::model::{ModelId, Package, Version};
use crate::registry::Wanted;
use crate::serving::VersionState;

impl Record {
    /// Marks a version as loading, and returns the job that loads it; `None` when its source is unknown.
    /// `ticket` distinguishes its events from those of an earlier load.
    pub(crate) fn begin_load(&mut self, id: ModelId, ticket: u64, background: bool) -> Option<Job> {
        let wanted = self.origin(id.version)?;
        let gate = self.gate(id.version);
        let cancel = CancelToken::new();
        let slot = self
            .slots
            .entry(id.version)
            .or_insert_with(|| Slot::new(wanted.clone()));
        slot.wanted = wanted.clone();
        slot.attempts += 1;
        slot.status = Status::Loading {
            ticket,
            cancel: cancel.clone(),
            state: VersionState::New,
            reserved: 0,
        };
        let request = LoadRequest {
            id,
            wanted,
            options: self.options.load.clone(),
            gate,
            insisted: std::mem::take(&mut slot.insisted),
            background,
        };
        Some(Job {
            ticket,
            request,
            cancel,
        })
    }

    /// Where a version comes from: it is wanted, or it served last and has to come back.
    fn origin(&self, version: Version) -> Option<Wanted> {
        let wanted = self.effective().versions.remove(&version);
        let last_good = self.last_good.as_ref().filter(|(last, _)| *last == version);
        wanted.or_else(|| last_good.map(|(_, wanted)| wanted.clone()))
    }

    /// Decides whether `version` may take the place of what serves; `None` when it takes no place.
    fn gate(&self, version: Version) -> Option<Gate> {
        let serving = self.serving().filter(|serving| *serving != version)?;
        let old = self.servable(serving)?.package().clone();
        let contract = self.options.contract.clone();
        Some(Arc::new(move |new: &Package| {
            (contract.0)(&old, new).map_err(LoadError::Contract)
        }))
    }
}
