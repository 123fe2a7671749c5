//! What others send to the manager, and what it owes them.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use crate::lifecycle::load::LoadError;
use crate::model::{ModelId, ModelName, Version};
use crate::registry::Wanted;
use crate::serving::{AdminError, HoldRecord, SwapRecord};

/// A message to the manager.
pub(super) enum Message {
    /// A request waits for a model that is not loaded.
    Wake(ModelName),
    /// A person decides.
    Command(Command),
}

/// A decision of a person.
pub(super) enum Command {
    Swap {
        model: ModelName,
        version: Version,
        wanted: Option<Wanted>,
        reply: Reply,
    },
    Load {
        model: ModelName,
        reply: Reply,
    },
    Hold {
        model: ModelName,
        reply: Reply,
    },
    Unload {
        model: ModelName,
        reply: Reply,
    },
    Resume {
        model: ModelName,
        reply: Reply,
    },
}

/// Where the outcome goes.
pub(super) type Reply = oneshot::Sender<Result<(), AdminError>>;

/// Someone who waits until a version serves.
pub(super) struct PendingSwap {
    pub(super) model: ModelName,
    pub(super) version: Version,
    /// Whether a change in the registry makes the wish void.
    pub(super) by_hold: bool,
    pub(super) reply: Reply,
}

/// A load that waits for memory.
pub(super) struct MemoryRequest {
    pub(super) id: ModelId,
    pub(super) ticket: u64,
    pub(super) bytes: u64,
    pub(super) reply: oneshot::Sender<Result<(), LoadError>>,
}

/// What the management API reads.
#[derive(Default)]
pub(super) struct AdminView {
    /// Newest first.
    pub(super) history: VecDeque<SwapRecord>,
    pub(super) holds: BTreeMap<ModelName, HoldRecord>,
}
