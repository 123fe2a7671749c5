//! Tests of the real binary over the network, and of rules that hold for the whole source tree.
//!
//! One binary: each further one would link both engines again.

#![expect(clippy::unwrap_used, reason = "tests may stop on the first surprise")]

mod ages;
mod agreement;
mod answers;
mod architecture;
mod bad_input;
mod base_path;
mod batched;
#[cfg(unix)]
mod broken;
#[cfg(target_os = "linux")]
mod budget;
mod chaos;
mod cli;
mod clouds;
mod conformance;
mod custom_operators;
mod docs;
mod encodings;
mod examples;
mod faults;
mod fleet;
#[cfg(unix)]
mod foreign;
mod frames;
mod fuzz;
mod generated;
mod grpc;
mod http;
mod imitation;
mod inspect;
#[cfg(target_os = "linux")]
mod isolation;
mod json;
mod limits;
mod logs;
mod mixing;
mod mlflow_faults;
mod mlflow_registry;
mod mlflow_scoring;
mod mlflow_server;
mod network;
mod object_registry;
mod object_servers;
mod oip;
mod onnx;
mod openapi;
mod operations;
mod operators;
mod package;
mod pull;
mod remote;
mod responses;
mod rows;
#[cfg(target_os = "linux")]
mod runs;
mod seals;
mod served;
mod server;
mod swap;
mod traces;
mod triton;
mod trust;
mod try_it;
mod v1;
mod v2_binary;
mod v2_rest;
mod verify;
mod work;
