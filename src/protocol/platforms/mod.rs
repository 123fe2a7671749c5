//! Paths and bodies of cloud platforms: SageMaker, Vertex AI, CloudEvents.

pub(crate) mod cloud_events;
pub(crate) mod sagemaker;
pub(crate) mod vertex;
