//! Versions that come, swap, fail and go.

pub(crate) mod chaos;
pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod operations;
pub(crate) mod swap;
