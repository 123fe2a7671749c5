//! Who may use a method: the rows of gRPC in the table of routes. Methods are compared as they stand, as the library
//! compares them.

use tonic::{Code, Extensions, Status};

use crate::middleware::auth::{Caller, On, Refusal, Scope};
use crate::protocol::access::Access;
use crate::protocol::gate::permit;
use crate::protocol::state::Shared;

const READ: Access = Access::Server(Scope::Read);
const READ_MODEL: Access = Access::Model(Scope::Read);
const PREDICT: Access = Access::Server(Scope::Predict);
const PREDICT_MODEL: Access = Access::Model(Scope::Predict);
const ADMIN_MODEL: Access = Access::Model(Scope::Admin);

/// Every method of every service. `Model` is decided once the message is read, which names it: see [`Ask`].
#[rustfmt::skip]
pub(crate) const METHODS: [(&str, Access); 24] = [
    ("/grpc.health.v1.Health/Check", Access::Public),
    ("/grpc.health.v1.Health/Watch", Access::Public),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", READ),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", READ),
    ("/inference.GRPCInferenceService/ServerLive", Access::Public),
    ("/inference.GRPCInferenceService/ServerReady", Access::Public),
    ("/inference.GRPCInferenceService/ServerMetadata", READ),
    ("/inference.GRPCInferenceService/ModelReady", READ_MODEL),
    ("/inference.GRPCInferenceService/ModelMetadata", READ_MODEL),
    ("/inference.GRPCInferenceService/ModelConfig", READ_MODEL),
    ("/inference.GRPCInferenceService/ModelStatistics", READ_MODEL),
    ("/inference.GRPCInferenceService/RepositoryIndex", Access::Every(Scope::Read)),
    ("/inference.GRPCInferenceService/ModelInfer", PREDICT_MODEL),
    ("/inference.GRPCInferenceService/ModelStreamInfer", PREDICT_MODEL),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", ADMIN_MODEL),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", ADMIN_MODEL),
    ("/inference.GRPCInferenceService/SystemSharedMemoryStatus", READ),
    ("/inference.GRPCInferenceService/SystemSharedMemoryRegister", PREDICT),
    ("/inference.GRPCInferenceService/SystemSharedMemoryUnregister", PREDICT),
    ("/inference.GRPCInferenceService/CudaSharedMemoryStatus", READ),
    ("/inference.GRPCInferenceService/CudaSharedMemoryRegister", PREDICT),
    ("/inference.GRPCInferenceService/CudaSharedMemoryUnregister", PREDICT),
    ("/inference.GRPCInferenceService/TraceSetting", READ_MODEL),
    ("/inference.GRPCInferenceService/LogSettings", READ),
];

/// Whether a call may be read.
///
/// # Errors
/// The answer to a caller that may not.
pub(crate) fn enter(shared: &Shared, path: &str, extensions: &Extensions) -> Result<(), Status> {
    let Some(guard) = shared.guard() else {
        return Ok(());
    };
    let caller = extensions.get::<Caller>();
    let entered = match access(path) {
        Access::Public | Access::Metrics => Ok(()),
        // The message says which model; a stranger's is not read.
        Access::Model(_) | Access::Default(_) => guard.know(caller, path).map(drop),
        Access::Server(scope) => guard.check(caller, scope, On::Server, path),
        Access::Every(scope) => guard.check(caller, scope, On::EveryModel, path),
    };
    entered.map_err(|refusal| refused(&refusal))
}

/// What no row declares is for whoever may do everything.
fn access(path: &str) -> Access {
    let found = METHODS.iter().find(|(method, _)| *method == path);
    found.map_or(Access::Every(Scope::Admin), |(_, access)| *access)
}

/// Who sent a call, for the decision about the model in its message.
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: Option<&'a Caller>,
    /// The last word of the method's path.
    pub(crate) method: &'static str,
}

impl Ask<'_> {
    /// Whether the caller may do what the method does to this model.
    ///
    /// # Errors
    /// The answer to a caller that may not.
    pub(crate) fn about(&self, model: &str) -> Result<(), Status> {
        self.whether(On::Model(model))
    }

    /// The same for all models.
    ///
    /// # Errors
    /// The answer to a caller that may not.
    pub(crate) fn about_all(&self) -> Result<(), Status> {
        self.whether(On::EveryModel)
    }

    /// The same for the server alone.
    ///
    /// # Errors
    /// The answer to a caller that may not.
    pub(crate) fn about_server(&self) -> Result<(), Status> {
        self.whether(On::Server)
    }

    fn whether(&self, on: On<'_>) -> Result<(), Status> {
        if self.shared.guard().is_none() {
            return Ok(());
        }
        let path = format!("/{}/{}", super::SERVICE_NAME, self.method);
        let scope = match access(&path) {
            Access::Model(scope) | Access::Server(scope) | Access::Every(scope) => scope,
            Access::Public | Access::Default(_) | Access::Metrics => Scope::Admin,
        };
        let permitted = permit(self.shared, self.caller, scope, on, &path);
        permitted.map_err(|refusal| refused(&refusal))
    }
}

fn refused(refusal: &Refusal) -> Status {
    let code = Code::from_i32(refusal.kind.grpc_code());
    Status::new(code, refusal.message.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use tonic_health::pb::FILE_DESCRIPTOR_SET;

    use super::*;
    use crate::protocol::oip::grpc::DESCRIPTORS;

    /// The part of a description that names services and methods.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        files: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct File {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        services: Vec<Service>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Service {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        methods: Vec<Method>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Method {
        #[prost(string, tag = "1")]
        name: String,
    }

    fn methods(description: &[u8]) -> Vec<String> {
        let files = Files::decode(description).unwrap().files;
        let of_file = |file: File| {
            let package = file.package;
            file.services.into_iter().flat_map(move |service| {
                let path = format!("/{package}.{}", service.name);
                let methods = service.methods.into_iter();
                methods.map(move |method| format!("{path}/{}", method.name))
            })
        };
        files.into_iter().flat_map(of_file).collect()
    }

    #[test]
    fn every_method_of_every_service_has_a_decision() {
        let declared: BTreeSet<&str> = METHODS.iter().map(|(path, _)| *path).collect();
        assert_eq!(declared.len(), METHODS.len());
        let mut all = methods(DESCRIPTORS);
        all.extend(methods(FILE_DESCRIPTOR_SET));
        all.extend(methods(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET));
        all.extend(methods(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET));
        let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
        assert!(all.len() > 20);
        assert_eq!(declared, all);
    }

    #[test]
    fn another_spelling_of_a_method_is_for_nobody_but_administrators() {
        for path in [
            "",
            "/",
            "/grpc.health.v1.Health/check",
            "//grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Check/",
            "/inference.GRPCInferenceService/%4DodelInfer",
            "/inference.GRPCInferenceService/Unknown",
        ] {
            assert_eq!(access(path), Access::Every(Scope::Admin), "{path}");
        }
    }
}
