//! What servers and models tell about themselves, as messages.

use super::inference::model_config::SchedulingChoice;
use super::inference::model_instance_group::Kind;
use super::inference::model_metadata_response::TensorMetadata;
use super::inference::model_queue_policy::TimeoutAction;
use super::inference::model_version_policy::{PolicyChoice, Specific};
use super::inference::repository_index_response::ModelIndex;
use super::inference::{
    DataType, InferBatchStatistics, InferStatistics, MemoryUsage, ModelConfig,
    ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelMetadataResponse, ModelOutput,
    ModelParameter, ModelQueuePolicy, ModelStatistics, ModelStatisticsResponse, ModelTensorReshape,
    ModelTransactionPolicy, ModelVersionPolicy, RepositoryIndexResponse, ServerMetadataResponse,
    StatisticDuration,
};
use crate::protocol::oip::index::IndexRow;
use crate::protocol::oip::{config, metadata, statistics};

impl From<metadata::ServerMetadata> for ServerMetadataResponse {
    fn from(server: metadata::ServerMetadata) -> Self {
        let extensions = server.extensions.iter();
        Self {
            name: server.name.to_owned(),
            version: server.version.to_owned(),
            extensions: extensions.map(|&extension| extension.to_owned()).collect(),
        }
    }
}

impl From<metadata::ModelMetadata> for ModelMetadataResponse {
    fn from(model: metadata::ModelMetadata) -> Self {
        let tensors = |all: Vec<metadata::TensorMetadata>| {
            let all = all.into_iter();
            all.map(|tensor| TensorMetadata {
                name: tensor.name,
                datatype: tensor.datatype.to_owned(),
                shape: tensor.shape,
            })
            .collect()
        };
        Self {
            name: model.name,
            versions: model.versions,
            platform: model.platform.to_owned(),
            inputs: tensors(model.inputs),
            outputs: tensors(model.outputs),
            properties: model.properties.into_iter().collect(),
        }
    }
}

impl From<config::ModelConfig> for ModelConfig {
    fn from(model: config::ModelConfig) -> Self {
        let versions = model.version_policy.specific.versions;
        let specific = PolicyChoice::Specific(Specific { versions });
        let batching = model.dynamic_batching.map(dynamic_batching);
        let parameters = model.parameters.into_iter();
        let parameters = parameters.map(|(key, config::Parameter { string_value })| {
            (key.to_owned(), ModelParameter { string_value })
        });
        Self {
            name: model.name,
            platform: model.platform.to_owned(),
            backend: model.backend.to_owned(),
            version_policy: Some(ModelVersionPolicy {
                policy_choice: Some(specific),
            }),
            max_batch_size: model.max_batch_size,
            input: model.input.into_iter().map(input).collect(),
            output: model.output.into_iter().map(output).collect(),
            instance_group: model.instance_group.into_iter().map(instances).collect(),
            parameters: parameters.collect(),
            model_transaction_policy: Some(ModelTransactionPolicy {
                decoupled: model.model_transaction_policy.decoupled,
            }),
            scheduling_choice: batching.map(SchedulingChoice::DynamicBatching),
        }
    }
}

fn input(tensor: config::ConfigTensor) -> ModelInput {
    ModelInput {
        data_type: data_type(&tensor.data_type),
        name: tensor.name,
        dims: tensor.dims,
        reshape: tensor.reshape.map(reshape),
        optional: tensor.optional,
    }
}

fn output(tensor: config::ConfigTensor) -> ModelOutput {
    ModelOutput {
        data_type: data_type(&tensor.data_type),
        name: tensor.name,
        dims: tensor.dims,
        reshape: tensor.reshape.map(reshape),
    }
}

fn data_type(name: &str) -> i32 {
    DataType::from_str_name(name).unwrap_or_default().into()
}

fn reshape(reshape: config::Reshape) -> ModelTensorReshape {
    ModelTensorReshape {
        shape: reshape.shape,
    }
}

fn instances(group: config::InstanceGroup) -> ModelInstanceGroup {
    ModelInstanceGroup {
        name: group.name,
        count: group.count,
        kind: Kind::from_str_name(group.kind).unwrap_or_default().into(),
    }
}

fn dynamic_batching(batching: config::DynamicBatching) -> ModelDynamicBatching {
    let queue = batching.default_queue_policy;
    let action = TimeoutAction::from_str_name(queue.timeout_action);
    ModelDynamicBatching {
        preferred_batch_size: batching.preferred_batch_size,
        max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
        preserve_ordering: batching.preserve_ordering,
        priority_levels: batching.priority_levels,
        default_priority_level: batching.default_priority_level,
        default_queue_policy: Some(ModelQueuePolicy {
            timeout_action: action.unwrap_or_default().into(),
            default_timeout_microseconds: queue.default_timeout_microseconds,
            allow_timeout_override: queue.allow_timeout_override,
            max_queue_size: queue.max_queue_size,
        }),
    }
}

impl From<statistics::Statistics> for ModelStatisticsResponse {
    fn from(statistics: statistics::Statistics) -> Self {
        let models = statistics.model_stats.into_iter();
        Self {
            model_stats: models.map(Into::into).collect(),
        }
    }
}

impl From<statistics::ModelStatistics> for ModelStatistics {
    fn from(model: statistics::ModelStatistics) -> Self {
        let batches = model.batch_stats.into_iter();
        let memory = model.memory_usage.into_iter().map(|usage| MemoryUsage {
            r#type: usage.kind.to_owned(),
            id: usage.id,
            byte_size: usage.byte_size,
        });
        Self {
            name: model.name,
            version: model.version,
            last_inference: model.last_inference,
            inference_count: model.inference_count,
            execution_count: model.execution_count,
            inference_stats: Some(model.inference_stats.into()),
            batch_stats: batches.map(Into::into).collect(),
            memory_usage: memory.collect(),
            ..Self::default()
        }
    }
}

impl From<statistics::InferStatistics> for InferStatistics {
    fn from(of: statistics::InferStatistics) -> Self {
        Self {
            success: Some(of.success.into()),
            fail: Some(of.fail.into()),
            queue: Some(of.queue.into()),
            compute_input: Some(of.compute_input.into()),
            compute_infer: Some(of.compute_infer.into()),
            compute_output: Some(of.compute_output.into()),
            cache_hit: Some(of.cache_hit.into()),
            cache_miss: Some(of.cache_miss.into()),
        }
    }
}

impl From<statistics::BatchStatistics> for InferBatchStatistics {
    fn from(of: statistics::BatchStatistics) -> Self {
        Self {
            batch_size: of.batch_size,
            compute_input: Some(of.compute_input.into()),
            compute_infer: Some(of.compute_infer.into()),
            compute_output: Some(of.compute_output.into()),
        }
    }
}

impl From<statistics::StatisticDuration> for StatisticDuration {
    fn from(statistics::StatisticDuration { count, ns }: statistics::StatisticDuration) -> Self {
        Self { count, ns }
    }
}

impl From<Vec<IndexRow>> for RepositoryIndexResponse {
    fn from(rows: Vec<IndexRow>) -> Self {
        let models = rows.into_iter().map(|row| ModelIndex {
            name: row.name,
            version: row.version,
            state: row.state.to_owned(),
            reason: row.reason,
        });
        Self {
            models: models.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn every_datatype_has_a_number_in_the_configuration() {
        for name in [
            "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
            "FP16", "BF16", "FP32", "FP64", "BYTES",
        ] {
            assert!(DType::from_oip(name).is_some(), "{name}");
            let name = name.replace("BYTES", "STRING");
            assert_ne!(data_type(&format!("TYPE_{name}")), 0, "{name}");
        }
    }
}
