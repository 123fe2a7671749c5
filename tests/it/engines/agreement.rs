//! One request, asked in every protocol, gives the same numbers: for every example model.
//!
//! A protocol is a row of [`PROTOCOLS`].

use std::collections::BTreeMap;
use std::pin::Pin;

use onstage::protocol::inference::ModelInferRequest;
use rstest::rstest;
use serde_json::{Value, json};

use crate::cli::examples;
use crate::protocols::grpc;
use crate::protocols::oip;
use crate::support::server::Server;

/// Flat elements by output.
type Answers = BTreeMap<String, Vec<Value>>;

type Ask = for<'a> fn(&'a Server, &'a Question) -> Pin<Box<dyn Future<Output = Answers> + 'a>>;

const PROTOCOLS: [(&str, Ask); 5] = [
    ("MLflow", |server, question| {
        Box::pin(mlflow(server, question))
    }),
    ("OIP JSON", |server, question| {
        Box::pin(oip_json(server, question))
    }),
    ("OIP binary", |server, question| {
        Box::pin(oip_binary(server, question))
    }),
    ("gRPC", |server, question| {
        Box::pin(oip_grpc(server, question))
    }),
    ("V1", |server, question| Box::pin(v1(server, question))),
];

/// The input example of a package.
#[derive(Debug)]
struct Question {
    model: String,
    /// As MLflow stores it.
    body: Value,
    /// As tensors.
    inputs: Vec<Input>,
    outputs: Vec<String>,
}

#[derive(Debug)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Vec<Value>,
}

impl Question {
    async fn of(server: &Server, example: &str) -> Self {
        let response = server.get(&format!("/v2/models/{example}")).await;
        let metadata: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let body = examples::input_example(example);
        let tensors = metadata["inputs"].as_array().unwrap();
        let inputs = tensors.iter().map(|tensor| {
            let name = tensor["name"].as_str().unwrap().to_owned();
            let rank = tensor["shape"].as_array().unwrap().len();
            let mut nested = example_of(&body, &name, tensors.len() == 1);
            let mut shape = shape_of(&nested);
            if shape.len() + 1 == rank {
                // A column of a table is a tensor of one column.
                nested = nested
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|cell| json!([cell]))
                    .collect();
                shape.push(1);
            }
            let datatype = tensor["datatype"].as_str().unwrap().to_owned();
            let data = flat(&nested);
            Input {
                name,
                datatype,
                shape,
                data,
            }
        });
        let outputs = metadata["outputs"].as_array().unwrap().iter();
        Self {
            model: example.to_owned(),
            inputs: inputs.collect(),
            outputs: outputs
                .map(|output| output["name"].as_str().unwrap().to_owned())
                .collect(),
            body,
        }
    }
}

/// What an example holds for one input of the graph.
fn example_of(body: &Value, name: &str, is_only: bool) -> Value {
    if let Some(split) = body.get("dataframe_split") {
        if is_only {
            return split["data"].clone();
        }
        let columns = split["columns"].as_array().unwrap();
        let column = columns.iter().position(|column| column == name).unwrap();
        let rows = split["data"].as_array().unwrap().iter();
        return rows.map(|row| row[column].clone()).collect();
    }
    match &body["inputs"] {
        Value::Object(inputs) => inputs[name].clone(),
        only => only.clone(),
    }
}

fn shape_of(value: &Value) -> Vec<usize> {
    match value {
        Value::Array(items) => {
            let inner = items.first().map(shape_of).unwrap_or_default();
            [&[items.len()], &inner[..]].concat()
        }
        _ => Vec::new(),
    }
}

/// The scalars of nested lists, and of maps in the order of their keys.
fn flat(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        Value::Object(map) => map.values().flat_map(flat).collect(),
        scalar => vec![scalar.clone()],
    }
}

async fn mlflow(server: &Server, question: &Question) -> Answers {
    let path = format!("/models/{}/invocations", question.model);
    let (status, answer) = server.post_json(&path, question.body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let predictions = &answer["predictions"];
    let of = |name: &String| {
        let values = match predictions {
            Value::Object(outputs) => flat(&outputs[name]),
            Value::Array(rows) if rows[0].is_object() => {
                rows.iter().flat_map(|row| flat(&row[name])).collect()
            }
            only => flat(only),
        };
        (name.clone(), values)
    };
    question.outputs.iter().map(of).collect()
}

async fn oip_json(server: &Server, question: &Question) -> Answers {
    let inputs = question.inputs.iter().map(|input| {
        let Input {
            name,
            datatype,
            shape,
            data,
        } = input;
        json!({ "name": name, "datatype": datatype, "shape": shape, "data": data })
    });
    let body = json!({ "inputs": inputs.collect::<Vec<_>>() });
    let path = format!("/v2/models/{}/infer", question.model);
    let (status, answer) = server.post_json(&path, body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let outputs = answer["outputs"].as_array().unwrap().iter();
    let named = outputs.map(|output| {
        (
            output["name"].as_str().unwrap().to_owned(),
            flat(&output["data"]),
        )
    });
    named.collect()
}

async fn oip_binary(server: &Server, question: &Question) -> Answers {
    let (mut inputs, mut bytes) = (Vec::new(), Vec::new());
    for Input {
        name,
        datatype,
        shape,
        data,
    } in &question.inputs
    {
        let own = oip::encode(datatype, data);
        let parameters = json!({ "binary_data_size": own.len() });
        inputs.push(
            json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": parameters }),
        );
        bytes.extend(own);
    }
    let request = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let path = format!("/v2/models/{}/infer", question.model);
    let answer = oip::post(server, &path, &request, &bytes).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let outputs = answer.json["outputs"].as_array().unwrap().iter();
    let named = outputs.map(|output| {
        let (name, datatype) = (
            output["name"].as_str().unwrap(),
            output["datatype"].as_str().unwrap(),
        );
        (name.to_owned(), oip::decode(datatype, &answer.binary[name]))
    });
    named.collect()
}

async fn v1(server: &Server, question: &Question) -> Answers {
    let inputs = question.inputs.iter();
    let inputs = inputs.map(|input| (input.name.clone(), nested(&input.shape, &input.data)));
    let body = json!({ "inputs": inputs.collect::<serde_json::Map<_, _>>() });
    let path = format!("/v1/models/{}:predict", question.model);
    let (status, answer) = server.post_json(&path, body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let given = &answer["outputs"];
    let of = |name: &String| match question.outputs.as_slice() {
        [_] => (name.clone(), flat(given)),
        _ => (name.clone(), flat(&given[name])),
    };
    question.outputs.iter().map(of).collect()
}

/// Flat elements as lists of this shape.
fn nested(shape: &[usize], data: &[Value]) -> Value {
    let Some((&rows, inner)) = shape.split_first() else {
        return data[0].clone();
    };
    let width: usize = inner.iter().product();
    let row = |row: usize| nested(inner, &data[row * width..][..width]);
    (0..rows).map(row).collect()
}

async fn oip_grpc(server: &Server, question: &Question) -> Answers {
    let tensors = question.inputs.iter().map(|input| {
        let shape = input.shape.iter().map(|&dim| i64::try_from(dim).unwrap());
        grpc::input(&input.name, &input.datatype, &shape.collect::<Vec<_>>())
    });
    let contents = question.inputs.iter();
    let contents = contents.map(|input| oip::encode(&input.datatype, &input.data).into());
    let request = ModelInferRequest {
        model_name: question.model.clone(),
        inputs: tensors.collect(),
        raw_input_contents: contents.collect(),
        ..ModelInferRequest::default()
    };
    let answer = grpc::client(server).await.model_infer(request).await;
    let answer = answer.unwrap().into_inner();
    let outputs = answer.outputs.iter().zip(&answer.raw_output_contents);
    outputs
        .map(|(output, bytes)| (output.name.clone(), oip::decode(&output.datatype, bytes)))
        .collect()
}

#[rstest]
#[case::iris_on_tract("iris", "tract")]
#[case::iris_on_onnxruntime("iris", "onnxruntime")]
#[case::penguins("penguins", "onnxruntime")]
#[case::diabetes("diabetes", "onnxruntime")]
#[case::wine_with_maps("wine", "onnxruntime")]
#[case::spam("spam", "onnxruntime")]
#[case::digits_on_tract("digits", "tract")]
#[case::digits_on_onnxruntime("digits", "onnxruntime")]
#[case::magika("magika", "onnxruntime")]
#[tokio::test]
async fn every_protocol_gives_the_same_numbers(#[case] example: &str, #[case] engine: &str) {
    let Some(server) = examples::serving(example, engine).await else {
        return;
    };
    let question = Question::of(&server, example).await;
    let mut answers = Vec::new();
    for (protocol, ask) in PROTOCOLS {
        answers.push((protocol, ask(&server, &question).await));
    }
    let (first, expected) = &answers[0];
    assert!(
        expected.values().all(|values| !values.is_empty()),
        "{expected:?}"
    );
    for (protocol, answer) in &answers[1..] {
        assert_eq!(answer, expected, "{protocol} is not {first}");
    }
}
