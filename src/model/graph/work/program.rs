//! A graph in the form in which its work is followed again and again: names resolved, functions called in place, weights
//! and long attributes left out.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use super::fact::Fact;
use super::follow::{Rule, Rules};
use crate::model::graph::domain;
use crate::model::graph::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
};

/// Nodes that are looked at, at most: functions that call each other could make a small file a large graph.
const MOST_NODES: u32 = 200_000;

/// Subgraphs and functions in each other, at most.
const DEEPEST: u32 = 32;

/// Longer lists in attributes are counted only.
const LONGEST_LIST: usize = 64;

/// Where a value is kept.
pub(super) type Place = u32;

/// Steps in order, and what goes in and out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Body {
    pub(super) constants: Vec<(Place, Fact)>,
    pub(super) inputs: Vec<Place>,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<Option<Place>>,
}

/// One operator.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) op: Box<str>,
    pub(super) domain: Box<str>,
    pub(super) opset: i64,
    pub(super) rule: Rule,
    /// Whether shapes do not tell how much it does.
    pub(super) is_open: bool,
    pub(super) attributes: Vec<(Box<str>, Attribute)>,
    pub(super) inputs: Vec<Option<Place>>,
    pub(super) outputs: Vec<Option<Place>>,
    pub(super) bodies: Vec<(Box<str>, Body)>,
    /// Values that nothing reads after it.
    pub(super) last_of: Vec<Place>,
}

impl PartialEq for Step {
    // The rule follows from the operator.
    fn eq(&self, other: &Self) -> bool {
        (&self.op, &self.domain, self.opset) == (&other.op, &other.domain, other.opset)
            && self.attributes == other.attributes
            && (&self.inputs, &self.outputs) == (&other.inputs, &other.outputs)
            && self.bodies == other.bodies
    }
}

/// What an attribute says, as far as it can matter for sizes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Number(i64),
    Numbers(Box<[i64]>),
    Floats(Box<[f32]>),
    Text(Box<str>),
    Tensor(Fact),
    /// A list of so many, the largest of which is this.
    Many {
        count: usize,
        largest: i64,
    },
}

/// A whole model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Program {
    pub(super) body: Body,
    pub(super) places: usize,
    /// Whether something of it was left out.
    pub(super) is_cut: bool,
}

impl Program {
    /// The program of a graph with these inputs.
    pub(super) fn compile(
        model: &ModelProto,
        rules: Rules,
        inputs: impl Iterator<Item = String>,
    ) -> Self {
        let Some(graph) = &model.graph else {
            return Self {
                is_cut: true,
                ..Self::default()
            };
        };
        let functions = model.functions.iter();
        let compiler = Compiler {
            rules,
            functions: functions
                .map(|function| (key(function), function))
                .collect(),
            places: Cell::new(0),
            nodes: Cell::new(0),
            is_cut: Cell::new(false),
        };
        let mut scope = Scope {
            around: None,
            opsets: &model.opset_import,
            attributes: &[],
            depth: 0,
            names: HashMap::new(),
        };
        let mut body = Body {
            inputs: inputs
                .map(|name| compiler.name(&name, &mut scope))
                .collect(),
            ..Body::default()
        };
        compiler.graph(graph, &mut scope, &mut body);
        Self {
            body,
            places: compiler.places.get() as usize,
            is_cut: compiler.is_cut.get(),
        }
    }
}

type Key<'a> = (String, &'a str, &'a str);

fn key(function: &FunctionProto) -> Key<'_> {
    (
        domain(&function.domain),
        function.name.as_deref().unwrap_or_default(),
        function.overload.as_deref().unwrap_or_default(),
    )
}

/// Attributes by the names that the operator knows them by.
type Named<'a> = (&'a str, &'a AttributeProto);

struct Scope<'a, 's> {
    around: Option<&'s Self>,
    opsets: &'a [OperatorSetIdProto],
    /// Inside a function: what its call says.
    attributes: &'s [Named<'a>],
    depth: u32,
    names: HashMap<String, Place>,
}

impl Scope<'_, '_> {
    fn find(&self, name: &str) -> Option<Place> {
        let own = self.names.get(name).copied();
        own.or_else(|| self.around?.find(name))
    }

    fn opset(&self, of: &str) -> i64 {
        let mut sets = self.opsets.iter();
        let set = sets.find(|set| domain(&set.domain) == of);
        set.and_then(|set| set.version).unwrap_or_default()
    }
}

struct Compiler<'a> {
    rules: Rules,
    functions: HashMap<Key<'a>, &'a FunctionProto>,
    places: Cell<u32>,
    nodes: Cell<u32>,
    is_cut: Cell<bool>,
}

impl<'a> Compiler<'a> {
    fn place(&self) -> Place {
        let place = self.places.get();
        self.places.set(place + 1);
        place
    }

    fn name(&self, name: &str, scope: &mut Scope<'_, '_>) -> Place {
        let place = self.place();
        scope.names.insert(name.to_owned(), place);
        place
    }

    /// A graph whose inputs are in scope.
    fn graph(&self, graph: &'a GraphProto, scope: &mut Scope<'a, '_>, body: &mut Body) {
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            // What a request may replace is an input. In a subgraph the name hides that of the graph around it.
            if scope.around.is_some() || !scope.names.contains_key(name) {
                let place = self.name(name, scope);
                body.constants.push((place, Fact::constant(tensor)));
            }
        }
        for tensor in &graph.sparse_initializer {
            if let Some(values) = &tensor.values {
                let place = self.name(values.name.as_deref().unwrap_or_default(), scope);
                let fact = Fact::constant(values);
                body.constants.push((
                    place,
                    Fact {
                        shape: None,
                        ..fact
                    },
                ));
            }
        }
        self.nodes(&graph.node, scope, body);
        let outputs = graph.output.iter();
        body.outputs = outputs
            .map(|output| scope.find(output.name.as_deref().unwrap_or_default()))
            .collect();
        find_last_uses(body);
    }

    fn nodes(&self, nodes: &'a [NodeProto], scope: &mut Scope<'a, '_>, body: &mut Body) {
        for node in nodes {
            self.nodes.set(self.nodes.get().saturating_add(1));
            if self.nodes.get() > MOST_NODES || scope.depth > DEEPEST {
                self.is_cut.set(true);
                return;
            }
            self.node(node, scope, body);
        }
    }

    fn node(&self, node: &'a NodeProto, scope: &mut Scope<'a, '_>, body: &mut Body) {
        let op = node.op_type.as_deref().unwrap_or_default();
        let inputs = node.input.iter().map(|name| scope.find(name)).collect();
        let domain = domain(&node.domain);
        let attributes = resolved(node, scope);
        let key = (domain, op, node.overload.as_deref().unwrap_or_default());
        if let Some(function) = self.functions.get(&key) {
            let call = Call {
                node,
                inputs,
                attributes,
            };
            self.call(function, call, scope, body);
            return;
        }
        let own_body = |(name, attribute): &Named<'a>| {
            let graph = attribute.g.as_deref()?;
            Some(((*name).into(), self.subgraph(graph, scope)))
        };
        let bodies = attributes.iter().filter_map(own_body).collect();
        let kept = |(name, attribute): &Named<'_>| Some(((*name).into(), kept(attribute)?));
        let step = Step {
            op: op.into(),
            opset: scope.opset(&key.0),
            rule: (self.rules.find)(&key.0, op),
            is_open: (self.rules.is_open)(&key.0, op),
            domain: key.0.into(),
            attributes: attributes.iter().filter_map(kept).collect(),
            inputs,
            outputs: vec![],
            bodies,
            last_of: vec![],
        };
        let name = |name: &String| (!name.is_empty()).then(|| self.name(name, scope));
        let outputs = node.output.iter().map(name).collect();
        body.steps.push(Step { outputs, ..step });
    }

    fn subgraph(&self, graph: &'a GraphProto, scope: &Scope<'a, '_>) -> Body {
        let mut inner = Scope {
            around: Some(scope),
            depth: scope.depth + 1,
            names: HashMap::new(),
            ..*scope
        };
        let inputs = graph.input.iter();
        let mut body = Body {
            inputs: inputs
                .map(|input| self.name(input.name.as_deref().unwrap_or_default(), &mut inner))
                .collect(),
            ..Body::default()
        };
        self.graph(graph, &mut inner, &mut body);
        body
    }

    /// A function of the model's own, whose steps stand where it is called.
    fn call(
        &self,
        function: &'a FunctionProto,
        call: Call<'a>,
        scope: &mut Scope<'a, '_>,
        body: &mut Body,
    ) {
        let Call {
            node,
            inputs,
            mut attributes,
        } = call;
        // What the call gives is found first.
        attributes.extend(function.attribute_proto.iter().map(named));
        let pairs = function.input.iter().zip(inputs);
        let names = pairs.filter_map(|(name, place)| Some((name.clone(), place?)));
        let mut inner = Scope {
            around: None,
            opsets: &function.opset_import,
            attributes: &attributes,
            depth: scope.depth + 1,
            names: names.collect(),
        };
        self.nodes(&function.node, &mut inner, body);
        for (name, inside) in node.output.iter().zip(&function.output) {
            if let Some(place) = inner.find(inside) {
                scope.names.insert(name.clone(), place);
            }
        }
    }
}

/// A node that calls a function of the model's own.
struct Call<'a> {
    node: &'a NodeProto,
    inputs: Vec<Option<Place>>,
    attributes: Vec<Named<'a>>,
}

fn named(attribute: &AttributeProto) -> Named<'_> {
    (attribute.name.as_deref().unwrap_or_default(), attribute)
}

/// The attributes of a node; in a function some are those of its call.
fn resolved<'a>(node: &'a NodeProto, scope: &Scope<'a, '_>) -> Vec<Named<'a>> {
    let resolve = |attribute: &'a AttributeProto| {
        let (name, own) = named(attribute);
        match attribute.ref_attr_name.as_deref() {
            None | Some("") => Some((name, own)),
            Some(reference) => {
                let mut given = scope.attributes.iter();
                let found = given.find(|given| given.0 == reference);
                found.map(|found| (name, found.1))
            }
        }
    };
    node.attribute.iter().filter_map(resolve).collect()
}

fn kept(attribute: &AttributeProto) -> Option<Attribute> {
    if let Some(tensor) = &attribute.t {
        return Some(Attribute::Tensor(Fact::constant(tensor)));
    }
    if let Some(text) = &attribute.s {
        return Some(Attribute::Text(String::from_utf8_lossy(text).into()));
    }
    let ints = attribute.ints.len();
    if ints > 0 && ints <= LONGEST_LIST {
        return Some(Attribute::Numbers(attribute.ints.as_slice().into()));
    }
    let floats = attribute.floats.len();
    if floats > 0 && floats <= LONGEST_LIST {
        return Some(Attribute::Floats(attribute.floats.as_slice().into()));
    }
    let count = ints.max(floats).max(attribute.strings.len());
    if count > 0 {
        let largest = attribute.ints.iter().copied().max().unwrap_or_default();
        return Some(Attribute::Many { count, largest });
    }
    attribute.i.map(Attribute::Number)
}

/// Notes in each step what nothing reads after it.
fn find_last_uses(body: &mut Body) {
    let mut seen: HashSet<Place> = body.outputs.iter().flatten().copied().collect();
    let own: HashSet<Place> = {
        let made = body
            .steps
            .iter()
            .flat_map(|step| step.outputs.iter().flatten());
        made.chain(&body.inputs).copied().collect()
    };
    for step in body.steps.iter_mut().rev() {
        let mut read: Vec<Place> = step
            .inputs
            .iter()
            .chain(&step.outputs)
            .flatten()
            .copied()
            .collect();
        step.bodies
            .iter()
            .for_each(|(_, body)| reads(body, &mut read));
        for place in read {
            if own.contains(&place) && seen.insert(place) {
                step.last_of.push(place);
            }
        }
    }
}

/// All that a subgraph reads, of its own or of those around it.
fn reads(body: &Body, read: &mut Vec<Place>) {
    read.extend(body.outputs.iter().flatten());
    for step in &body.steps {
        read.extend(step.inputs.iter().flatten());
        step.bodies.iter().for_each(|(_, body)| reads(body, read));
    }
}
