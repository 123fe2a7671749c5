//! An engine without a graph, for tests of what stands in front of engines: it gives its inputs back.

use std::sync::Arc;
use std::time::Duration;

use super::{CancelToken, CompiledModel, EngineError, Outputs, Session};
use crate::model::{Batch, Signature};
use crate::tensor::Value;

/// What a fake model does with each run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Gives the inputs back.
    #[default]
    Echo,
    /// Fails.
    Fail,
    /// Panics.
    Panic,
}

/// A model that needs no file.
#[derive(Debug, Clone)]
pub struct FakeModel {
    /// What it claims to take and give.
    pub signature: Signature,
    /// What it does.
    pub behaviour: Behaviour,
    /// How long each run takes.
    pub delay: Duration,
}

impl CompiledModel for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn footprint(&self) -> u64 {
        0
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FakeSession(Arc::new(self.clone()))))
    }
}

struct FakeSession(Arc<FakeModel>);

impl Session for FakeSession {
    fn run(&mut self, batch: &Batch, _cancel: &CancelToken) -> Result<Outputs, EngineError> {
        std::thread::sleep(self.0.delay);
        match self.0.behaviour {
            Behaviour::Echo => Ok(batch.inputs().iter().cloned().map(Value::Tensor).collect()),
            Behaviour::Fail => Err(EngineError::Run {
                engine: "fake",
                reason: "asked to fail".to_owned(),
                bad_input: false,
            }),
            Behaviour::Panic => panic!("asked to panic"),
        }
    }
}
