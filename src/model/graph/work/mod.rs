//! How much a run takes, by the shapes of what it is given: bytes held at a time, and operations to do.
//!
//! ```text
//! graph ──compiled once──► Program ──followed for the shapes of a run──► Needs
//! ```
//!
//! Most graphs tell this by shapes alone, however they calculate them. Some do not: a `Range` to a number that a request
//! brings, a `Loop` until a condition on its data holds. Nothing tells what a run of those takes before it has taken it.

mod fact;
mod flow;
mod follow;
mod program;
mod rules;

use std::sync::Arc;

use self::fact::{Content, Fact};
use self::follow::{Account, Values};
use self::program::Program;
use super::proto::ModelProto;
use crate::model::{Dim, InputSpec, Signature};
use crate::tensor::{DType, Tensor};

/// What is known of the work of a graph. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    program: Arc<Program>,
    dtypes: Arc<[DType]>,
    unbounded: Option<String>,
    open: Option<String>,
}

/// What a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Bytes that inputs, outputs and everything between them take at a time.
    pub bytes: u64,
    /// Operations with single elements.
    pub work: u64,
    /// Bytes of the outputs, as far as they are known.
    pub outputs: u64,
}

/// What matters of an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes of its longest text, rounded up.
    pub longest: usize,
}

impl Extent {
    /// That of a tensor.
    pub fn from_tensor(tensor: &Tensor) -> Self {
        let texts = tensor.as_strings().unwrap_or_default();
        let longest = texts.iter().map(String::len).max().unwrap_or_default();
        Self {
            shape: tensor.shape().to_vec(),
            // Few different ones, so that what was found for one is found again.
            longest: if longest == 0 {
                0
            } else {
                longest.next_power_of_two()
            },
        }
    }
}

/// Rows and sizes of open dimensions for which a graph is followed when it is loaded.
const SOME_ROWS: u64 = 2;
const SOME_SIZE: u64 = 16;

impl Work {
    /// Follows a graph for some shapes, to see whether shapes tell everything.
    pub(super) fn new(model: &ModelProto, signature: &Signature) -> Self {
        let inputs = signature.inputs.iter();
        let program = Program::compile(
            model,
            rules::RULES,
            inputs.clone().map(|input| input.name.clone()),
        );
        let work = Self {
            program: Arc::new(program),
            dtypes: inputs.map(|input| input.dtype).collect(),
            unbounded: None,
            open: None,
        };
        let facts = signature.inputs.iter().map(sample).collect();
        let account = work.follow(facts);
        let unbounded = account
            .unbounded
            .map(|(op, reason)| format!("operator `{op}` {reason}"));
        let cut = work
            .program
            .is_cut
            .then(|| "the graph is too large to be followed".to_owned());
        let open = account
            .open
            .map(|op| format!("shapes do not tell how much operator `{op}` has to do"));
        Self {
            open: unbounded.clone().or(cut).or(open),
            unbounded,
            ..work
        }
    }

    /// Of a graph that could not be followed.
    pub(super) fn unknown() -> Self {
        let reason = Some("the graph could not be followed".to_owned());
        Self {
            unbounded: reason.clone(),
            open: reason,
            ..Self::default()
        }
    }

    /// Why a request of a few bytes may make a run as large, or as long, as it likes; `None` when shapes bound it.
    pub fn unbounded(&self) -> Option<&str> {
        self.unbounded.as_deref()
    }

    /// Why shapes do not tell how much a run has to do; `None` when they do.
    pub fn open(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// What a run with such inputs takes, in the order of the signature; an upper bound wherever sizes can be followed.
    pub fn needs(&self, inputs: &[Extent]) -> Needs {
        let facts = inputs.iter().zip(self.dtypes.iter()).map(|(input, dtype)| {
            let shape = input.shape.iter().map(|size| *size as u64).collect();
            Fact {
                longest: input.longest as u64,
                ..Fact::shaped(*dtype, shape, Content::Values)
            }
        });
        let account = self.follow(facts.collect());
        // These shapes lead where those of the load did not: what that takes nobody knows before.
        let is_unknown = account.unbounded.is_some() && self.unbounded.is_none();
        Needs {
            bytes: if is_unknown { u64::MAX } else { account.peak },
            work: account.work,
            outputs: account.outputs,
        }
    }

    fn follow(&self, inputs: Vec<Fact>) -> Account {
        let mut values = Values::new(self.program.places);
        let bytes = inputs.iter().map(Fact::bytes).fold(0, u64::saturating_add);
        values.hold(bytes);
        for (place, fact) in self.program.body.inputs.iter().zip(inputs) {
            values.set(*place, fact);
        }
        values.follow(&self.program.body);
        let outputs = self.program.body.outputs.iter().flatten();
        let outputs = outputs.filter_map(|place| values.get(*place));
        values.account.outputs = outputs.map(Fact::bytes).fold(0, u64::saturating_add);
        values.account
    }
}

fn sample(input: &InputSpec) -> Fact {
    let Some(dims) = &input.shape else {
        return Fact::unknown(input.dtype, SOME_ROWS, Content::Values);
    };
    let size = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(size) => *size as u64,
        Dim::Any(_) if axis == 0 => SOME_ROWS,
        Dim::Any(_) => SOME_SIZE,
    };
    let shape = dims.iter().enumerate().map(size).collect();
    Fact {
        longest: SOME_SIZE,
        ..Fact::shaped(input.dtype, shape, Content::Values)
    }
}
