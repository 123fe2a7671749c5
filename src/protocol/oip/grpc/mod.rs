//! Open Inference Protocol v2 over gRPC: `inference.GRPCInferenceService`, health checks and reflection.
//!
//! ```text
//! transport  what every call passes: who asks, compression, limits in our own words
//! access     who may use which method
//! service    the methods; describe maps what models tell about themselves
//! codec      messages to bytes and back
//! metered    bodies: inflated, and charged to the budget; wire counts a message, layouts says what its fields become
//! infer      one inference: messages to tensors and back; contents reads typed elements
//! stream     many inferences over one stream
//! status     errors as statuses, metadata of calls and answers
//! ```

mod absent;
mod access;
mod codec;
mod contents;
mod describe;
mod infer;
mod layouts;
mod metered;
mod service;
mod status;
mod stream;
mod transport;
mod wire;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

pub(crate) use self::access::METHODS;
use self::inference::grpc_inference_service_server::{GrpcInferenceServiceServer, SERVICE_NAME};
use self::service::Service;
use crate::protocol::state::Shared;

/// Messages, server and client, made from `proto/`; `tests/it/generated.rs` keeps them current.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::too_many_lines,
    reason = "generated; which of these it needs changes with the generator"
)]
pub mod inference {
    include!("generated/inference.rs");
}

/// The services in the form in which reflection tells them.
const DESCRIPTORS: &[u8] = include_bytes!("generated/inference.bin");

/// The services that have a health of their own; the empty name is the whole server.
pub const HEALTH_NAMES: [&str; 2] = ["", SERVICE_NAME];

/// The gRPC services, and what sets the answer of health checks.
#[derive(Debug)]
pub struct Grpc {
    /// Every service.
    pub router: Router,
    /// To be told how the server stands.
    pub health: HealthReporter,
}

impl Grpc {
    /// The services over `shared`, which are not healthy until that is said.
    pub fn new(shared: &Shared) -> Self {
        let (health, health_service) = tonic_health::server::health_reporter();
        let limit = shared.body_limits().max_bytes;
        let service = GrpcInferenceServiceServer::new(Service::new(shared.clone()))
            .max_decoding_message_size(limit)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Deflate);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        const COMPILED_IN: &str = "the description was compiled with the program";
        let routes = Routes::new(service)
            .add_service(health_service)
            .add_service(reflection().build_v1().expect(COMPILED_IN))
            .add_service(reflection().build_v1alpha().expect(COMPILED_IN));
        let router = routes
            .into_axum_router()
            .layer(from_fn_with_state(shared.clone(), transport::adapt));
        Self { router, health }
    }
}
