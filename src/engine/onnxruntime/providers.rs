//! Execution providers by ONNX Runtime's names.

use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider, CUDA, CoreML, ExecutionProvider,
    ExecutionProviderDispatch, OpenVINO, TensorRT, XNNPACK,
};

use crate::model::Provider;

const CPU: &str = "CPUExecutionProvider";

/// The providers of a list that this library has, in order, and the names of those that it lacks. The CPU provider
/// is always there, and needs no entry.
pub(super) fn choose(wanted: &[Provider]) -> (Vec<ExecutionProviderDispatch>, Vec<String>) {
    let mut usable = Vec::new();
    let mut missing = Vec::new();
    for provider in wanted.iter().filter(|provider| provider.name != CPU) {
        match dispatch(provider) {
            Some(dispatch) => usable.push(dispatch.error_on_failure()),
            None => missing.push(provider.name.clone()),
        }
    }
    (usable, missing)
}

fn dispatch(provider: &Provider) -> Option<ExecutionProviderDispatch> {
    match provider.name.as_str() {
        CUDA::NAME => configured::<CUDA>(provider),
        TensorRT::NAME => configured::<TensorRT>(provider),
        OpenVINO::NAME => configured::<OpenVINO>(provider),
        CoreML::NAME => configured::<CoreML>(provider),
        XNNPACK::NAME => configured::<XNNPACK>(provider),
        _ => None,
    }
}

fn configured<P>(provider: &Provider) -> Option<ExecutionProviderDispatch>
where
    P: ExecutionProvider
        + ArbitrarilyConfigurableExecutionProvider
        + Default
        + Into<ExecutionProviderDispatch>,
{
    if !P::is_available().unwrap_or(false) {
        return None;
    }
    let with_options = provider
        .options
        .iter()
        .fold(P::default(), |builder, (key, value)| {
            builder.with_arbitrary_config(key, value)
        });
    Some(with_options.into())
}
