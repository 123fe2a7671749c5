//! The commands.

pub(crate) mod examples;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod remote;
pub(crate) mod traces;
pub(crate) mod usage;
pub(crate) mod verify;
