//! What requests may hold in memory: clients that want more than there is, beside those that do not.

#[cfg(target_os = "linux")]
mod gibibyte;
mod wire;
