//! Every decision of the manager, with loads in memory and a clock that stands still.

mod harness;

pub(super) use harness::Work;
