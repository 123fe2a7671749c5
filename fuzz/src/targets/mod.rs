//! What reads bytes of strangers, one function each. A finding is a panic: one of the code, or one of the checks here.
//!
//! Requests go through the whole stack of a protocol, in front of an engine that gives its inputs back: so what is read
//! is also bound to a signature and written as an answer, and no request may end with a failure of the server.

mod engine;
mod files;
mod grpc;
mod http;
mod stage;

/// What an input may take of memory: four times the largest body of the stage, and what a request takes beside it.
pub const MOST_MEMORY: usize = 4 * stage::MAX_BODY + (4 << 20);

/// Makes what all targets share, so that none of them pays for it.
pub fn prepare() {
    stage::stage();
}

/// A function that must take any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 16] = [
    ("mlflow_json", http::mlflow_json),
    ("mlflow_csv", http::mlflow_csv),
    ("mlflow_parquet", http::mlflow_parquet),
    ("oip_json", http::oip_json),
    ("oip_binary", http::oip_binary),
    ("v1_json", http::v1_json),
    ("cloud_event", http::cloud_event),
    ("inflate", http::inflate),
    ("path", http::path),
    ("grpc_infer", grpc::infer),
    ("grpc_stream", grpc::stream),
    ("manifest", files::manifest),
    ("graph", files::graph),
    ("classic", engine::classic),
    ("registry_files", files::registry),
    ("webhook", files::webhook),
];

/// The target of this name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> Target {
    let known = TARGETS.iter().find(|(known, _)| *known == name);
    known.expect("the name is in the table").1
}
