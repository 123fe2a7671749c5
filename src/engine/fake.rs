//! An engine for tests of what stands above engines: it echoes, waits, fails or panics on demand. Never in the table
//! of a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{
    CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Outputs, Session, Support,
};
use crate::model::{
    Batch, Dim, Graph, InputSpec, Manifest, ModelId, ModelName, OutputKind, OutputSpec, Package,
    Reshapes, RowProof, Signature, Version, Work,
};
use crate::tensor::{DType, Tensor, Value};

/// What a session does with a batch, after its delay.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Behaviour {
    /// Gives the inputs back, sharing their memory.
    #[default]
    Echo,
    /// Fails with these words.
    Fail(String),
    /// Fails with these words and blames the inputs.
    BadInput(String),
    /// Panics with these words.
    Panic(String),
    /// Gives the inputs back times so much.
    Times(f32),
}

/// The engine. Clones share their counters.
#[derive(Debug, Clone)]
pub struct Fake {
    name: &'static str,
    there: Presence,
    refusal: Option<String>,
    behaviour: Behaviour,
    delay: Duration,
    /// Whether it ignores cancellation.
    is_deaf: bool,
    /// The only value that it waits for.
    slow_for: Option<f32>,
    /// The only value that it misbehaves for.
    only_for: Option<f32>,
    /// Runs that it does well before.
    after: usize,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Missing,
    Misconfigured,
}

#[derive(Debug, Default)]
struct Counters {
    runs: AtomicUsize,
    rows: AtomicUsize,
    sessions: AtomicUsize,
}

impl Default for Fake {
    fn default() -> Self {
        Self::named("fake")
    }
}

impl Fake {
    /// A fake of this name that echoes at once.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            there: Presence::There,
            refusal: None,
            behaviour: Behaviour::Echo,
            delay: Duration::ZERO,
            is_deaf: false,
            slow_for: None,
            only_for: None,
            after: 0,
            counters: Arc::default(),
        }
    }

    /// One whose library is not on the machine.
    #[must_use]
    pub fn missing(self) -> Self {
        Self {
            there: Presence::Missing,
            ..self
        }
    }

    /// One whose library was named by the operator and does not load.
    #[must_use]
    pub fn misconfigured(self) -> Self {
        Self {
            there: Presence::Misconfigured,
            ..self
        }
    }

    /// One that supports no graph, for this reason.
    #[must_use]
    pub fn refusing(self, reason: &str) -> Self {
        Self {
            refusal: Some(reason.to_owned()),
            ..self
        }
    }

    /// One whose sessions do this.
    #[must_use]
    pub fn behaving(self, behaviour: Behaviour) -> Self {
        Self { behaviour, ..self }
    }

    /// One that echoes but when a batch holds this value.
    #[must_use]
    pub fn only_for(self, value: f32) -> Self {
        Self {
            only_for: Some(value),
            ..self
        }
    }

    /// One that echoes in its first runs, over all sessions.
    #[must_use]
    pub fn only_after(self, after: usize) -> Self {
        Self { after, ..self }
    }

    /// One whose sessions block their thread this long before each answer. Ends early when the run is cancelled.
    #[must_use]
    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// One whose delayed sessions do not stop when told to.
    #[must_use]
    pub fn deaf(self) -> Self {
        Self {
            is_deaf: true,
            ..self
        }
    }

    /// One that is delayed only when a batch holds this value.
    #[must_use]
    pub fn only_delayed_for(self, value: f32) -> Self {
        Self {
            slow_for: Some(value),
            ..self
        }
    }

    /// How many runs were started.
    pub fn runs(&self) -> usize {
        self.counters.runs.load(Ordering::SeqCst)
    }

    /// How many rows were run, over all runs.
    pub fn rows(&self) -> usize {
        self.counters.rows.load(Ordering::SeqCst)
    }

    /// How many sessions were made.
    pub fn sessions(&self) -> usize {
        self.counters.sessions.load(Ordering::SeqCst)
    }
}

/// A graph with these inputs, each a matrix with open dimensions that comes back as the output of the same name.
pub fn graph(inputs: &[(&str, DType)]) -> Graph {
    let shape = || Some(vec![Dim::Any(Some("batch".to_owned())), Dim::Any(None)]);
    let input = |&(name, dtype): &(&str, DType)| InputSpec {
        name: name.to_owned(),
        dtype,
        shape: shape(),
        default: None,
    };
    let output = |&(name, dtype): &(&str, DType)| OutputSpec {
        name: name.to_owned(),
        kind: OutputKind::Tensor {
            dtype,
            shape: shape(),
        },
    };
    Graph {
        ir_version: 10,
        producer: "fake".to_owned(),
        opsets: vec![(String::new(), 18)],
        operators: [((String::new(), "Identity".to_owned()), inputs.len())].into(),
        functions: [].into(),
        signature: Signature {
            inputs: inputs.iter().map(input).collect(),
            outputs: inputs.iter().map(output).collect(),
            ..Signature::default()
        },
        metadata: [].into(),
        external_data: vec![],
        ml_nodes: vec![],
        origins: [].into(),
        labels: [].into(),
        rows: RowProof::Independent,
        work: Work::default(),
    }
}

/// A package around [`graph`] without any file.
///
/// # Panics
/// When `name` is no model name.
pub fn package(name: &str, version: u64, inputs: &[(&str, DType)]) -> Package {
    Package {
        id: ModelId {
            name: ModelName::new(name).expect("the test gives a valid name"),
            version: Version(version),
        },
        root: "/nonexistent".into(),
        model_file: "/nonexistent/model.onnx".into(),
        manifest: Manifest::of_graph("model.onnx".into()),
        is_bare: true,
        graph: graph(inputs),
        digest: "sha256:0".to_owned(),
        weight_bytes: 0,
        labels: [].into(),
        reshapes: Reshapes::default(),
        notice: None,
    }
}

impl Engine for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> Option<String> {
        (self.there == Presence::There).then(|| "0".to_owned())
    }

    fn check(&self) -> Result<(), EngineError> {
        let (engine, reason) = (self.name, "it was told to be away".to_owned());
        match self.there {
            Presence::There => Ok(()),
            Presence::Missing => Err(EngineError::Unavailable { engine, reason }),
            Presence::Misconfigured => Err(EngineError::Misconfigured { engine, reason }),
        }
    }

    fn supports(&self, _package: &Package) -> Support {
        match &self.refusal {
            None => Support::Yes,
            Some(reason) => Support::No(vec![reason.clone()]),
        }
    }

    fn estimate(&self, package: &Package) -> u64 {
        package.weight_bytes
    }

    fn compile(
        &self,
        package: &Package,
        _options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        self.check()?;
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        Ok(Arc::new(FakeModel {
            fake: self.clone(),
            signature: package.graph.signature.clone(),
            footprint: package.weight_bytes,
        }))
    }
}

struct FakeModel {
    fake: Fake,
    signature: Signature,
    footprint: u64,
}

impl CompiledModel for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn footprint(&self) -> u64 {
        self.footprint
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        self.fake.counters.sessions.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(FakeSession(self.fake.clone())))
    }
}

struct FakeSession(Fake);

impl FakeSession {
    /// Blocks in small steps, so that a cancelled run ends early.
    fn wait(&self, cancel: &CancelToken) -> Result<(), EngineError> {
        let step = Duration::from_millis(1);
        let mut left = self.0.delay;
        while !left.is_zero() {
            if cancel.is_cancelled() && !self.0.is_deaf {
                return Err(EngineError::Cancelled);
            }
            std::thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
        Ok(())
    }
}

impl Session for FakeSession {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        let counters = &self.0.counters;
        let run = counters.runs.fetch_add(1, Ordering::SeqCst);
        counters.rows.fetch_add(batch.rows(), Ordering::SeqCst);
        let holds = |value: f32| {
            let mut inputs = batch
                .inputs()
                .iter()
                .filter_map(|input| input.as_slice::<f32>());
            inputs.any(|input| input.contains(&value))
        };
        if self.0.slow_for.is_none_or(holds) {
            self.wait(cancel)?;
        }
        let failure = |reason: &String, bad_input| EngineError::Run {
            engine: self.0.name,
            reason: reason.clone(),
            bad_input,
        };
        let echo = Behaviour::Echo;
        let behaviour = match self.0.only_for {
            _ if run < self.0.after => &echo,
            Some(value) if !holds(value) => &echo,
            _ => &self.0.behaviour,
        };
        match behaviour {
            Behaviour::Echo => Ok(batch.inputs().iter().cloned().map(Value::Tensor).collect()),
            Behaviour::Fail(reason) => Err(failure(reason, false)),
            Behaviour::BadInput(reason) => Err(failure(reason, true)),
            Behaviour::Panic(words) => panic!("{words}"),
            Behaviour::Times(factor) => Ok(batch.inputs().iter().map(times(*factor)).collect()),
        }
    }
}

/// Multiplies tensors of 32-bit numbers, and leaves others as they are.
fn times(factor: f32) -> impl Fn(&Tensor) -> Value {
    move |tensor| {
        let scaled = tensor.as_slice::<f32>().and_then(|values| {
            let values = values.iter().map(|value| value * factor).collect();
            Tensor::from_vec(tensor.shape().to_vec(), values).ok()
        });
        Value::Tensor(scaled.unwrap_or_else(|| tensor.clone()))
    }
}
