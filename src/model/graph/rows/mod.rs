//! Whether the rows of a graph are independent: a proof, not a trial.
//!
//! Proven means f(A ++ B) = f(A) ++ f(B) for all rows A and B: no row of an answer depends on another row, on its own
//! position, or on the number of rows, and each output has exactly the rows of the inputs on its first axis. Each
//! operator has a rule; what has none proves nothing. Numbers may differ by how kernels add.
//!
//! ```text
//! inputs ──► Value (rows on an axis │ the same for all │ sizes │ not proven) ──rules──► outputs
//! ```

mod call;
mod flow;
mod rules;
mod size;
#[cfg(test)]
mod tests;
mod value;

use std::cell::Cell;
use std::collections::HashMap;

use self::call::{Attributes, Call, Symbols};
use self::size::{Number, Size};
use self::value::{Content, Integers, Refusal, Tensor, Value};
use super::domain;
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto,
};
use crate::model::{Dim, Signature};

/// Whether requests may share a run of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowProof {
    /// The answer to a row is proven to depend on that row alone.
    Independent,
    /// It is not: the first reason that was found.
    Unproven(String),
}

/// Nodes that are looked at, at most: functions that call each other could make a small file a large graph.
const MOST_NODES: u32 = 200_000;

/// Subgraphs and functions in each other, at most.
const DEEPEST: u32 = 32;

/// Judges a graph by its nodes.
pub(super) fn analyse(model: &ModelProto, signature: &Signature) -> RowProof {
    let Some(graph) = &model.graph else {
        return RowProof::Unproven("it holds no graph".to_owned());
    };
    let functions = model.functions.iter();
    let functions = functions.map(|function| (function_key(function), function));
    let analysis = Analysis {
        functions: functions.collect(),
        symbols: Symbols::default(),
        nodes: Cell::new(0),
    };
    let opsets = Opsets(&model.opset_import);
    let attributes = Attributes::new();
    let mut scope = Scope::new(None, &opsets, &attributes, 0);
    inputs(signature, &analysis.symbols, &mut scope);
    analysis.graph(graph, &mut scope);
    match graph
        .output
        .iter()
        .find_map(|output| refusal(&scope, output.name.as_deref()))
    {
        None => RowProof::Independent,
        Some(reason) => RowProof::Unproven(reason),
    }
}

/// Why an output does not have exactly the rows on its first axis.
fn refusal(scope: &Scope<'_>, output: Option<&str>) -> Option<String> {
    let name = output.unwrap_or_default();
    let value = scope.get(name);
    let reason = match &value {
        Value::Unproven(reason) => return Some(reason.to_string()),
        Value::Tensor(tensor) if tensor.padded.is_some() => {
            "is as long as the longest text of all rows"
        }
        Value::Tensor(tensor) => match (tensor.rows, tensor.row_size()) {
            (Some(0), Some(size)) if *size == Size::ROWS => return None,
            (Some(0), _) => "has another number of rows than the inputs",
            (Some(_), _) => "has the rows on another axis than the first",
            (None, _) => "has no rows",
        },
        Value::Sizes(_) => "tells the number of rows",
        Value::Positions(_) => "tells the positions of the rows",
    };
    Some(format!("output `{name}` {reason}"))
}

/// What requests bring.
fn inputs<'s>(signature: &'s Signature, symbols: &Symbols, scope: &mut Scope<'_>) {
    let carriers = signature.row_inputs();
    let rows_name = signature.rows_name();
    let mut named: HashMap<&str, Size> = HashMap::new();
    for (input, carries) in signature.inputs.iter().zip(carriers) {
        let Some(dims) = &input.shape else {
            let reason = format!("input `{}` leaves its rank open", input.name);
            scope.set(&input.name, Value::Unproven(reason.into()));
            continue;
        };
        let inner = if carries { 1 } else { 0 };
        let size = |(place, dim): (usize, &'s Dim)| match dim {
            _ if carries && place == 0 => Some(Size::ROWS),
            Dim::Fixed(size) => Some(Size::known(*size as u64)),
            Dim::Any(Some(name)) if Some(name.as_str()) == rows_name && place >= inner => None,
            Dim::Any(Some(name)) => {
                Some(named.entry(name).or_insert_with(|| symbols.fresh()).clone())
            }
            Dim::Any(None) => Some(symbols.fresh()),
        };
        let shape: Option<Vec<Size>> = dims.iter().enumerate().map(size).collect();
        let value = match shape {
            Some(shape) => Tensor::with_rows(shape, carries.then_some(0)).into(),
            None => {
                let reason = format!(
                    "input `{}` has the number of rows on an inner axis",
                    input.name
                );
                Value::Unproven(reason.into())
            }
        };
        scope.set(&input.name, value);
    }
}

type FunctionKey<'a> = (String, &'a str, &'a str);

fn function_key(function: &FunctionProto) -> FunctionKey<'_> {
    let name = function.name.as_deref().unwrap_or_default();
    (
        domain(&function.domain),
        name,
        function.overload.as_deref().unwrap_or_default(),
    )
}

/// The operator sets of a model or a function.
struct Opsets<'a>(&'a [OperatorSetIdProto]);

impl Opsets<'_> {
    fn version(&self, of: &str) -> i64 {
        let mut sets = self.0.iter();
        let set = sets.find(|set| domain(&set.domain) == of);
        set.and_then(|set| set.version).unwrap_or_default()
    }
}

/// The values of one graph, which sees those of the graphs around it.
struct Scope<'a> {
    around: Option<&'a Self>,
    opsets: &'a Opsets<'a>,
    /// Inside a function: what its call says.
    attributes: &'a Attributes<'a>,
    depth: u32,
    values: HashMap<String, Value>,
}

impl<'a> Scope<'a> {
    fn new(
        around: Option<&'a Self>,
        opsets: &'a Opsets<'a>,
        attributes: &'a Attributes<'a>,
        depth: u32,
    ) -> Self {
        Self {
            around,
            opsets,
            attributes,
            depth,
            values: HashMap::new(),
        }
    }

    /// The scope of a subgraph.
    fn inner(&'a self) -> Self {
        Self::new(Some(self), self.opsets, self.attributes, self.depth + 1)
    }

    fn set(&mut self, name: &str, value: Value) {
        if !name.is_empty() {
            self.values.insert(name.to_owned(), value);
        }
    }

    fn get(&self, name: &str) -> Value {
        match (self.values.get(name), self.around) {
            (Some(value), _) => value.clone(),
            (None, Some(around)) => around.get(name),
            (None, None) => Value::Unproven(format!("nothing gives `{name}`").into()),
        }
    }
}

struct Analysis<'a> {
    functions: HashMap<FunctionKey<'a>, &'a FunctionProto>,
    symbols: Symbols,
    nodes: Cell<u32>,
}

impl<'a> Analysis<'a> {
    /// Follows a graph whose inputs are in `scope`.
    fn graph(&self, graph: &'a GraphProto, scope: &mut Scope<'_>) {
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            // What a request may replace is an input. In a subgraph the name hides that of the graph around it.
            if scope.around.is_some() || !scope.values.contains_key(name) {
                scope.set(name, constant(tensor).into());
            }
        }
        for tensor in &graph.sparse_initializer {
            let name = tensor
                .values
                .as_ref()
                .and_then(|values| values.name.as_deref());
            scope.set(name.unwrap_or_default(), Tensor::unknown().into());
        }
        self.nodes(&graph.node, scope);
    }

    fn nodes(&self, nodes: &'a [NodeProto], scope: &mut Scope<'_>) {
        for node in nodes {
            let values = self.node(node, scope);
            let values = values.into_iter().map(Some).chain(std::iter::repeat(None));
            for (name, value) in node.output.iter().zip(values) {
                let missing = || Value::Unproven(format!("nothing gives `{name}`").into());
                scope.set(name, value.unwrap_or_else(missing));
            }
        }
    }

    /// The outputs of a node.
    fn node(&self, node: &'a NodeProto, scope: &Scope<'_>) -> Vec<Value> {
        let op = node.op_type.as_deref().unwrap_or_default();
        let all = |value: Value| vec![value; node.output.len()];
        self.nodes.set(self.nodes.get().saturating_add(1));
        if self.nodes.get() > MOST_NODES || scope.depth > DEEPEST {
            return all(Value::Unproven(
                "the graph is too large to be followed".into(),
            ));
        }
        let inputs = node
            .input
            .iter()
            .map(|name| (!name.is_empty()).then(|| scope.get(name)));
        let inputs: Vec<Option<Value>> = inputs.collect();
        if let Some(unproven) = first_unproven(&inputs) {
            return all(unproven);
        }
        let domain = domain(&node.domain);
        let attributes = attributes(node, scope);
        let key = (domain, op, node.overload.as_deref().unwrap_or_default());
        if let Some(function) = self.functions.get(&key) {
            return self.function(function, inputs, attributes, scope.depth);
        }
        let call = Call {
            opset: scope.opsets.version(&key.0),
            domain: &key.0,
            op,
            attributes,
            inputs,
            outputs: node.output.len(),
            symbols: &self.symbols,
        };
        match self.apply(&call, scope) {
            Ok(values) => values,
            Err(refusal) => all(Value::Unproven(described(node, refusal).into())),
        }
    }

    fn apply(&self, call: &Call<'a>, scope: &Scope<'_>) -> Result<Vec<Value>, Refusal> {
        match (call.domain, call.op) {
            ("", "If" | "Loop" | "Scan") => self.flow(call, scope),
            _ => rules::apply(call),
        }
    }

    /// A function of the model's own, followed with the values of this call.
    fn function(
        &self,
        function: &'a FunctionProto,
        inputs: Vec<Option<Value>>,
        mut attributes: Attributes<'a>,
        depth: u32,
    ) -> Vec<Value> {
        // What the call gives is found first.
        attributes.extend(function.attribute_proto.iter().map(named));
        let opsets = Opsets(&function.opset_import);
        let mut scope = Scope::new(None, &opsets, &attributes, depth + 1);
        for (name, value) in function.input.iter().zip(inputs) {
            if let Some(value) = value {
                scope.set(name, value);
            }
        }
        self.nodes(&function.node, &mut scope);
        function.output.iter().map(|name| scope.get(name)).collect()
    }
}

fn first_unproven(inputs: &[Option<Value>]) -> Option<Value> {
    let unproven = |value: &&Value| matches!(value, Value::Unproven(_));
    inputs.iter().flatten().find(unproven).cloned()
}

fn named(attribute: &AttributeProto) -> (&str, &AttributeProto) {
    (attribute.name.as_deref().unwrap_or_default(), attribute)
}

/// The attributes of a node; in a function some are those of its call.
fn attributes<'a>(node: &'a NodeProto, scope: &Scope<'a>) -> Attributes<'a> {
    let resolve = |attribute: &'a AttributeProto| {
        let (name, own) = named(attribute);
        match attribute.ref_attr_name.as_deref() {
            None | Some("") => Some((name, own)),
            Some(reference) => {
                let mut given = scope.attributes.iter();
                given
                    .find(|given| given.0 == reference)
                    .map(|given| (name, given.1))
            }
        }
    };
    node.attribute.iter().filter_map(resolve).collect()
}

fn described(node: &NodeProto, refusal: Refusal) -> String {
    let op = node.op_type.as_deref().unwrap_or_default();
    match node.name.as_deref() {
        Some(name) if !name.is_empty() => format!("operator `{op}` (node `{name}`) {refusal}"),
        _ => format!("operator `{op}` {refusal}"),
    }
}

/// What is known of a constant.
fn constant(tensor: &TensorProto) -> Tensor {
    let shape: Option<Vec<Size>> = {
        let dims = tensor.dims.iter();
        dims.map(|dim| u64::try_from(*dim).ok().map(Size::known))
            .collect()
    };
    let integers = || {
        let elements = tensor.integers()?.into_iter().map(Number::Known).collect();
        match tensor.dims.len() {
            0 => Some(Integers {
                elements,
                is_scalar: true,
            }),
            1 => Some(Integers::vector(elements)),
            _ => None,
        }
    };
    let floats = || (tensor.dims.len() <= 1).then(|| tensor.floats()).flatten();
    let content = integers().map(Content::Integers);
    Tensor {
        shape,
        content: content.or_else(|| floats().map(Content::Floats)),
        ..Tensor::default()
    }
}
