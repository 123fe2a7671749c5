//! Execution providers: by ONNX Runtime's names, kept in the order of the operator or the package.

use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider, CUDA, CoreML, ExecutionProvider,
    ExecutionProviderDispatch, OpenVINO, TensorRT, XNNPACK,
};

use crate::model::Provider;

/// The provider that is always there and takes what the others leave.
const CPU: &str = "CPUExecutionProvider";

/// One row per provider of this build: its name, whether the library has it, how to make it.
const TABLE: [(&str, IsThere, Make); 5] = [
    (CUDA::NAME, is_there::<CUDA>, make::<CUDA>),
    (TensorRT::NAME, is_there::<TensorRT>, make::<TensorRT>),
    (OpenVINO::NAME, is_there::<OpenVINO>, make::<OpenVINO>),
    (CoreML::NAME, is_there::<CoreML>, make::<CoreML>),
    (XNNPACK::NAME, is_there::<XNNPACK>, make::<XNNPACK>),
];

type IsThere = fn() -> bool;
type Make = fn(&[(String, String)]) -> ExecutionProviderDispatch;

/// What became of a list of providers.
#[derive(Default)]
pub(super) struct Selection {
    /// To register, best first; the CPU comes after them by itself.
    pub(super) usable: Vec<ExecutionProviderDispatch>,
    /// Names that the library or this build does not have.
    pub(super) missing: Vec<String>,
}

/// Keeps what is there of `wanted`, in its order. Only with a loaded library.
pub(super) fn select(wanted: &[Provider]) -> Selection {
    let mut selection = Selection::default();
    for provider in wanted {
        // The CPU runs every operator, so that nothing is left for those after it.
        if provider.name == CPU {
            break;
        }
        let row = TABLE.iter().find(|row| row.0 == provider.name);
        match row.filter(|row| row.1()) {
            Some((_, _, make)) => selection.usable.push(make(&provider.options)),
            None => selection.missing.push(provider.name.clone()),
        }
    }
    selection
}

fn is_there<P: ExecutionProvider>() -> bool {
    P::is_available().unwrap_or(false)
}

fn make<P>(options: &[(String, String)]) -> ExecutionProviderDispatch
where
    P: ArbitrarilyConfigurableExecutionProvider + Default + Into<ExecutionProviderDispatch>,
{
    let provider = options
        .iter()
        // C text ends at the first NUL; no option has one.
        .filter(|(key, value)| !key.contains('\0') && !value.contains('\0'))
        .fold(P::default(), |provider, (key, value)| {
            provider.with_arbitrary_config(key, value)
        });
    // An error, so that it is reported; otherwise the CPU would take over silently.
    provider.into().error_on_failure()
}
