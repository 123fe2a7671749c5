//! From what is wanted to what is served: loading, swapping, taking back, unloading.

mod beginning;
mod hosted;
mod load;
mod manager;
mod policy;
mod probation;
mod record;
mod registry_supply;
mod requirements;
pub mod rollout;
#[cfg(test)]
mod tests;

pub use hosted::{HostedModels, LONGEST as LONGEST_HOSTING};
pub use load::{
    BatchingOptions, Compiler, ExamplePolicy, Gate, LoadContext, LoadError, LoadLimits,
    LoadOptions, LoadRequest, Loaded, Loader, Opened, PackageLoader, RowPolicy, Supply, WarmUp,
    Warmed,
};
pub use manager::{Mailbox, Manager, ManagerHandle, ManagerParts, mailbox};
pub use record::{Contract, ContractCheck, ModelOptions, OnDemand, OptionsOf, SwapOrder};
pub use registry_supply::RegistrySupply;
pub use requirements::Requirements;
