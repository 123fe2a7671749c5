//! Graphs on the engines: right answers, whoever else asks.

pub(crate) mod agreement;
pub(crate) mod batched;
pub(crate) mod classic;
pub(crate) mod conformance;
pub(crate) mod custom_operators;
pub(crate) mod isolation;
pub(crate) mod mixing;
pub(crate) mod operators;
pub(crate) mod rows;
pub(crate) mod runs;
#[cfg(target_os = "linux")]
#[cfg(target_os = "linux")]
pub(crate) mod work;
