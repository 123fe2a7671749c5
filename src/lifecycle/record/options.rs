//! What the operator chose for a model's life.

use std::sync::Arc;
use std::time::Duration;

use crate::lifecycle::load::LoadOptions;
use crate::model::{ContractError, ModelName, Package};

/// What the operator chose for one model's life.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// How it is loaded.
    pub load: LoadOptions,
    /// How many versions stay loaded after a swap, for a quick way back.
    pub keep_previous: usize,
    /// Whether the old version goes before the new one is compiled.
    pub swap: SwapOrder,
    /// Whether a new version may take the place of the one that serves.
    pub contract: Contract,
    /// How long a new version may be taken back.
    pub probation: Duration,
    /// Whether the server is not ready without it.
    pub required: bool,
    /// Whether it may be unloaded although it is wanted.
    pub on_demand: OnDemand,
}

/// When a wanted model need not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnDemand {
    /// It is loaded by its first request.
    pub lazy: bool,
    /// It is unloaded when others need the memory, and loaded again by the next request.
    pub evictable: bool,
}

/// What the operator chose for the model of a name.
pub type OptionsOf = dyn Fn(&ModelName) -> ModelOptions + Send + Sync;

/// Says what clients of the first package would miss in the second one.
#[derive(Clone)]
pub struct Contract(pub Arc<ContractCheck>);

/// Compares the package that serves with the one that should take its place.
pub type ContractCheck = dyn Fn(&Package, &Package) -> Result<(), ContractError> + Send + Sync;

impl std::fmt::Debug for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contract").finish_non_exhaustive()
    }
}

/// The order of loading the new version and unloading the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SwapOrder {
    /// The old version serves until the new one can.
    #[default]
    MakeBeforeBreak,
    /// For models that do not fit twice: nothing serves in between.
    BreakBeforeMake,
}
