//! Follows a program for inputs of known shapes: what each value is, what is held at a time, how much there is to do.

use super::fact::{Content, Fact, derived};
use super::flow;
use super::program::{Attribute, Body, Place, Step};
use crate::tensor::DType;

/// What is known of operators, by their domain and name.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// What one does to sizes.
    pub(super) find: fn(&str, &str) -> Rule,
    /// Whether shapes do not tell how much there is to do.
    pub(super) is_open: fn(&str, &str) -> bool,
}

/// What an operator does to sizes.
pub(super) type Rule = fn(&Call<'_>) -> Result<Effect, Unbounded>;

/// Why nothing is known of the sizes of a value before the operator runs.
pub(super) type Unbounded = &'static str;

/// What an operator gives, and takes.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) outputs: Vec<Fact>,
    /// Operations with single elements; `None` is as many as the larger of inputs and outputs have elements.
    pub(super) work: Option<u64>,
    /// Bytes that it needs beside inputs and outputs.
    pub(super) scratch: u64,
}

impl From<Fact> for Effect {
    fn from(output: Fact) -> Self {
        vec![output].into()
    }
}

impl From<Vec<Fact>> for Effect {
    fn from(outputs: Vec<Fact>) -> Self {
        Self {
            outputs,
            work: None,
            scratch: 0,
        }
    }
}

/// A step with what is known of its inputs.
pub(super) struct Call<'a> {
    pub(super) step: &'a Step,
    pub(super) inputs: Vec<Option<&'a Fact>>,
}

impl<'a> Call<'a> {
    pub(super) fn input(&self, index: usize) -> Option<&'a Fact> {
        self.inputs.get(index).copied().flatten()
    }

    /// All inputs that are given.
    pub(super) fn given(&self) -> impl Iterator<Item = &'a Fact> {
        self.inputs.iter().copied().flatten()
    }

    pub(super) fn shape(&self, index: usize) -> Option<&'a [u64]> {
        self.input(index)?.shape.as_deref()
    }

    fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        let mut attributes = self.step.attributes.iter();
        let found = attributes.find(|attribute| &*attribute.0 == name);
        found.map(|found| &found.1)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        match self.attribute(name) {
            Some(Attribute::Number(number)) => *number,
            _ => default,
        }
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        match self.attribute(name)? {
            Attribute::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    pub(super) fn floats(&self, name: &str) -> Option<&'a [f32]> {
        match self.attribute(name)? {
            Attribute::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match self.attribute(name)? {
            Attribute::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a Fact> {
        match self.attribute(name)? {
            Attribute::Tensor(fact) => Some(fact),
            _ => None,
        }
    }

    /// How many elements a list has; 0 for one that is not there.
    pub(super) fn count(&self, name: &str) -> u64 {
        let count = match self.attribute(name) {
            Some(Attribute::Numbers(numbers)) => numbers.len(),
            Some(Attribute::Floats(numbers)) => numbers.len(),
            Some(Attribute::Many { count, .. }) => *count,
            _ => 0,
        };
        count as u64
    }

    /// The largest element of a list.
    pub(super) fn largest(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            Attribute::Numbers(numbers) => numbers.iter().copied().max(),
            Attribute::Many { largest, .. } => Some(*largest),
            _ => None,
        }
    }

    pub(super) fn dtype(&self, index: usize) -> DType {
        self.input(index).map_or(DType::F32, |fact| fact.dtype)
    }

    /// Whether all axes of the inputs have exactly what is known of them.
    pub(super) fn is_exact(&self) -> bool {
        self.given().all(|fact| fact.is_exact)
    }

    /// A result of this shape, calculated from all inputs.
    pub(super) fn result(&self, dtype: DType, shape: Vec<u64>) -> Fact {
        let longest = self.given().map(|fact| fact.longest).max();
        Fact {
            longest: longest.unwrap_or_default(),
            ..Fact::shaped(dtype, shape, derived(self.given()))
        }
        .inexact(!self.is_exact())
    }

    /// A result whose shape is not known: as large as the largest input.
    pub(super) fn guess(&self, dtype: DType) -> Fact {
        let guess = self.given().map(Fact::elements).max().unwrap_or_default();
        let longest = self.given().map(|fact| fact.longest).max();
        Fact {
            longest: longest.unwrap_or_default(),
            ..Fact::unknown(dtype, guess, derived(self.given()))
        }
    }
}

/// What was learned of a program for some shapes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Account {
    /// The most bytes that values take at a time.
    pub(super) peak: u64,
    /// Operations with single elements.
    pub(super) work: u64,
    /// The first operator that may give more than shapes tell, and why.
    pub(super) unbounded: Option<(Box<str>, Unbounded)>,
    /// The first operator whose work shapes do not tell.
    pub(super) open: Option<Box<str>>,
    /// Bytes of the outputs of the graph.
    pub(super) outputs: u64,
}

/// The values of a program, by their places.
pub(super) struct Values {
    facts: Vec<Option<Fact>>,
    pub(super) account: Account,
    /// Bytes held now.
    held: u64,
    /// Steps that were followed: rounds within rounds are many.
    steps: u32,
}

/// A graph of more steps, its bodies followed as often as they are, is not followed to its end.
const MOST_STEPS: u32 = 500_000;

impl Values {
    pub(super) fn new(places: usize) -> Self {
        Self {
            facts: vec![None; places],
            account: Account::default(),
            held: 0,
            steps: 0,
        }
    }

    pub(super) fn get(&self, place: Place) -> Option<&Fact> {
        self.facts.get(place as usize)?.as_ref()
    }

    pub(super) fn set(&mut self, place: Place, fact: Fact) {
        if let Some(own) = self.facts.get_mut(place as usize) {
            *own = Some(fact);
        }
    }

    /// So many bytes more are held.
    pub(super) fn hold(&mut self, bytes: u64) {
        self.held = self.held.saturating_add(bytes);
        self.account.peak = self.account.peak.max(self.held);
    }

    pub(super) fn release(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// What is held is this again, as everything of a subgraph is gone.
    pub(super) fn back_to(&mut self, held: u64) {
        self.held = held;
    }

    pub(super) fn works(&mut self, work: u64) {
        self.account.work = self.account.work.saturating_add(work);
    }

    pub(super) fn note_open(&mut self, op: &str) {
        self.account.open.get_or_insert_with(|| op.into());
    }

    pub(super) fn note_unbounded(&mut self, op: &str, reason: Unbounded) {
        self.account
            .unbounded
            .get_or_insert_with(|| (op.into(), reason));
    }

    /// Follows a body whose inputs are set.
    pub(super) fn follow(&mut self, body: &Body) {
        for (place, fact) in &body.constants {
            // An input of this name is only a default of it, which is the same here.
            self.set(*place, fact.clone());
        }
        for step in &body.steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        self.steps = self.steps.saturating_add(1);
        if self.steps > MOST_STEPS {
            self.note_unbounded(
                &step.op,
                "is in more rounds within rounds than are followed",
            );
            return;
        }
        let held = self.held;
        let effect = match &*step.op {
            "If" | "Loop" | "Scan" if step.domain.is_empty() => flow::follow(step, self),
            _ => self.apply(step),
        };
        self.back_to(held);
        // What dies here is often written over: such operators need no second tensor.
        let dying: u64 = step
            .last_of
            .iter()
            .filter(|place| !step.outputs.contains(&Some(**place)))
            .filter_map(|place| self.get(*place))
            .map(Fact::bytes)
            .fold(0, u64::saturating_add);
        let is_in_place = writes_over(step);
        if is_in_place {
            self.release(dying);
        }
        let outputs: u64 = effect
            .outputs
            .iter()
            .map(Fact::bytes)
            .fold(0, u64::saturating_add);
        self.hold(outputs.saturating_add(effect.scratch));
        self.release(effect.scratch);
        if !is_in_place {
            self.release(dying);
        }
        let inputs = step
            .inputs
            .iter()
            .flatten()
            .filter_map(|place| self.get(*place));
        let largest = inputs.chain(&effect.outputs).map(Fact::elements).max();
        self.works(effect.work.unwrap_or(largest.unwrap_or_default()));
        for (place, fact) in step.outputs.iter().zip(effect.outputs) {
            if let Some(place) = place {
                // Nobody reads it.
                if step.last_of.contains(place) {
                    self.release(fact.bytes());
                }
                self.set(*place, fact);
            }
        }
    }

    fn apply(&mut self, step: &Step) -> Effect {
        let inputs = step.inputs.iter();
        let call = Call {
            step,
            inputs: inputs.map(|place| self.get((*place)?)).collect(),
        };
        let (effect, refused) = match (step.rule)(&call) {
            Ok(effect) => (effect, None),
            Err(reason) => (
                vec![call.guess(call.dtype(0)); step.outputs.len()].into(),
                Some(reason),
            ),
        };
        if let Some(reason) = refused {
            self.note_unbounded(&step.op, reason);
        }
        if step.is_open {
            self.note_open(&step.op);
        }
        effect
    }
}

/// Whether the output may lie where an input was.
fn writes_over(step: &Step) -> bool {
    matches!(
        &*step.op,
        "Reshape"
            | "Squeeze"
            | "Unsqueeze"
            | "Flatten"
            | "Identity"
            | "Relu"
            | "Sigmoid"
            | "Tanh"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Clip"
            | "LeakyRelu"
            | "Elu"
            | "Selu"
            | "Exp"
            | "Log"
            | "Neg"
            | "Sqrt"
            | "Abs"
            | "Dropout"
            | "Softmax"
            | "BatchNormalization"
            | "Erf"
            | "HardSigmoid"
            | "Softplus"
    )
}

/// What is known of a value that is one of two.
pub(super) fn either(one: &Fact, other: &Fact) -> Fact {
    let shape = match (&one.shape, &other.shape) {
        (Some(one), Some(other)) if one.len() == other.len() => {
            let sizes = one.iter().zip(other);
            Some(sizes.map(|(one, other)| (*one).max(*other)).collect())
        }
        _ => None,
    };
    let same = one.shape == other.shape;
    let content = match (&one.content, &other.content) {
        (one, other) if one == other => one.clone(),
        (Content::Values, _) | (_, Content::Values) => Content::Values,
        _ => Content::Fixed,
    };
    Fact {
        dtype: one.dtype,
        shape,
        is_exact: same && one.is_exact && other.is_exact,
        guess: one.elements().max(other.elements()),
        content,
        longest: one.longest.max(other.longest),
    }
}
