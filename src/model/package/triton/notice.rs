//! What a configuration says that nobody heeds here, in one sentence.

use std::path::Path;

use super::shapes::{Side, Tensor, has_rows};
use super::text::{Message, Value};
use crate::model::Graph;
use crate::tensor::DType;

/// Fields that are heeded, or say what is so anyway. A message is looked into.
const READ: &[&str] = &[
    "name",
    "platform",
    "backend",
    "max_batch_size",
    "default_model_filename",
    "version_policy",
    "version_policy.latest",
    "version_policy.latest.num_versions",
    "version_policy.all",
    "version_policy.specific",
    "version_policy.specific.versions",
    "input",
    "input.name",
    "input.data_type",
    "input.dims",
    "input.reshape",
    "input.reshape.shape",
    "output",
    "output.name",
    "output.data_type",
    "output.dims",
    "output.reshape",
    "output.reshape.shape",
    "output.label_filename",
    "dynamic_batching",
    "dynamic_batching.max_queue_delay_microseconds",
    "dynamic_batching.default_queue_policy",
    "dynamic_batching.default_queue_policy.max_queue_size",
    "model_transaction_policy",
];

/// What to use in place of a field, or why there is nothing.
const INSTEAD: &[(&str, &str)] = &[
    (
        "instance_group",
        "`models.<name>.batching.instances` limits runs at a time, `models.<name>.providers` chooses the device",
    ),
    (
        "optimization",
        "`models.<name>.providers`, and `onnx_session_options` of a package",
    ),
    (
        "parameters",
        "`engine.intra_op_threads` and `engine.inter_op_threads`",
    ),
    (
        "model_warmup",
        "a package with an example: `onstage package --input-example`",
    ),
    ("runtime", "`models.<name>.engine`"),
    (
        "input.optional",
        "an input with an initializer in the graph is optional",
    ),
    ("dynamic_batching.preferred_batch_size", "it is measured"),
    (
        "dynamic_batching.default_queue_policy.default_timeout_microseconds",
        "`models.<name>.request_timeout`",
    ),
    (
        "sequence_batching",
        "each request stands alone: the client sends the state as an input",
    ),
    (
        "ensemble_scheduling",
        "make one graph of the steps, such as with `onnx.compose`",
    ),
    (
        "model_transaction_policy.decoupled",
        "a request has one answer",
    ),
];

/// Fields and what is to be said of them, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Notice {
    entries: Vec<String>,
    /// How many more there would be.
    left_out: usize,
}

/// Entries of a notice, and characters of one.
const MOST_ENTRIES: usize = 30;
const LONGEST_ENTRY: usize = 300;

impl Notice {
    /// What is set and not heeded; of a package with a manifest (`is_bare` is false) that is all but the versions.
    pub(super) fn new(config: &Message<'_>, is_bare: bool) -> Self {
        let mut notice = Self::default();
        for (name, value) in &config.fields {
            if is_bare || *name == "version_policy" {
                notice.walk(name, value);
            } else {
                notice.add(name, "the `MLmodel` file speaks for the package");
            }
        }
        notice
    }

    fn walk(&mut self, path: &str, value: &Value<'_>) {
        if is_default(value) {
            return;
        }
        if !READ.contains(&path) {
            let instead = INSTEAD.iter().find(|(field, _)| *field == path);
            self.add(path, instead.map_or("", |(_, instead)| instead));
            return;
        }
        if let Value::Message(message) = value {
            for (name, value) in &message.fields {
                self.walk(&format!("{path}.{name}"), value);
            }
        }
    }

    /// Adds a field with what is to be said of it, once.
    pub(super) fn add(&mut self, path: &str, remark: &str) {
        let mut entry = match remark {
            "" => format!("`{path}`"),
            remark => format!("`{path}` ({remark})"),
        };
        if let Some((end, _)) = entry.char_indices().nth(LONGEST_ENTRY) {
            entry.truncate(end);
            entry.push('…');
        }
        if self.entries.contains(&entry) {
            return;
        }
        if self.entries.len() < MOST_ENTRIES {
            self.entries.push(entry);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds that nothing can be chosen where there is one version only.
    pub(super) fn without_versions(&mut self, config: &Message<'_>) {
        if config.last("version_policy").is_some() {
            self.add("version_policy", "there are no version directories");
        }
    }

    /// Adds what the graph and its place contradict.
    pub(super) fn contradictions(
        &mut self,
        config: &Message<'_>,
        (directory, model_file): (&Path, &Path),
        graph: &Graph,
    ) {
        let said = |field: &str| config.text(field).filter(|text| !text.is_empty());
        let real = directory.file_name().and_then(|name| name.to_str());
        if let (Some(name), Some(real)) = (said("name"), real)
            && name != real
        {
            self.add(
                "name",
                &format!("it is `{name}`: the directory's name counts"),
            );
        }
        for (field, ours) in [("platform", "onnxruntime_onnx"), ("backend", "onnxruntime")] {
            if let Some(other) = said(field).filter(|said| *said != ours) {
                let remark = format!("it is `{other}`: the `.onnx` file is served");
                self.add(field, &remark);
            }
        }
        if let Some(other) = said("default_model_filename")
            && Path::new(other) != model_file
        {
            let file = model_file.display();
            let remark = format!("it is `{other}`: the only `.onnx` file, `{file}`, is served");
            self.add("default_model_filename", &remark);
        }
        for side in Side::BOTH {
            self.tensors(config, side, &side.tensors(graph));
        }
    }

    fn tensors(&mut self, config: &Message<'_>, side: Side, of_graph: &[Tensor<'_>]) {
        let has_rows = has_rows(config);
        let side = side.field();
        for described in config.messages(side) {
            let name = described.text("name").unwrap_or_default();
            let Some(tensor) = of_graph.iter().find(|tensor| tensor.name == name) else {
                let remark = format!("the graph has no {side} `{name}`");
                self.add(&format!("{side}.name"), &remark);
                continue;
            };
            let other_type = described.text("data_type").zip(tensor.dtype);
            if let Some((said, dtype)) = other_type
                && said != type_name(dtype)
            {
                let remark = format!("`{name}` is {} in the graph", type_name(dtype));
                self.add(&format!("{side}.data_type"), &remark);
            }
            // What is reshaped is looked at where that is read.
            let is_reshaped = described.message("reshape").is_some();
            let dims: Vec<&str> = described.all("dims").filter_map(Value::as_text).collect();
            if !dims.is_empty() && !is_reshaped && !tensor.fits(&dims, has_rows) {
                let remark = format!("`{name}` has another shape in the graph");
                self.add(&format!("{side}.dims"), &remark);
            }
        }
    }

    /// The whole sentence; `None` when there is nothing to say.
    pub(super) fn into_text(self, file: &Path) -> Option<String> {
        if self.entries.is_empty() {
            return None;
        }
        let more = match self.left_out {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!(
            "`{}` says what onstage does not read: {}{more}",
            file.display(),
            self.entries.join("; ")
        ))
    }
}

/// Whether a field says no more than if it were not there.
fn is_default(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => text.is_empty(),
        Value::Word(word) => matches!(*word, "false" | "0" | "FORMAT_NONE"),
        Value::Message(_) => false,
    }
}

/// Triton's name of a type.
fn type_name(dtype: DType) -> String {
    match dtype {
        DType::String => "TYPE_STRING".to_owned(),
        dtype => format!("TYPE_{}", dtype.oip_name()),
    }
}
