//! The methods of `inference.GRPCInferenceService`.

use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::access::Ask;
use super::infer::infer;
use super::inference::grpc_inference_service_server::GrpcInferenceService;
use super::inference::*;
use super::metered::Charges;
use super::status::{flag, model_metadata, refusal};
use super::stream::{Answers, Manner, answers};
use crate::middleware::grpc_timeout;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::selector::select;
use crate::protocol::oip::{absent, config, index, metadata, statistics};
use crate::protocol::state::Shared;
use crate::serving::{LookupError, Selector, ServableHandle};

/// See the module.
#[derive(Debug)]
pub(crate) struct Service {
    shared: Shared,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    fn ask<'a, T>(&'a self, request: &'a Request<T>, method: &'static str) -> Ask<'a> {
        Ask {
            shared: &self.shared,
            caller: request.extensions().get(),
            method,
        }
    }

    async fn find(&self, name: String, version: &str) -> Result<ServableHandle, OipError> {
        let selector = selector(name, version)?;
        let service = self.shared.service();
        Ok(service.find(&selector, Instant::now()).await?)
    }

    /// A model that is loaded on demand would answer.
    fn would_answer(&self, selector: &Selector) -> Result<(), OipError> {
        match self.shared.service().catalog().lookup(selector) {
            Ok(_) | Err(LookupError::Asleep { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// An empty version is the server's choice.
fn selector(name: String, version: &str) -> Result<Selector, OipError> {
    select(name, Some(version).filter(|version| !version.is_empty()))
}

fn answer<T>(result: Result<T, OipError>) -> Answer<T> {
    result
        .map(Response::new)
        .map_err(|error| refusal(&error, None))
}

/// What the messages of a call were charged.
fn charges<T>(request: &Request<T>) -> Charges {
    let charges = request.extensions().get().cloned();
    charges.unwrap_or_default()
}

fn no_regions<T: Default>(name: &str) -> Result<T, OipError> {
    match name {
        "" => Ok(T::default()),
        name => Err(absent::no_region(name)),
    }
}

#[async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        answer(Ok(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.shared.is_ready();
        answer(Ok(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        self.ask(&request, "ModelReady")
            .about(&request.get_ref().name)?;
        let ModelReadyRequest { name, version } = request.into_inner();
        let selector = selector(name, &version);
        // As Triton has it: what is not there is not ready, and no error.
        let ready = selector.is_ok_and(|selector| self.would_answer(&selector).is_ok());
        answer(Ok(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        answer(Ok(metadata::server().into()))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        self.ask(&request, "ModelMetadata")
            .about(&request.get_ref().name)?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        let found = self.find(name, &version).await;
        let snapshot = self.shared.service().catalog().snapshot();
        answer(found.map(|servable| metadata::model(&snapshot, &servable).into()))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        self.ask(&request, "ModelConfig")
            .about(&request.get_ref().name)?;
        let ModelConfigRequest { name, version } = request.into_inner();
        let found = self.find(name, &version).await;
        let snapshot = self.shared.service().catalog().snapshot();
        answer(found.map(|servable| ModelConfigResponse {
            config: Some(config::model(&snapshot, &servable).into()),
        }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let ask = self.ask(&request, "ModelStatistics");
        match request.get_ref().name.as_str() {
            "" => ask.about_all()?,
            name => ask.about(name)?,
        }
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let snapshot = self.shared.service().catalog().snapshot();
        if name.is_empty() {
            return answer(Ok(statistics::all(&snapshot).into()));
        }
        let selector = selector(name, &version);
        let described = selector.and_then(|selector| statistics::selected(&snapshot, &selector));
        answer(described.map(Into::into))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let RepositoryIndexRequest {
            repository_name,
            ready,
        } = request.into_inner();
        if !repository_name.is_empty() {
            return answer(Err(absent::refused(absent::REPOSITORY)));
        }
        let snapshot = self.shared.service().catalog().snapshot();
        answer(Ok(index::rows(&snapshot, ready).into()))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        self.ask(&request, "ModelInfer")
            .about(&request.get_ref().model_name)?;
        let timeout = grpc_timeout(request.metadata().as_ref());
        let charges = charges(&request);
        let allowance = charges.take();
        charges.answered(allowance.clone());
        let request = (request.into_inner(), allowance);
        let answered = infer(&self.shared, request, timeout).await;
        let model = answered.model.as_ref();
        match answered.result {
            Ok(message) => {
                let mut response = Response::new(message);
                *response.metadata_mut() = model_metadata(model);
                Ok(response)
            }
            Err(error) => Err(refusal(&error, model)),
        }
    }

    type ModelStreamInferStream = Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Answers> {
        let metadata = request.metadata();
        let manner = Manner {
            caller: request.extensions().get().cloned(),
            ends_on_error: flag(metadata, "triton_grpc_error"),
            deadline: grpc_timeout(metadata.as_ref()).map(|timeout| Instant::now() + timeout),
            charges: charges(&request),
        };
        let answers = answers(self.shared.clone(), request.into_inner(), manner);
        Ok(Response::new(answers))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        self.ask(&request, "RepositoryModelLoad")
            .about(&request.get_ref().model_name)?;
        answer(Err(absent::only_for_operators()))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        self.ask(&request, "RepositoryModelUnload")
            .about(&request.get_ref().model_name)?;
        answer(Err(absent::only_for_operators()))
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        answer(no_regions(&request.into_inner().name))
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        answer(Err(absent::refused(absent::SHARED_MEMORY)))
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        answer(Ok(SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answer<CudaSharedMemoryStatusResponse> {
        answer(no_regions(&request.into_inner().name))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answer<CudaSharedMemoryRegisterResponse> {
        answer(Err(absent::refused(absent::SHARED_MEMORY)))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<CudaSharedMemoryUnregisterResponse> {
        answer(Ok(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(
        &self,
        request: Request<TraceSettingRequest>,
    ) -> Answer<TraceSettingResponse> {
        let ask = self.ask(&request, "TraceSetting");
        match request.get_ref().model_name.as_str() {
            "" => ask.about_server()?,
            name => ask.about(name)?,
        }
        let TraceSettingRequest {
            settings,
            model_name,
        } = request.into_inner();
        if !settings.is_empty() {
            return answer(Err(absent::refused(absent::TRACE)));
        }
        if !model_name.is_empty() {
            let selector = selector(model_name, "");
            let found = selector.and_then(|selector| self.would_answer(&selector));
            found.map_err(|error| refusal(&error, None))?;
        }
        answer(Ok(absent::tracing().into()))
    }

    async fn log_settings(
        &self,
        request: Request<LogSettingsRequest>,
    ) -> Answer<LogSettingsResponse> {
        if !request.into_inner().settings.is_empty() {
            return answer(Err(absent::refused(absent::LOGGING)));
        }
        answer(Ok(absent::logging().into()))
    }
}
