//! What belongs to the process: its limits, its threads, and how busy it is.

pub(crate) mod background;
pub mod blocking_pool;
pub mod machine;
pub mod saturation;
pub(crate) mod threads;
