//! How a model is run, in the words of Triton's model configuration.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metadata::{TensorMetadata, platform, ready_versions, tensors};
use crate::model::Signature;
use crate::serving::{CatalogSnapshot, Servable};

/// What is told of a model that takes any number of rows: clients want a number to stay below, and nobody is refused.
const ANY_ROWS: usize = 1024;

/// A priority of 1 goes before all others.
const PRIORITIES: u64 = 2;

/// The configuration of a model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelConfig {
    /// Its name.
    pub(crate) name: String,
    /// What runs it, in the protocol's words.
    pub(crate) platform: &'static str,
    /// What runs it, in ours.
    pub(crate) backend: &'static str,
    /// Which versions are loaded.
    pub(crate) version_policy: VersionPolicy,
    /// The most rows of a request; 0 for a model that takes no rows.
    pub(crate) max_batch_size: i32,
    /// In the graph's order.
    pub(crate) input: Vec<ConfigTensor>,
    /// In the graph's order.
    pub(crate) output: Vec<ConfigTensor>,
    /// How requests run together, for a model that takes rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dynamic_batching: Option<DynamicBatching>,
    /// Its sessions.
    pub(crate) instance_group: [InstanceGroup; 1],
    /// What has no place elsewhere.
    pub(crate) parameters: BTreeMap<&'static str, Parameter>,
    /// One answer for one request.
    pub(crate) model_transaction_policy: TransactionPolicy,
}

/// Which versions are loaded.
#[derive(Debug, Serialize)]
pub(crate) struct VersionPolicy {
    /// These.
    pub(crate) specific: Specific,
}

/// Versions by their number.
#[derive(Debug, Serialize)]
pub(crate) struct Specific {
    /// Ascending.
    pub(crate) versions: Vec<i64>,
}

/// An input or output.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigTensor {
    /// Its name.
    pub(crate) name: String,
    /// Its datatype: `TYPE_FP32`, …
    pub(crate) data_type: String,
    /// Its dimensions, without the rows where the model takes rows.
    pub(crate) dims: Vec<i64>,
    /// The dimensions without the one that `dims` may not lack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reshape: Option<Reshape>,
    /// Whether a request may leave it out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) optional: bool,
}

/// The dimensions that a tensor has in truth.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reshape {
    /// Without the rows.
    pub(crate) shape: Vec<i64>,
}

/// How requests run together.
#[derive(Debug, Serialize)]
pub(crate) struct DynamicBatching {
    /// What was measured to pay, or chosen.
    pub(crate) preferred_batch_size: Vec<i32>,
    /// The longest wait for more rows.
    pub(crate) max_queue_delay_microseconds: u64,
    /// Whether answers come in the order of the requests.
    pub(crate) preserve_ordering: bool,
    /// Priorities that are told apart.
    pub(crate) priority_levels: u64,
    /// That of a request without one.
    pub(crate) default_priority_level: u64,
    /// How requests wait.
    pub(crate) default_queue_policy: QueuePolicy,
}

/// How requests wait.
#[derive(Debug, Serialize)]
pub(crate) struct QueuePolicy {
    /// What happens to those that wait too long.
    pub(crate) timeout_action: &'static str,
    /// How long is too long.
    pub(crate) default_timeout_microseconds: u64,
    /// Whether a request may ask for less.
    pub(crate) allow_timeout_override: bool,
    /// Requests that may wait.
    pub(crate) max_queue_size: u32,
}

/// The sessions of a model.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceGroup {
    /// A name.
    pub(crate) name: String,
    /// Where they run.
    pub(crate) kind: &'static str,
    /// How many there are at most.
    pub(crate) count: i32,
}

/// A free value.
#[derive(Debug, Serialize)]
pub(crate) struct Parameter {
    /// As text.
    pub(crate) string_value: String,
}

/// Whether one request has one answer.
#[derive(Debug, Serialize)]
pub(crate) struct TransactionPolicy {
    /// It has.
    pub(crate) decoupled: bool,
}

/// One version, with the others of its model.
pub(crate) fn model(snapshot: &CatalogSnapshot, servable: &Servable) -> ModelConfig {
    let name = servable.id().name.as_str();
    let limit = servable.batcher().rows_limit();
    // Triton's batch axis is one of every tensor.
    let takes_rows = limit.is_some() && servable.signature().row_inputs().all(|carries| carries);
    let (input, output) = config_tensors(servable.signature(), takes_rows);
    let batching = servable.batcher().config();
    let most = batching.max_rows.unwrap_or(ANY_ROWS);
    let versions = ready_versions(snapshot, servable);
    ModelConfig {
        name: name.to_owned(),
        platform: platform(servable.engine()),
        backend: servable.engine(),
        version_policy: VersionPolicy {
            specific: Specific {
                versions: versions
                    .filter_map(|version| version.try_into().ok())
                    .collect(),
            },
        },
        max_batch_size: if takes_rows { small(most) } else { 0 },
        input,
        output,
        dynamic_batching: takes_rows.then(|| dynamic_batching(servable, limit)),
        instance_group: [InstanceGroup {
            name: format!("{name}_0"),
            kind: "KIND_CPU",
            count: small(batching.instances),
        }],
        parameters: parameters(servable, limit),
        model_transaction_policy: TransactionPolicy { decoupled: false },
    }
}

fn config_tensors(
    signature: &Signature,
    takes_rows: bool,
) -> (Vec<ConfigTensor>, Vec<ConfigTensor>) {
    let (inputs, outputs) = tensors(signature);
    let convert = |all: Vec<TensorMetadata>| {
        let all = all.into_iter();
        all.map(|tensor| config_tensor(tensor, takes_rows))
            .collect()
    };
    (convert(inputs), convert(outputs))
}

fn config_tensor(tensor: TensorMetadata, takes_rows: bool) -> ConfigTensor {
    let mut dims = tensor.shape;
    let has_rows = takes_rows && !dims.is_empty();
    if has_rows {
        dims.remove(0);
    }
    // A scalar, or a tensor that is nothing but rows: `dims` must not be empty, so one is made up and taken away.
    let reshape = dims.is_empty().then(|| {
        dims.push(1);
        Reshape { shape: Vec::new() }
    });
    let datatype = match tensor.datatype {
        "BYTES" => "STRING",
        other => other,
    };
    ConfigTensor {
        name: tensor.name,
        data_type: format!("TYPE_{datatype}"),
        dims,
        reshape,
        optional: tensor.optional,
    }
}

fn dynamic_batching(servable: &Servable, limit: Option<usize>) -> DynamicBatching {
    let config = servable.batcher().config();
    let timeout = servable.limits().request_timeout.as_micros();
    DynamicBatching {
        preferred_batch_size: limit
            .filter(|&rows| rows > 1)
            .map(small)
            .into_iter()
            .collect(),
        max_queue_delay_microseconds: large(config.max_delay.as_micros()),
        preserve_ordering: false,
        priority_levels: PRIORITIES,
        default_priority_level: PRIORITIES,
        default_queue_policy: QueuePolicy {
            timeout_action: "REJECT",
            default_timeout_microseconds: large(timeout),
            allow_timeout_override: true,
            max_queue_size: u32::try_from(config.max_queue_size).unwrap_or(u32::MAX),
        },
    }
}

fn parameters(servable: &Servable, limit: Option<usize>) -> BTreeMap<&'static str, Parameter> {
    let batching = servable.batcher().config();
    let learned = limit.filter(|_| batching.max_rows.is_none());
    let concurrency = servable.limits().max_concurrency;
    let sharing = servable.sharing();
    let confinement = servable.confinement();
    let memory = confinement.and_then(|own| own.memory);
    let optional = [
        ("learned_batch_size", learned.map(|rows| rows.to_string())),
        ("max_concurrency", concurrency.map(|most| most.to_string())),
        ("rows_reason", sharing.reason().map(str::to_owned)),
        (
            "isolation_reason",
            confinement.map(|own| own.reason.clone()),
        ),
        ("isolation_memory", memory.map(|bytes| bytes.to_string())),
    ];
    let optional = optional
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    let always = [
        ("engine", servable.engine().to_owned()),
        ("digest", servable.package().digest.clone()),
        ("rows", sharing.label().to_owned()),
    ];
    let all = always.into_iter().chain(optional);
    all.map(|(key, string_value)| (key, Parameter { string_value }))
        .collect()
}

fn small(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn large(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dim, InputSpec, OutputKind, OutputSpec};
    use crate::tensor::DType;

    fn signature() -> Signature {
        let rows = |width: &[usize]| {
            let fixed = width.iter().map(|&size| Dim::Fixed(size));
            Some(std::iter::once(Dim::Any(None)).chain(fixed).collect())
        };
        let output = |name: &str, kind| OutputSpec {
            name: name.to_owned(),
            kind,
        };
        let label = OutputKind::Tensor {
            dtype: DType::String,
            shape: rows(&[]),
        };
        Signature {
            inputs: vec![InputSpec {
                name: "x".to_owned(),
                dtype: DType::F32,
                shape: rows(&[4]),
                default: None,
            }],
            outputs: vec![
                output("label", label),
                output("scores", OutputKind::Maps { text_labels: true }),
            ],
            ..Signature::default()
        }
    }

    fn tensor(name: &str, data_type: &str, dims: &[i64], reshaped: bool) -> ConfigTensor {
        ConfigTensor {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            dims: dims.to_vec(),
            reshape: reshaped.then(|| Reshape { shape: Vec::new() }),
            optional: false,
        }
    }

    #[test]
    fn dims_leave_the_rows_out_of_a_model_that_takes_rows() {
        let (input, output) = config_tensors(&signature(), true);
        assert_eq!(input, [tensor("x", "TYPE_FP32", &[4], false)]);
        let outputs = [
            tensor("label", "TYPE_STRING", &[1], true),
            tensor("scores", "TYPE_FP32", &[-1], false),
        ];
        assert_eq!(output, outputs);
    }

    #[test]
    fn dims_are_the_shape_of_any_other_model() {
        let (input, output) = config_tensors(&signature(), false);
        assert_eq!(input, [tensor("x", "TYPE_FP32", &[-1, 4], false)]);
        let outputs = [
            tensor("label", "TYPE_STRING", &[-1], false),
            tensor("scores", "TYPE_FP32", &[-1, -1], false),
        ];
        assert_eq!(output, outputs);
    }
}
