//! Small ONNX models, written byte by byte: graphs that no exporter would make for us.

use std::path::Path;

/// The numbers of `TensorProto.DataType`, with the names that the protocol has for them.
pub(crate) const DATATYPES: [(&str, u64); 14] = [
    ("FP32", 1),
    ("UINT8", 2),
    ("INT8", 3),
    ("UINT16", 4),
    ("INT16", 5),
    ("INT32", 6),
    ("INT64", 7),
    ("BYTES", 8),
    ("BOOL", 9),
    ("FP16", 10),
    ("FP64", 11),
    ("UINT32", 12),
    ("UINT64", 13),
    ("BF16", 16),
];

/// A model that gives each input back: the input `FP32` as the output `FP32_out`, both of shape `[n, 2]`.
pub(crate) fn echo(datatypes: &[(&str, u64)]) -> Vec<u8> {
    let mut graph = text(2, "echo");
    for (name, datatype) in datatypes {
        let output = format!("{name}_out");
        graph.extend(message(1, &node("Identity", &[name], &output)));
        graph.extend(message(11, &value(name, *datatype)));
        graph.extend(message(12, &value(&output, *datatype)));
    }
    model(&graph)
}

/// A model that adds two numbers to each row; they are in the file `location`, or so it says.
pub(crate) fn with_external_data(location: &str) -> Vec<u8> {
    external(2, &[("location", location)])
}

/// The same with so many bytes, or so it says.
pub(crate) fn with_external_data_of(location: &str, bytes: u64) -> Vec<u8> {
    let length = bytes.to_string();
    external(bytes / 4, &[("location", location), ("length", &length)])
}

fn external(elements: u64, entries: &[(&str, &str)]) -> Vec<u8> {
    let entries = entries.iter().map(|(key, value)| {
        let entry = [text(1, key), text(2, value)].concat();
        message(13, &entry)
    });
    let entries: Vec<u8> = entries.flatten().collect();
    let tensor = [
        number(1, elements),
        number(2, 1),
        text(8, "bias"),
        entries,
        number(14, 1),
    ];
    let graph = [
        message(1, &node("Add", &["x", "bias"], "y")),
        text(2, "external"),
        message(5, &tensor.concat()),
        message(11, &value("x", 1)),
        message(12, &value("y", 1)),
    ];
    model(&graph.concat())
}

/// A model that multiplies `x`, of shape `[n, 2]`, by a number: its answer tells which model it is.
pub(crate) fn times(factor: f32) -> Vec<u8> {
    let tensor = [
        number(1, 1),
        number(2, 1),
        text(8, "factor"),
        message(9, &factor.to_le_bytes()),
    ];
    let graph = [
        message(1, &node("Mul", &["x", "factor"], "y")),
        text(2, "times"),
        message(5, &tensor.concat()),
        message(11, &value("x", 1)),
        message(12, &value("y", 1)),
    ];
    model(&graph.concat())
}

/// A graph put together from parts.
#[derive(Default)]
pub(crate) struct Parts {
    graph: Vec<u8>,
}

impl Parts {
    /// One operator with one output.
    pub(crate) fn node(mut self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.graph
            .extend(message(1, &node(operator, inputs, output)));
        self
    }

    /// One operator with one output and attributes that are numbers.
    pub(crate) fn node_with(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, u64)],
    ) -> Self {
        let mut node = node(operator, inputs, output);
        for (name, value) in attributes {
            // `INT`.
            let attribute = [text(1, name), number(3, *value), number(20, 2)].concat();
            node.extend(message(5, &attribute));
        }
        self.graph.extend(message(1, &node));
        self
    }

    /// One operator with graphs in it, which see the values around them.
    pub(crate) fn node_around(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        bodies: impl IntoIterator<Item = (&'static str, Self)>,
    ) -> Self {
        let mut node = node(operator, inputs, output);
        for (name, body) in bodies {
            let body = [body.graph, text(2, "body")].concat();
            // `GRAPH`.
            let attribute = [text(1, name), message(6, &body), number(20, 5)].concat();
            node.extend(message(5, &attribute));
        }
        self.graph.extend(message(1, &node));
        self
    }

    /// An initializer of FP32 that holds the same number everywhere.
    pub(crate) fn filled(mut self, name: &str, shape: &[u64], number: f32) -> Self {
        let elements = usize::try_from(shape.iter().product::<u64>()).unwrap();
        let mut tensor: Vec<u8> = shape.iter().flat_map(|dim| self::number(1, *dim)).collect();
        tensor.extend(self::number(2, 1));
        tensor.extend(text(8, name));
        tensor.extend(message(9, &number.to_le_bytes().repeat(elements)));
        self.graph.extend(message(5, &tensor));
        self
    }

    /// An initializer of INT64.
    pub(crate) fn integers(mut self, name: &str, values: &[u64]) -> Self {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let tensor = [
            number(1, values.len() as u64),
            number(2, 7),
            text(8, name),
            message(9, &bytes),
        ];
        self.graph.extend(message(5, &tensor.concat()));
        self
    }

    /// An input or output of this data type and shape; 0 is any number of rows.
    pub(crate) fn value(
        mut self,
        is_input: bool,
        name: &str,
        datatype: u64,
        shape: &[u64],
    ) -> Self {
        let dims = shape.iter().map(|dim| match dim {
            0 => message(1, &text(2, "n")),
            dim => message(1, &number(1, *dim)),
        });
        let dims: Vec<u8> = dims.flatten().collect();
        let tensor = [number(1, datatype), message(2, &dims)].concat();
        let value = [text(1, name), message(2, &message(1, &tensor))].concat();
        let field = if is_input { 11 } else { 12 };
        self.graph.extend(message(field, &value));
        self
    }

    /// Fields of the graph, as they are.
    pub(crate) fn with(mut self, fields: &[u8]) -> Self {
        self.graph.extend(fields);
        self
    }

    /// The whole model.
    pub(crate) fn model(self) -> Vec<u8> {
        model(&[self.graph, text(2, "parts")].concat())
    }
}

/// Repeats as often as the value `count` says, and gives the value `state` as `y` in the end; both are INT64.
pub(crate) fn loops(parts: Parts, count: &str, state: &str) -> Parts {
    let body = Parts::default()
        .node("Identity", &["going"], "goes_on")
        .node("Identity", &["before"], "after")
        .value(true, "round", 7, &[])
        .value(true, "going", 9, &[])
        .value(true, "before", 7, &[1])
        .value(false, "goes_on", 9, &[])
        .value(false, "after", 7, &[1]);
    parts.node_around("Loop", &[count, "", state], "y", [("body", body)])
}

/// Writes a model to a file.
pub(crate) fn save(model: &[u8], path: &Path) {
    std::fs::write(path, model).unwrap();
}

fn model(graph: &[u8]) -> Vec<u8> {
    // Version 8 of the format, version 17 of the operators.
    [number(1, 8), message(7, graph), message(8, &number(2, 17))].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    node.extend(text(2, output));
    node.extend(text(4, operator));
    node
}

fn value(name: &str, datatype: u64) -> Vec<u8> {
    let shape = [message(1, &text(2, "n")), message(1, &number(1, 2))].concat();
    let tensor = [number(1, datatype), message(2, &shape)].concat();
    [text(1, name), message(2, &message(1, &tensor))].concat()
}

pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

pub(crate) fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, value.as_bytes())
}

pub(crate) fn message(field: u64, value: &[u8]) -> Vec<u8> {
    let head = [varint(field << 3 | 2), varint(value.len() as u64)].concat();
    [&head, value].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
