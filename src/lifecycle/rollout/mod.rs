//! A challenger takes the place of the stable version step by step, or is gone: a pure state machine.
//!
//! ```text
//! counts ──► gates (fisher) ─┐
//! tags ──► known ────────────┼──► machine ──► action       the caller counts, reads, writes, and tells the time
//! plan ──────────────────────┘
//! ```
//!
//! Nothing here reads a clock, a file or a network, so that a rollout of days can be simulated in a millisecond.

mod action;
mod counts;
mod fisher;
mod gates;
mod known;
mod lease;
mod machine;
mod moment;
mod plan;
mod recorded;
mod sums;
mod tags;
#[cfg(test)]
mod tests;

pub use action::{Action, Phase, Wait};
pub use counts::{
    Compared, Counts, Failures, Histogram, RunTimes, ScoreShift, TimesError, VersionCounts,
};
pub use gates::{Basis, Finding, Gate, Hold};
pub use known::Known;
pub use machine::{Evidence, Observation, Peers, Reading, Replica, Rollout};
pub use moment::{Moment, MomentError};
pub use plan::{Plan, PlanError, PlanParts, Promotion, PromotionError, Weight};
pub use recorded::{Aliases, Looked, RecordError, RecordedLook, Recording};
pub use sums::{Report, Sum};
pub use tags::{
    Cause, ENDED, Ended, IdError, LEASE, Lease, ORDER, Order, OrderWord, RolloutId, STATE, State,
    Tag, TagError, Tags,
};
