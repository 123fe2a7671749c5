//! What every protocol over HTTP shares: bodies and their encodings, paths, headers and the form of errors.

pub(crate) mod body;
pub(crate) mod entry;
pub(crate) mod headers;
pub(crate) mod inflate;
pub(crate) mod path;
pub(crate) mod refused;
mod surface;

pub use entry::Entry;
pub(crate) use surface::{Surface, json};
