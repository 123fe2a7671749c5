//! A compiled graph: operators in order, each with the places of what it takes and gives.

use smallvec::SmallVec;

use super::failure::Failure;
use super::operator::{Inputs, Operator, Run, Scratch};
use super::value::{Value, View};
use crate::engine::CancelToken;

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// What the caller brings.
    Input(usize),
    /// The graph itself.
    Constant(usize),
    /// What an operator made in this run.
    Register(usize),
}

/// An operator and where it reads and writes.
pub(super) struct Step {
    /// Domain and name, for messages.
    pub(super) name: String,
    pub(super) operator: Box<dyn Operator>,
    pub(super) inputs: Vec<Option<Place>>,
    /// Registers.
    pub(super) outputs: Vec<usize>,
}

/// A compiled graph: immutable, shared by all its sessions.
#[derive(Default)]
pub(super) struct Program {
    pub(super) constants: Vec<Value>,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<Place>,
    /// How many registers a run needs.
    pub(super) registers: usize,
}

/// The memory of runs, one after the other.
#[derive(Debug, Default)]
pub(super) struct Registers {
    values: Vec<Value>,
    scratch: Scratch,
}

/// A run looks whether somebody still waits for it after so many elements at the latest.
const ELEMENTS_BETWEEN_CHECKS: usize = 1 << 14;

impl Program {
    /// Runs all operators.
    ///
    /// # Errors
    /// [`Failure`], naming the operator.
    pub(super) fn run(
        &self,
        inputs: &[View<'_>],
        registers: &mut Registers,
        cancel: &CancelToken,
    ) -> Result<(), Failure> {
        let Registers { values, scratch } = registers;
        values.resize_with(self.registers, Value::default);
        let mut run = Run { cancel, scratch };
        let mut since_check = ELEMENTS_BETWEEN_CHECKS;
        for step in &self.steps {
            if since_check >= ELEMENTS_BETWEEN_CHECKS {
                run.check()?;
                since_check = 0;
            }
            let mut outputs: SmallVec<[Value; 2]> = SmallVec::new();
            for register in &step.outputs {
                outputs.push(std::mem::take(&mut values[*register]));
            }
            let mut views: SmallVec<[Option<View<'_>>; 6]> = SmallVec::new();
            for place in &step.inputs {
                let view = place.map(|place| self.view(place, inputs, values));
                since_check += view.map_or(0, |view| view.len());
                views.push(view);
            }
            let outcome = step.operator.run(&Inputs(&views), &mut outputs, &mut run);
            drop(views);
            let is_whole = outputs.iter().all(Value::is_whole);
            for (register, output) in step.outputs.iter().zip(outputs) {
                values[*register] = output;
            }
            outcome.map_err(|failure| named(&step.name, failure))?;
            if !is_whole {
                let failure = Failure::new("made an array that does not fill its shape".to_owned());
                return Err(named(&step.name, failure));
            }
        }
        Ok(())
    }

    /// A value after a run.
    pub(super) fn view<'v>(
        &'v self,
        place: Place,
        inputs: &[View<'v>],
        values: &'v [Value],
    ) -> View<'v> {
        match place {
            Place::Input(index) => inputs[index],
            Place::Constant(index) => self.constants[index].view(),
            Place::Register(index) => values[index].view(),
        }
    }

    /// An output of the run before, by its place: taken out of its register, or a copy where others own it.
    pub(super) fn take(
        &self,
        place: Place,
        inputs: &[View<'_>],
        registers: &mut Registers,
    ) -> Value {
        match place {
            Place::Register(index) => std::mem::take(&mut registers.values[index]),
            place => self.view(place, inputs, &registers.values).to_value(),
        }
    }

    /// A copy of an output of the run before.
    pub(super) fn copy(&self, place: Place, inputs: &[View<'_>], registers: &Registers) -> Value {
        self.view(place, inputs, &registers.values).to_value()
    }

    /// An output of the run before, to look at.
    pub(super) fn output<'v>(
        &'v self,
        index: usize,
        inputs: &[View<'v>],
        registers: &'v Registers,
    ) -> View<'v> {
        self.view(self.outputs[index], inputs, &registers.values)
    }

    /// Elements of the constants that matrices are multiplied with.
    pub(super) fn matrix_weights(&self) -> usize {
        let products = self
            .steps
            .iter()
            .filter(|step| matches!(step.name.as_str(), "MatMul" | "Gemm"));
        let constants = products.flat_map(|step| step.inputs.iter().flatten());
        let weights = constants.filter_map(|place| match place {
            Place::Constant(index) => self.constants.get(*index),
            _ => None,
        });
        weights.map(|value| value.view().len()).sum()
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> u64 {
        let constants = self.constants.iter().map(Value::size);
        let operators = self.steps.iter().map(|step| step.operator.size());
        constants.chain(operators).sum()
    }

    /// Nanoseconds for a row, roughly; `None` where that depends on what a request brings.
    pub(super) fn cost(&self) -> Option<u64> {
        let costs = self.steps.iter().map(|step| step.operator.cost());
        let total = costs.sum::<Option<u64>>()?;
        Some(total + self.matrix_weights() as u64 / 2)
    }
}

fn named(operator: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Operator(reason) => Failure::Operator(format!("operator `{operator}`: {reason}")),
        Failure::Shapes(reason) => Failure::Shapes(format!("operator `{operator}`: {reason}")),
        Failure::Cancelled => Failure::Cancelled,
    }
}
