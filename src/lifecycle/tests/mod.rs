//! Every decision of the manager, with loads in memory and a clock that stands still.

mod demand;
mod failure;
mod harness;
mod leaving;
mod loader;
mod manual;
mod memory;
mod probation;
mod property;
mod publish;
mod scale;
mod start;

pub(super) use harness::Work;
