//! Tests of the real binary over the network, and of rules that hold for the whole source tree.
//!
//! One binary: each further one would link both engines again.

#![expect(clippy::unwrap_used, reason = "tests may stop on the first surprise")]

mod architecture;
mod cli;
mod docs;
mod engines;
mod generated;
mod lifecycle;
mod payload;
mod protocols;
mod registry;
mod security;
mod support;
