//! Hostile clients and packages, limits, and who may do what.

pub(crate) mod broken;
pub(crate) mod budget;
#[cfg(unix)]
#[cfg(target_os = "linux")]
pub(crate) mod fuzz;
pub(crate) mod limits;
pub(crate) mod network;
pub(crate) mod seals;
pub(crate) mod trust;
