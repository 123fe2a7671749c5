//! How much a model would be, counted in its bytes before anything is built of them: a small file can stand for a graph
//! that no memory holds.
//!
//! Follows the messages that [`super::proto`] names, and skips the others as it does. What is no protobuf message ends
//! the count: reading it will fail at the same place.

use std::mem::size_of;

use bytes::Buf;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::GraphProblem;
use super::proto::{
    AttributeProto, Dimension, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, StringStringEntryProto, TensorProto, TypeProto, ValueInfoProto,
};
use super::small_tensor::MOST_BYTES;

/// Nodes, those of subgraphs and functions included.
pub(super) const MOST_NODES: u64 = 1_000_000;
const MOST_ATTRIBUTES: u64 = 8_000_000;
const MOST_ATTRIBUTES_OF_A_NODE: u64 = 4096;
const MOST_INITIALIZERS: u64 = 1_000_000;
/// Inputs of a graph, and outputs.
const MOST_VALUES: u64 = 20_000;
const MOST_FUNCTIONS: u64 = 10_000;
const MOST_OPSETS: u64 = 1000;
/// Subgraphs inside each other.
const DEEPEST_GRAPH: u32 = 16;
/// As prost's own limit.
const DEEPEST_MESSAGE: u32 = 100;
const MOST_DIMENSIONS: u64 = 64;
/// Bytes of a name.
const LONGEST_NAME: u64 = 64 << 10;
/// Memory that the description of any graph may take.
const ALWAYS_ALLOWED: u64 = 256 << 20;
/// Memory for each byte of the file: lists of small numbers, and short texts, take some eight times as much.
const MEMORY_PER_BYTE: u64 = 12;
/// Memory that no description may exceed.
const NEVER_ALLOWED: u64 = 2 << 30;
/// What each text takes beside its bytes.
const PER_TEXT: u64 = 40;

/// The messages whose fields matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Value,
    Type,
    TensorType,
    Element,
    Map,
    Opaque,
    Shape,
    Dimension,
    Opset,
    Pair,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// A message, and how much memory one of it takes.
    Message(Kind, usize),
    /// A name.
    Name,
    /// Text, or bytes, of any length.
    Text,
    /// Numbers of so many bytes each.
    Numbers(u64),
    /// The dimensions of a tensor.
    Dimensions,
    /// What a tensor holds, of which only a little is read: each element takes so many bytes.
    Little(u64),
    /// What is skipped, or takes no memory of its own.
    Other,
}

fn field(kind: Kind, tag: u32) -> Field {
    use Field::{Dimensions, Little, Message, Name, Numbers, Other, Text};
    let attribute = Message(Kind::Attribute, size_of::<AttributeProto>());
    let graph = Message(Kind::Graph, size_of::<GraphProto>());
    let node = Message(Kind::Node, size_of::<NodeProto>());
    let opset = Message(Kind::Opset, size_of::<OperatorSetIdProto>());
    let pair = Message(Kind::Pair, size_of::<StringStringEntryProto>());
    let sparse = Message(Kind::Sparse, size_of::<SparseTensorProto>());
    let tensor = Message(Kind::Tensor, size_of::<TensorProto>());
    let kind_of_value = Message(Kind::Type, size_of::<TypeProto>());
    let value = Message(Kind::Value, size_of::<ValueInfoProto>());
    match (kind, tag) {
        (Kind::Model, 7) => graph,
        (Kind::Model, 8) | (Kind::Function, 9) => opset,
        (Kind::Model, 14) | (Kind::Tensor, 13) => pair,
        (Kind::Model, 25) => Message(Kind::Function, size_of::<FunctionProto>()),
        (Kind::Graph, 1) | (Kind::Function, 7) => node,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::Sparse, 1 | 2) => tensor,
        (Kind::Graph, 11 | 12) => value,
        (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => sparse,
        (Kind::Node, 5) | (Kind::Function, 11) => attribute,
        (Kind::Attribute, 6 | 11) => graph,
        (Kind::Value, 2) | (Kind::Element, 1) | (Kind::Map, 2) => kind_of_value,
        (Kind::Type, 1 | 8) => Message(Kind::TensorType, 0),
        (Kind::Type, 4 | 9) => Message(Kind::Element, 0),
        (Kind::Type, 5) => Message(Kind::Map, 0),
        (Kind::Type, 7) => Message(Kind::Opaque, 0),
        (Kind::TensorType, 2) => Message(Kind::Shape, 0),
        (Kind::Shape, 1) => Message(Kind::Dimension, size_of::<Dimension>()),
        (Kind::Node, 1..=4 | 7 | 8)
        | (Kind::Function, 1 | 4 | 5 | 10 | 13)
        | (Kind::Attribute, 1 | 21)
        | (Kind::Tensor, 8)
        | (Kind::Value, 1)
        | (Kind::Opset, 1)
        | (Kind::Opaque, 2)
        | (Kind::Dimension, 2) => Name,
        (Kind::Model, 2 | 3)
        | (Kind::Attribute, 4 | 9)
        | (Kind::Pair, 1 | 2)
        | (Kind::Tensor, 6) => Text,
        (Kind::Attribute, 7) => Numbers(4),
        (Kind::Attribute, 8) => Numbers(8),
        (Kind::Tensor, 1) => Dimensions,
        (Kind::Tensor, 4 | 5) => Little(4),
        (Kind::Tensor, 7 | 10 | 11) => Little(8),
        (Kind::Tensor, 9) => Little(1),
        _ => Other,
    }
}

/// What has been counted.
#[derive(Debug, Default)]
struct Census {
    allowed: u64,
    memory: u64,
    nodes: u64,
    attributes: u64,
    initializers: u64,
    functions: u64,
    opsets: u64,
}

/// Why a count ends before the end.
enum Stop {
    /// There is too much of something.
    TooMuch(GraphProblem),
    /// It is no protobuf message from here on.
    Malformed,
}

impl From<DecodeError> for Stop {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// What one message holds itself.
#[derive(Default)]
struct Own {
    attributes: u64,
    inputs: u64,
    outputs: u64,
    dimensions: u64,
}

/// Counts a model of `length` bytes.
///
/// # Errors
/// [`GraphProblem::TooMuch`].
pub(super) fn count(buf: &mut impl Buf, length: u64) -> Result<(), GraphProblem> {
    let allowed = length.saturating_mul(MEMORY_PER_BYTE);
    let mut census = Census {
        allowed: allowed.clamp(ALWAYS_ALLOWED, NEVER_ALLOWED),
        ..Census::default()
    };
    match census.message(buf, Kind::Model, 0, (0, 0)) {
        Err(Stop::TooMuch(problem)) => Err(problem),
        Ok(()) | Err(Stop::Malformed) => Ok(()),
    }
}

fn at_most(count: u64, limit: u64, what: &'static str) -> Result<(), Stop> {
    if count <= limit {
        return Ok(());
    }
    Err(Stop::TooMuch(GraphProblem::TooMuch { what, limit }))
}

impl Census {
    /// Counts the fields of a message until `end` bytes remain. `depth` is that of messages and of graphs.
    fn message(
        &mut self,
        buf: &mut impl Buf,
        kind: Kind,
        end: usize,
        depth: (u32, u32),
    ) -> Result<(), Stop> {
        let mut own = Own::default();
        while buf.remaining() > end {
            let (tag, wire_type) = decode_key(buf)?;
            let field = field(kind, tag);
            if wire_type != WireType::LengthDelimited {
                self.number(field, &mut own)?;
                skip_field(wire_type, tag, buf, DecodeContext::default())?;
                continue;
            }
            let length = decode_varint(buf)?;
            let length = usize::try_from(length).map_err(|_| Stop::Malformed)?;
            if length > buf.remaining() {
                return Err(Stop::Malformed);
            }
            match field {
                Field::Message(inner, size) => {
                    self.counted(inner, (kind, tag), &mut own)?;
                    self.charge(size as u64)?;
                    let below = buf.remaining() - length;
                    let depth = deeper(depth, inner)?;
                    self.message(buf, inner, below, depth)?;
                    if buf.remaining() != below {
                        return Err(Stop::Malformed);
                    }
                }
                field => {
                    self.bytes(field, length as u64)?;
                    buf.advance(length);
                }
            }
        }
        Ok(())
    }

    /// A field that is a single number.
    fn number(&mut self, field: Field, own: &mut Own) -> Result<(), Stop> {
        match field {
            Field::Numbers(size) => self.charge(size),
            Field::Dimensions => {
                own.dimensions += 1;
                at_most(own.dimensions, MOST_DIMENSIONS, "dimensions of one tensor")
            }
            _ => Ok(()),
        }
    }

    /// A field of so many bytes that is no message.
    fn bytes(&mut self, field: Field, length: u64) -> Result<(), Stop> {
        match field {
            Field::Name => {
                at_most(length, LONGEST_NAME, "bytes in one name")?;
                self.charge(PER_TEXT + length)
            }
            Field::Text => self.charge(PER_TEXT + length),
            // Each takes a byte at least; those of four bytes take four.
            Field::Numbers(4) => self.charge(length),
            Field::Numbers(size) => self.charge(length.saturating_mul(size)),
            // Each takes ten bytes at most.
            Field::Dimensions => at_most(length / 10, MOST_DIMENSIONS, "dimensions of one tensor"),
            Field::Little(size) if length <= MOST_BYTES => self.charge(length * size),
            Field::Little(_) | Field::Message(..) | Field::Other => Ok(()),
        }
    }

    fn counted(&mut self, inner: Kind, (of, tag): (Kind, u32), own: &mut Own) -> Result<(), Stop> {
        match (inner, of, tag) {
            (Kind::Node, ..) => {
                self.nodes += 1;
                at_most(self.nodes, MOST_NODES, "nodes")
            }
            (Kind::Attribute, ..) => {
                self.attributes += 1;
                own.attributes += 1;
                at_most(self.attributes, MOST_ATTRIBUTES, "attributes")?;
                let limit = MOST_ATTRIBUTES_OF_A_NODE;
                at_most(own.attributes, limit, "attributes of one node")
            }
            (Kind::Tensor | Kind::Sparse, Kind::Graph, _) => {
                self.initializers += 1;
                at_most(self.initializers, MOST_INITIALIZERS, "initializers")
            }
            (Kind::Value, _, 11) => {
                own.inputs += 1;
                at_most(own.inputs, MOST_VALUES, "inputs")
            }
            (Kind::Value, ..) => {
                own.outputs += 1;
                at_most(own.outputs, MOST_VALUES, "outputs")
            }
            (Kind::Function, ..) => {
                self.functions += 1;
                at_most(self.functions, MOST_FUNCTIONS, "functions")
            }
            (Kind::Opset, ..) => {
                self.opsets += 1;
                at_most(
                    self.opsets,
                    MOST_OPSETS + self.functions * 16,
                    "operator sets",
                )
            }
            (Kind::Dimension, ..) => {
                own.dimensions += 1;
                at_most(own.dimensions, MOST_DIMENSIONS, "dimensions of one tensor")
            }
            _ => Ok(()),
        }
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Stop> {
        self.memory = self.memory.saturating_add(bytes);
        at_most(self.memory, self.allowed, "bytes of description")
    }
}

fn deeper((messages, graphs): (u32, u32), inner: Kind) -> Result<(u32, u32), Stop> {
    if messages >= DEEPEST_MESSAGE {
        return Err(Stop::Malformed);
    }
    let graphs = graphs + u32::from(inner == Kind::Graph);
    // The first one is the model's own.
    at_most(
        u64::from(graphs),
        u64::from(DEEPEST_GRAPH) + 1,
        "subgraphs inside each other",
    )?;
    Ok((messages + 1, graphs))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::proto::{ModelProto, WholeTensor};
    use super::*;

    fn refused(model: &ModelProto) -> Option<&'static str> {
        let bytes = model.encode_to_vec();
        refused_bytes(&bytes)
    }

    fn refused_bytes(bytes: &[u8]) -> Option<&'static str> {
        match count(&mut &*bytes, bytes.len() as u64) {
            Ok(()) => None,
            Err(GraphProblem::TooMuch { what, .. }) => Some(what),
            Err(other) => panic!("{other}"),
        }
    }

    fn model(graph: GraphProto) -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    fn nodes(count: usize) -> GraphProto {
        GraphProto {
            node: vec![NodeProto::default(); count],
            ..GraphProto::default()
        }
    }

    #[test]
    fn what_exporters_write_passes() {
        let node = NodeProto {
            input: vec!["x".to_owned(); 1000],
            attribute: vec![AttributeProto {
                ints: vec![1; 100_000],
                strings: vec![b"BRANCH_LEQ".to_vec(); 10_000],
                ..AttributeProto::default()
            }],
            ..NodeProto::default()
        };
        let tensor = WholeTensor {
            dims: vec![-1; 64],
            ..WholeTensor::default()
        };
        let graph = GraphProto {
            node: vec![node; 10],
            initializer: vec![tensor.into()],
            ..GraphProto::default()
        };
        assert_eq!(refused(&model(graph)), None);
    }

    #[test]
    fn nodes_that_are_nearly_nothing_on_disk_are_counted() {
        // Two bytes each on disk, a few hundred in memory.
        assert_eq!(refused(&model(nodes(500_000))), None);
        let few = usize::try_from(MOST_NODES).unwrap() + 1;
        let mut bytes = vec![0x3a];
        prost::encoding::encode_varint(few as u64 * 2, &mut bytes);
        bytes.extend([0x0a, 0].repeat(few));
        assert!(refused_bytes(&bytes).is_some());
    }

    #[test]
    fn each_kind_of_excess_has_a_name() {
        let with = |node: NodeProto| GraphProto {
            node: vec![node],
            ..GraphProto::default()
        };
        let attributes = |count| {
            with(NodeProto {
                attribute: vec![AttributeProto::default(); count],
                ..NodeProto::default()
            })
        };
        assert_eq!(refused(&model(attributes(4096))), None);
        let what = refused(&model(attributes(4097)));
        assert_eq!(what, Some("attributes of one node"));
        let name = |length| {
            with(NodeProto {
                op_type: Some("x".repeat(length)),
                ..NodeProto::default()
            })
        };
        assert_eq!(refused(&model(name(64 << 10))), None);
        let what = refused(&model(name((64 << 10) + 1)));
        assert_eq!(what, Some("bytes in one name"));
        let tensor = WholeTensor {
            dims: vec![1; 1000],
            ..WholeTensor::default()
        };
        let graph = GraphProto {
            initializer: vec![tensor.into()],
            ..GraphProto::default()
        };
        let what = refused(&model(graph));
        assert_eq!(what, Some("dimensions of one tensor"));
        let outputs = GraphProto {
            output: vec![ValueInfoProto::default(); 20_001],
            ..GraphProto::default()
        };
        assert_eq!(refused(&model(outputs)), Some("outputs"));
        let opsets = ModelProto {
            opset_import: vec![OperatorSetIdProto::default(); 1001],
            ..ModelProto::default()
        };
        assert_eq!(refused(&opsets), Some("operator sets"));
    }

    #[test]
    fn graphs_inside_each_other_end_somewhere() {
        let nested = |depth: usize| {
            (0..depth).fold(nodes(1), |inner, _| GraphProto {
                node: vec![NodeProto {
                    attribute: vec![AttributeProto {
                        g: Some(Box::new(inner)),
                        ..AttributeProto::default()
                    }],
                    ..NodeProto::default()
                }],
                ..GraphProto::default()
            })
        };
        assert_eq!(refused(&model(nested(16))), None);
        let what = refused(&model(nested(17)));
        assert_eq!(what, Some("subgraphs inside each other"));
    }

    #[test]
    fn small_numbers_take_more_memory_than_bytes() {
        // One field of packed numbers, each of one byte: eight times as much in memory.
        let packed = |length: usize| {
            let mut attribute = vec![0x42];
            prost::encoding::encode_varint(length as u64, &mut attribute);
            attribute.extend(vec![1; length]);
            let wrap = |tag: u8, inner: &[u8]| {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(inner);
                outer
            };
            let node = wrap(0x2a, &attribute);
            wrap(0x3a, &wrap(0x0a, &node))
        };
        let fits = |length: usize| count(&mut packed(length).as_slice(), 0).is_ok();
        assert!(fits(31 << 20));
        assert!(!fits(32 << 20), "256 MiB, and the messages around it");
    }

    #[test]
    fn what_is_no_message_is_for_the_reader_to_refuse() {
        let bytes = model(nodes(10)).encode_to_vec();
        for end in 0..bytes.len() {
            assert_eq!(refused_bytes(&bytes[..end]), None);
        }
        for garbage in [&[0xff; 40][..], &[0x3a, 5, 0x0a], &[0x0b, 0x0c]] {
            assert_eq!(refused_bytes(garbage), None);
        }
    }
}
