//! ONNX Runtime (interim).

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use half::{bf16, f16};
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{
    DynMapValueType, DynValue, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType,
};

use super::*;
use crate::model::OutputKind;
use crate::tensor::{Buffer, DType, Labels, MapSequence, Storage, Tensor};

#[derive(Debug, Clone, Default)]
pub struct OnnxRuntimeConfig {
    pub library: Option<PathBuf>,
    pub intra_op_threads: Option<usize>,
    pub inter_op_threads: Option<usize>,
}

#[derive(Debug)]
pub struct OnnxRuntime {
    config: OnnxRuntimeConfig,
    environment: OnceLock<Result<ort::environment::Environment, String>>,
}

const NAME: &str = "onnxruntime";

impl OnnxRuntime {
    pub fn new(config: OnnxRuntimeConfig) -> Self {
        Self {
            config,
            environment: OnceLock::new(),
        }
    }
    fn environment(&self) -> Result<&ort::environment::Environment, EngineError> {
        let result = self.environment.get_or_init(|| {
            let path = self
                .config
                .library
                .clone()
                .or_else(|| std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from));
            let path = path.ok_or("no library")?;
            ort::init_from(path)
                .map_err(|e| e.to_string())?
                .with_name("onstage")
                .with_telemetry(false)
                .build()
                .map_err(|e| e.to_string())
        });
        result.as_ref().map_err(|reason| EngineError::Unavailable {
            engine: NAME,
            reason: reason.clone(),
        })
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }
    fn version(&self) -> Option<String> {
        None
    }
    fn check(&self) -> Result<(), EngineError> {
        self.environment().map(drop)
    }
    fn supports(&self, _: &Graph) -> Support {
        Support::Yes
    }
    fn estimate(&self, p: &Package) -> u64 {
        p.weight_bytes
    }
    fn compile(
        &self,
        package: &Package,
        _o: &EngineOptions,
        _c: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        let session = OrtSession::builder(self.environment()?)
            .and_then(|mut b| b.commit_from_file(&package.model_file))
            .map_err(|e| EngineError::Load {
                engine: NAME,
                file: "model".into(),
                reason: e.to_string(),
            })?;
        Ok(Arc::new(Model {
            signature: package.graph.signature.clone(),
            file: package.model_file.clone(),
            env: self.environment()?.clone(),
            first: parking_lot::Mutex::new(Some(session)),
        }))
    }
}

struct Model {
    signature: Signature,
    file: PathBuf,
    env: ort::environment::Environment,
    first: parking_lot::Mutex<Option<OrtSession>>,
}
impl CompiledModel for Model {
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn footprint(&self) -> u64 {
        0
    }
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let s = match self.first.lock().take() {
            Some(s) => s,
            None => OrtSession::builder(&self.env)
                .and_then(|mut b| b.commit_from_file(&self.file))
                .map_err(|e| EngineError::Load {
                    engine: NAME,
                    file: "model".into(),
                    reason: e.to_string(),
                })?,
        };
        Ok(Box::new(Sess {
            s,
            signature: self.signature.clone(),
        }))
    }
}
struct Sess {
    s: OrtSession,
    signature: Signature,
}
fn run_error(e: ort::Error) -> EngineError {
    EngineError::Run {
        engine: NAME,
        bad_input: matches!(e.code(), ort::ErrorCode::InvalidArgument),
        reason: e.to_string(),
    }
}

impl Session for Sess {
    fn run(&mut self, batch: &Batch, _c: &CancelToken) -> Result<Outputs, EngineError> {
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![];
        for (spec, t) in self.signature.inputs.iter().zip(batch.inputs()) {
            inputs.push((Cow::from(spec.name.clone()), input(t).map_err(run_error)?));
        }
        let mut outputs = self.s.run(inputs).map_err(run_error)?;
        self.signature
            .outputs
            .iter()
            .map(|o| {
                let v = outputs.remove(&o.name).expect("out");
                output(v, &o.kind).map_err(run_error)
            })
            .collect()
    }
}

fn input(t: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    macro_rules! go { ($($d:ident => $t:ty),*) => { match t.dtype() {
        $(DType::$d => match t.as_slice::<$t>() { Some(s) => Ok(TensorRef::from_array_view((t.shape().to_vec(), s))?.into()), None => Ok(OrtTensor::from_array((t.shape().to_vec(), t.to_vec::<$t>().expect("typed")))?.into()) },)*
        DType::Bool => { let v: Vec<bool> = t.bytes().iter().map(|b| *b != 0).collect(); Ok(OrtTensor::from_array((t.shape().to_vec(), v))?.into()) }
        DType::String => Ok(OrtTensor::from_string_array((t.shape().to_vec(), t.as_strings().expect("strings")))?.into()),
    } } }
    go!(U8 => u8, U16 => u16, U32 => u32, U64 => u64, I8 => i8, I16 => i16, I32 => i32, I64 => i64, F16 => f16, Bf16 => bf16, F32 => f32, F64 => f64)
}

struct OrtBuffer(DynValue, DType);
impl Buffer for OrtBuffer {
    fn bytes(&self) -> &[u8] {
        macro_rules! go { ($($d:ident => $t:ty),*) => { match self.1 { $(DType::$d => bytemuck::cast_slice(self.0.try_extract_tensor::<$t>().expect("typed").1),)* _ => &[] } } }
        go!(U8 => u8, U16 => u16, U32 => u32, U64 => u64, I8 => i8, I16 => i16, I32 => i32, I64 => i64, F16 => f16, Bf16 => bf16, F32 => f32, F64 => f64)
    }
}
fn output(v: DynValue, kind: &OutputKind) -> ort::Result<Value> {
    if let OutputKind::Maps { text_labels } = kind {
        let maps = v.try_extract_sequence::<DynMapValueType>()?;
        let mut labels = Labels::Int64(vec![]);
        let mut scores: Vec<f32> = vec![];
        let n = maps.len();
        for (i, m) in maps.iter().enumerate() {
            if *text_labels {
                let kv = m.try_extract_key_values::<String, f32>()?;
                if i == 0 {
                    labels = Labels::String(kv.iter().map(|(k, _)| k.clone()).collect());
                }
                scores.extend(kv.iter().map(|(_, v)| v));
            } else {
                let kv = m.try_extract_key_values::<i64, f32>()?;
                if i == 0 {
                    labels = Labels::Int64(kv.iter().map(|(k, _)| *k).collect());
                }
                scores.extend(kv.iter().map(|(_, v)| v));
            }
        }
        let w = labels.len();
        return Ok(Value::Maps(MapSequence {
            labels,
            scores: Tensor::from_vec(vec![n, w], scores).expect("shape"),
        }));
    }
    let ValueType::Tensor { ty, shape, .. } = v.dtype().clone() else {
        panic!()
    };
    let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    let d = match ty {
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Bool => {
            let b: Vec<bool> = v.try_extract_tensor::<bool>()?.1.to_vec();
            return Ok(Value::Tensor(Tensor::from_bools(shape, &b).expect("s")));
        }
        TensorElementType::String => {
            let (_, s) = v.try_extract_strings()?;
            return Ok(Value::Tensor(Tensor::from_strings(shape, s).expect("s")));
        }
        _ => panic!(),
    };
    Ok(Value::Tensor(
        Tensor::from_storage(d, shape, Storage::Owned(Arc::new(OrtBuffer(v, d)))).expect("ok"),
    ))
}
