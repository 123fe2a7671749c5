//! What tests start and send: the server, its imitations of others, and graphs.

pub(crate) mod frames;
pub(crate) mod imitation;
pub(crate) mod mlflow_server;
pub(crate) mod object_servers;
pub(crate) mod onnx;
pub(crate) mod server;
