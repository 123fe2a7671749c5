//! From what is wanted to what is served: loading, swapping, taking back, unloading.

mod background;
mod beginning;
mod job;
mod loader;
mod manager;
mod policy;
mod probation;
mod record;
mod row_independence;

pub use job::{Opened, Supply};
pub use loader::{
    BatchingOptions, Circumstances, ExamplePolicy, LoadError, LoadLimits, LoadOptions, Loader,
    RowPolicy, WarmUp, Warmed,
};
pub use manager::{Manager, ManagerHandle, ManagerParts};
pub use record::{Contract, ContractCheck, ModelOptions, OnDemand, SwapOrder};
