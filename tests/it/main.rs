//! Integration tests: the real binary, and the library through its public surface.

mod cli;
