//! The integration tests: one binary, because each links both engines.

mod conformance;
