//! The committed code of the gRPC protocol is what its `.proto` files make.
//!
//! `ONSTAGE_REGENERATE=1 cargo test --test it generated` writes it anew; no `protoc` is needed.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::support::server::project;

/// Where the code is kept.
const HOME: &str = "src/protocol/oip/grpc/generated";
const CODE: &str = "inference.rs";
const DESCRIPTORS: &str = "inference.bin";

/// Compiles the `.proto` files: Rust code, and the description that reflection answers from.
fn compile() -> (String, Vec<u8>) {
    let descriptors = protox::compile(["inference.proto"], [project().join("proto")]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::protocol::oip::grpc::codec::MessageCodec")
        // Tensors are slices of the message, not copies.
        .bytes(".")
        .emit_rerun_if_changed(false)
        .out_dir(directory.path())
        .compile_fds(descriptors.clone())
        .unwrap();
    let code = fs::read_to_string(directory.path().join(CODE)).unwrap();
    let mut described = descriptors;
    for file in &mut described.file {
        // Comments and line numbers are of no use to a client.
        file.source_code_info = None;
    }
    (code, described.encode_to_vec())
}

fn home() -> PathBuf {
    project().join(HOME)
}

fn keep(file: &Path, content: &[u8]) {
    if fs::read(file).is_ok_and(|kept| kept == content) {
        return;
    }
    assert!(
        std::env::var_os("ONSTAGE_REGENERATE").is_some(),
        "`{}` is not what `proto/` makes: run `ONSTAGE_REGENERATE=1 cargo test --test it generated`",
        file.display()
    );
    fs::create_dir_all(home()).unwrap();
    fs::write(file, content).unwrap();
}

#[test]
fn the_generated_code_is_current() {
    let (code, descriptors) = compile();
    keep(&home().join(CODE), code.as_bytes());
    keep(&home().join(DESCRIPTORS), &descriptors);
}
