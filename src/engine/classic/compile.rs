//! From a graph to a program: nodes in the order of their needs, functions in the place of their calls, constants
//! calculated, registers used again once nobody reads them any more.

use std::collections::{BTreeMap, HashMap};

use super::body::{Bodies, Body};
use super::failure::Refusal;
use super::folding::{MOST_CONSTANTS, fold};
use super::known::{Array, Known};
use super::node::Node;
use super::operator::Built;
use super::operators;
use super::order::{captures, in_order};
use super::program::{Place, Program, Step};
use super::registers;
use super::value::Value;
use crate::model::onnx::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, domain,
};
use crate::tensor::DType;

/// Calls inside each other, subgraphs included.
const DEEPEST: usize = 64;

/// Nodes of a graph with its functions in the place of their calls; the reader of graphs has counted them before.
const MOST_STEPS: usize = 1_000_000;

/// A compiled graph and what its outputs are.
pub(super) struct Compiled {
    pub(super) program: Program,
    pub(super) outputs: Vec<Known>,
}

/// Compiles a model whose inputs, in this order, are of these types.
///
/// # Errors
/// [`Refusal`].
pub(super) fn compile(model: &ModelProto, inputs: &[(String, DType)]) -> Result<Compiled, Refusal> {
    let graph = model.graph.as_ref();
    let graph = graph.ok_or_else(|| Refusal::Graph("the model holds no graph".to_owned()))?;
    let functions = model.functions.iter().map(|function| {
        let key = (
            domain(&function.domain),
            function.name.clone().unwrap_or_default(),
            function.overload.clone().unwrap_or_default(),
        );
        (key, function)
    });
    let context = Context {
        functions: functions.collect(),
    };
    let mut compiler = Compiler::new(&context, 0);
    let mut scope = Scope::new(opsets(&model.opset_import));
    for (index, (name, dtype)) in inputs.iter().enumerate() {
        scope.set_input(name, index, *dtype);
    }
    let outputs = compiler.graph(graph, scope)?;
    Ok(compiler.finish(outputs))
}

/// Compiles the graphs inside an operator.
struct BodyCompiler<'c, 'g> {
    context: &'c Context<'g>,
    /// What the names around the operator stand for.
    scope: &'c Scope,
    depth: usize,
}

impl Bodies for BodyCompiler<'_, '_> {
    fn compile(&self, graph: &GraphProto, inputs: &[DType]) -> Result<Body, Refusal> {
        if self.depth >= DEEPEST {
            return Err(Refusal::Graph(
                "graphs are too deep inside each other".to_owned(),
            ));
        }
        let mut scope = Scope::new(self.scope.opsets.clone());
        for (index, (input, dtype)) in graph.input.iter().zip(inputs).enumerate() {
            let name = input.name.as_deref().unwrap_or_default();
            scope.set_input(name, index, *dtype);
        }
        let captured = self.capture(graph, &mut scope, inputs.len());
        let mut compiler = Compiler::new(self.context, self.depth + 1);
        let outputs = compiler.graph(graph, scope)?;
        let Compiled { program, outputs } = compiler.finish(outputs);
        let dtypes = outputs.iter().map(|output| match output {
            Known::Array(array) => Ok(array.dtype),
            _ => Err(Refusal::Graph(
                "a graph inside an operator gives maps or sequences".to_owned(),
            )),
        });
        Ok(Body {
            dtypes: dtypes.collect::<Result<_, _>>()?,
            program,
            captured,
        })
    }
}

impl BodyCompiler<'_, '_> {
    /// Gives a graph the values around it that it reads: each is one more input.
    fn capture(&self, graph: &GraphProto, inner: &mut Scope, first: usize) -> Vec<Place> {
        let mut places = Vec::new();
        for name in captures(graph) {
            if inner.get(name).is_some() {
                continue;
            }
            if let Some(Known::Array(Array { place, dtype })) = self.scope.get(name).cloned() {
                inner.set_input(name, first + places.len(), dtype);
                places.push(place);
            }
        }
        places
    }
}

/// What all graphs of a model share.
struct Context<'g> {
    /// By domain, name and overload.
    functions: HashMap<(String, String, String), &'g FunctionProto>,
}

/// What names stand for in a graph or in a call of a function.
#[derive(Debug, Clone, Default)]
struct Scope {
    opsets: BTreeMap<String, i64>,
    names: HashMap<String, Known>,
}

impl Scope {
    fn new(opsets: BTreeMap<String, i64>) -> Self {
        let names = HashMap::new();
        Self { opsets, names }
    }

    fn set(&mut self, name: &str, known: Known) {
        self.names.insert(name.to_owned(), known);
    }

    fn set_input(&mut self, name: &str, index: usize, dtype: DType) {
        let place = Place::Input(index);
        self.set(name, Known::Array(Array { place, dtype }));
    }

    fn get(&self, name: &str) -> Option<&Known> {
        self.names.get(name)
    }
}

fn opsets(imports: &[OperatorSetIdProto]) -> BTreeMap<String, i64> {
    let imports = imports.iter();
    imports
        .map(|set| (domain(&set.domain), set.version.unwrap_or_default()))
        .collect()
}

/// A compilation that goes on.
struct Compiler<'c, 'g> {
    context: &'c Context<'g>,
    program: Program,
    /// Elements of all constants of the program.
    held: usize,
    depth: usize,
}

impl<'c, 'g> Compiler<'c, 'g> {
    fn new(context: &'c Context<'g>, depth: usize) -> Self {
        Self {
            context,
            program: Program::default(),
            held: 0,
            depth,
        }
    }

    fn graph(&mut self, graph: &GraphProto, mut scope: Scope) -> Result<Vec<Known>, Refusal> {
        if !graph.sparse_initializer.is_empty() {
            return Err(Refusal::Graph(
                "sparse initializers are not supported".to_owned(),
            ));
        }
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            // An input that a request may leave out: its value comes with the request.
            if matches!(
                scope.get(name),
                Some(Known::Array(Array {
                    place: Place::Input(_),
                    ..
                }))
            ) {
                continue;
            }
            let refuse = |problem: String| {
                Refusal::Graph(format!("initializer `{}` {problem}", name.escape_debug()))
            };
            let tensor = tensor.tensor().map_err(|error| refuse(error.to_string()))?;
            let value = Value::from_tensor(&tensor)
                .map_err(|error| refuse(format!("cannot be used: {error}")))?;
            let known = self.constant(value);
            scope.set(name, Known::Array(known));
        }
        let outputs = graph
            .output
            .iter()
            .map(|output| output.name.as_deref().unwrap_or_default());
        let outputs: Vec<&str> = outputs.collect();
        self.nodes(&graph.node, &outputs, &mut scope)?;
        outputs
            .into_iter()
            .map(|name| found(&scope, name))
            .collect()
    }

    fn constant(&mut self, value: Value) -> Array {
        let dtype = value.view().dtype();
        self.held = self.held.saturating_add(value.view().len());
        self.program.constants.push(value);
        let place = Place::Constant(self.program.constants.len() - 1);
        Array { place, dtype }
    }

    /// Compiles what these names need, each node after those that it reads.
    fn nodes(
        &mut self,
        nodes: &[NodeProto],
        names: &[&str],
        scope: &mut Scope,
    ) -> Result<(), Refusal> {
        for index in in_order(nodes, names, |name| scope.get(name).is_some())? {
            self.node(&nodes[index], scope)?;
            if self.program.steps.len() > MOST_STEPS {
                return Err(Refusal::Graph(
                    "the graph has too many operators".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn node(&mut self, proto: &NodeProto, scope: &mut Scope) -> Result<(), Refusal> {
        let operator_domain = domain(&proto.domain);
        let op_type = proto.op_type.clone().unwrap_or_default();
        let overload = proto.overload.clone().unwrap_or_default();
        let key = (operator_domain.clone(), op_type, overload);
        if let Some(function) = self.context.functions.get(&key) {
            return self.call(proto, function, scope);
        }
        let known = proto.input.iter().map(|name| match name.as_str() {
            "" => Ok(None),
            name => found(scope, name).map(Some),
        });
        let known = known.collect::<Result<Vec<_>, _>>()?;
        let array = |known: &Option<Known>| match known {
            Some(Known::Array(array)) => Some(*array),
            _ => None,
        };
        let node = Node {
            proto,
            domain: &operator_domain,
            version: scope
                .opsets
                .get(&operator_domain)
                .copied()
                .unwrap_or_default(),
            inputs: known
                .iter()
                .map(|known| array(known).map(|array| array.dtype))
                .collect(),
        };
        if let Some(outputs) = operators::structural(&node, &known)? {
            return bind(&node, scope, outputs);
        }
        if known
            .iter()
            .any(|known| known.is_some() && array(known).is_none())
        {
            return Err(node.refuse("maps and sequences can only be outputs of a graph"));
        }
        let (built, captured) = self.build(&node, scope)?;
        let places = known
            .iter()
            .map(|known| array(known).map(|array| array.place));
        let places: Vec<Option<Place>> = places.chain(captured.into_iter().map(Some)).collect();
        let labels = built.labels.clone();
        let outputs = self.add(&node, built, places)?;
        let outputs = outputs.into_iter().map(|array| match labels.clone() {
            Some(labels) => Known::Maps {
                labels,
                scores: array,
            },
            None => Known::Array(array),
        });
        bind(&node, scope, outputs.collect())
    }

    /// The operator of a node, and what it reads of the graph around it.
    fn build(&self, node: &Node<'_>, scope: &Scope) -> Result<(Built, Vec<Place>), Refusal> {
        let bodies = BodyCompiler {
            context: self.context,
            scope,
            depth: self.depth,
        };
        if let Some(made) = operators::with_body(node, &bodies)? {
            return Ok(made);
        }
        match operators::find(node.domain, node.op_type()) {
            Some(build) => Ok((build(node)?, Vec::new())),
            None => Err(node.refuse("is not supported")),
        }
    }

    /// Adds a node: as a step, or as constants where it has nothing but constants.
    fn add(
        &mut self,
        node: &Node<'_>,
        built: Built,
        places: Vec<Option<Place>>,
    ) -> Result<Vec<Array>, Refusal> {
        let made = built.dtypes.len();
        if node.outputs() > made {
            return Err(node.refuse(format!("has {} outputs; expected {made}", node.outputs())));
        }
        let folded = (operators::is_foldable(node) && self.held <= MOST_CONSTANTS)
            .then(|| fold(&self.program.constants, &built, &places))
            .flatten();
        Ok(match folded {
            Some(values) => values
                .into_iter()
                .map(|value| self.constant(value))
                .collect(),
            None => self.step(node.operator(), built, places),
        })
    }

    /// Adds a step that writes into registers of its own; [`Self::finish`] lets steps share them.
    fn step(&mut self, name: String, built: Built, inputs: Vec<Option<Place>>) -> Vec<Array> {
        let first = self.program.registers;
        let outputs: Vec<usize> = (first..first + built.dtypes.len()).collect();
        self.program.registers += outputs.len();
        let arrays = outputs
            .iter()
            .zip(&built.dtypes)
            .map(|(register, dtype)| Array {
                place: Place::Register(*register),
                dtype: *dtype,
            });
        let arrays = arrays.collect();
        self.program.steps.push(Step {
            name,
            operator: built.operator,
            inputs,
            outputs,
        });
        arrays
    }

    /// Puts the nodes of a function in the place of its call.
    fn call(
        &mut self,
        call: &NodeProto,
        function: &FunctionProto,
        scope: &mut Scope,
    ) -> Result<(), Refusal> {
        let name = function.name.clone().unwrap_or_default();
        if self.depth >= DEEPEST {
            return Err(Refusal::Graph(format!(
                "function `{name}` is called too deep inside others"
            )));
        }
        let mut inner = Scope::new(match opsets(&function.opset_import) {
            own if own.is_empty() => scope.opsets.clone(),
            own => own,
        });
        for (parameter, argument) in function.input.iter().zip(&call.input) {
            if !argument.is_empty() {
                inner.set(parameter, found(scope, argument)?);
            }
        }
        let nodes: Vec<NodeProto> = function
            .node
            .iter()
            .map(|node| bound(node, call, function))
            .collect();
        let outputs: Vec<&str> = function.output.iter().map(String::as_str).collect();
        self.depth += 1;
        self.nodes(&nodes, &outputs, &mut inner)?;
        self.depth -= 1;
        for (output, name) in function.output.iter().zip(&call.output) {
            if !name.is_empty() {
                scope.set(name, found(&inner, output)?);
            }
        }
        Ok(())
    }

    /// The program, with the values that are its outputs.
    fn finish(self, mut outputs: Vec<Known>) -> Compiled {
        let Self { mut program, .. } = self;
        registers::share(&mut program, &mut outputs);
        program.outputs = outputs
            .iter()
            .flat_map(Known::arrays)
            .map(|array| array.place)
            .collect();
        Compiled { program, outputs }
    }
}

fn found(scope: &Scope, name: &str) -> Result<Known, Refusal> {
    let missing = || Refusal::Graph(format!("nothing makes the value `{}`", name.escape_debug()));
    scope.get(name).cloned().ok_or_else(missing)
}

fn bind(node: &Node<'_>, scope: &mut Scope, outputs: Vec<Known>) -> Result<(), Refusal> {
    if node.outputs() > outputs.len() {
        return Err(node.refuse(format!(
            "has {} outputs; expected {}",
            node.outputs(),
            outputs.len()
        )));
    }
    for (name, known) in node.proto.output.iter().zip(outputs) {
        if !name.is_empty() {
            scope.set(name, known);
        }
    }
    Ok(())
}

/// A node of a function with the attributes of the call, those of graphs inside it too.
fn bound(node: &NodeProto, call: &NodeProto, function: &FunctionProto) -> NodeProto {
    let mut node = node.clone();
    node.attribute.retain_mut(|attribute| {
        if let Some(graph) = attribute.g.as_deref_mut() {
            let nodes = graph.node.iter().map(|node| bound(node, call, function));
            graph.node = nodes.collect();
        }
        let reference = attribute.ref_attr_name.take();
        let Some(reference) = reference.filter(|name| !name.is_empty()) else {
            return true;
        };
        let mut given = call.attribute.iter().chain(&function.attribute_proto);
        let given = given.find(|given| given.name.as_deref() == Some(reference.as_str()));
        // Without a value it is left out, as if the function did not name it.
        given.is_some_and(|given| {
            let name = attribute.name.take();
            *attribute = given.clone();
            attribute.name = name;
            true
        })
    });
    node
}
