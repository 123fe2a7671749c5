//! What the management API asks of whoever manages the models, and what it is told.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::error::{ErrorKind, Kinded};
use crate::model::{ModelName, Version};

/// Manages models at runtime. Serving and the protocols know no more of it than this.
#[async_trait]
pub trait Admin: Send + Sync {
    /// Serves this version on the paths without one, loading it first when it is not; holds it until
    /// [`Admin::resume`] or a change in the registry.
    ///
    /// # Errors
    /// [`AdminError`]; what served before still does.
    async fn swap(&self, model: &ModelName, version: Version) -> Result<(), AdminError>;

    /// Loads what the registry wants of a model, also when a hold or a failure stands against it, and waits until it
    /// serves.
    ///
    /// # Errors
    /// [`AdminError`].
    async fn load(&self, model: &ModelName) -> Result<(), AdminError>;

    /// Holds a model on the version that serves now.
    ///
    /// # Errors
    /// [`AdminError`] when nothing serves.
    async fn hold(&self, model: &ModelName) -> Result<(), AdminError>;

    /// Unloads a model and holds it so.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    async fn unload(&self, model: &ModelName) -> Result<(), AdminError>;

    /// Ends a hold, and tries what failed again: the registry decides.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    async fn resume(&self, model: &ModelName) -> Result<(), AdminError>;

    /// The holds there are.
    fn holds(&self) -> Vec<HoldRecord>;

    /// The last swaps, newest first.
    fn history(&self) -> Vec<SwapRecord>;
}

/// Why a management request was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// No such model or version.
    #[error("{0}")]
    NotFound(String),
    /// The version cannot be served.
    #[error("{0}")]
    Failed(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl Kinded for AdminError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Failed(_) => ErrorKind::InvalidArgument,
            Self::Stopping => ErrorKind::NotReady,
        }
    }
}

/// A manual override of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRecord {
    /// The model.
    pub model: ModelName,
    /// The version it is held on; `None` when it is held unloaded.
    pub version: Option<Version>,
    /// Since when.
    pub since: SystemTime,
}

/// One change, or refused change, of the version that a model serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapRecord {
    /// The model.
    pub model: ModelName,
    /// What served before.
    pub from: Option<Version>,
    /// What should serve, `None` for an unload.
    pub to: Option<Version>,
    /// What brought it about.
    pub cause: Cause,
    /// When it was decided.
    pub at: SystemTime,
    /// How long each phase took.
    pub phases: Vec<(&'static str, Duration)>,
    /// How it ended.
    pub outcome: SwapOutcome,
}

/// What brings a swap about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server started.
    Start,
    /// The registry changed.
    Registry,
    /// A request to the management API.
    Manual,
    /// The version on probation did badly.
    Probation,
    /// A request for a model that is loaded on demand.
    Demand,
    /// Another model needed the memory.
    Memory,
}

/// How a swap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The new version serves.
    Published,
    /// The old version is back.
    RolledBack(String),
    /// The old version serves on: the label of the reason, and the reason.
    Failed(&'static str, String),
    /// Nothing serves any more.
    Unloaded,
}

impl Cause {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Registry => "registry",
            Self::Manual => "manual",
            Self::Probation => "probation",
            Self::Demand => "demand",
            Self::Memory => "memory",
        }
    }
}

impl SwapOutcome {
    /// The `outcome` label of `onstage_swaps_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::RolledBack(_) => "rolled_back",
            Self::Failed(..) => "failed",
            Self::Unloaded => "unloaded",
        }
    }

    /// Why it ended so.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::RolledBack(reason) | Self::Failed(_, reason) => Some(reason),
            Self::Published | Self::Unloaded => None,
        }
    }
}

impl fmt::Display for SwapOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack(reason) => write!(f, "rolled back: {reason}"),
            Self::Failed(_, reason) => write!(f, "failed: {reason}"),
            plain => f.write_str(plain.label()),
        }
    }
}
