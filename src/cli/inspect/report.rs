//! The facts, gathered: the JSON that `onstage inspect --json` prints.

use std::sync::Arc;

use serde::Serialize;

use super::cost::CostReport;
use super::external::{ExternalFile, external_files};
use crate::cli::baseline::BaselineReport;
use crate::engine::{Engine, Support};
use crate::model::{
    ColSpec, Dim, InputSpec, Manifest, ModelSignature, OutputKind, Package, ParamSpec, RowProof,
    Schema, Signature, TensorSpec, Work,
};
use crate::scoring::measure::Cost;
use crate::signing::Claim;

/// Everything that the command prints.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) version: u64,
    pub(super) path: String,
    pub(super) model_file: String,
    pub(super) digest: String,
    /// What the file with its signature says; `None` when it is not signed.
    pub(super) signed: Option<SealReport>,
    pub(super) weight_bytes: u64,
    pub(super) external_data: Vec<ExternalFile>,
    pub(super) manifest: ManifestReport,
    pub(super) signature: Option<SignatureReport>,
    pub(super) graph: GraphReport,
    /// What its data looked like in training; `None` without a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) baseline: Option<BaselineReport>,
    pub(super) engines: Vec<Verdict>,
    /// What was measured, for each engine that runs the graph; `None` when nothing was to be measured.
    pub(super) costs: Option<Vec<CostReport>>,
}

/// A signature of the package's files, which was not checked.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SealReport {
    pub(super) file: String,
    pub(super) kind: &'static str,
    pub(super) by: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ManifestReport {
    pub(super) mlflow_version: Option<String>,
    pub(super) run_id: Option<String>,
    pub(super) model_id: Option<String>,
    pub(super) created: Option<String>,
    pub(super) input_example: Option<String>,
    pub(super) providers: Vec<String>,
    pub(super) metadata: serde_json::Map<String, serde_json::Value>,
}

/// The signature of the training side, as MLflow wrote it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SignatureReport {
    pub(super) inputs: Vec<Field>,
    pub(super) outputs: Vec<Field>,
    pub(super) params: Vec<Param>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Field {
    pub(super) name: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) shape: Option<Vec<i64>>,
    pub(super) required: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Param {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) default: serde_json::Value,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct GraphReport {
    pub(super) producer: String,
    pub(super) ir_version: i64,
    pub(super) opsets: Vec<Opset>,
    pub(super) operators: Vec<Operator>,
    pub(super) inputs: Vec<Field>,
    pub(super) outputs: Vec<Field>,
    /// Whether no row of an answer depends on another row.
    pub(super) rows: RowsReport,
    /// Whether shapes bound what a run takes.
    pub(super) work: WorkReport,
}

/// Whether a run takes no more time and memory than the shapes of its inputs tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct WorkReport {
    pub(super) bounded: bool,
    /// What is not bounded: the model gets a process of its own.
    pub(super) reason: Option<String>,
}

impl WorkReport {
    fn new(work: &Work) -> Self {
        let reason = work.unbounded().map(str::to_owned);
        Self {
            bounded: reason.is_none(),
            reason,
        }
    }
}

/// Whether rows of several requests may share a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RowsReport {
    pub(super) independent: bool,
    /// Why it is not proven.
    pub(super) reason: Option<String>,
}

impl RowsReport {
    fn new(proof: &RowProof) -> Self {
        let reason = match proof {
            RowProof::Independent => None,
            RowProof::Unproven(reason) => Some(reason.clone()),
        };
        Self {
            independent: reason.is_none(),
            reason,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Opset {
    pub(super) domain: String,
    pub(super) version: i64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Operator {
    pub(super) domain: String,
    pub(super) name: String,
    pub(super) count: usize,
    /// The engines that are known to lack it.
    pub(super) missing_in: Vec<&'static str>,
}

/// What an engine says of the graph.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    pub(super) engine: &'static str,
    pub(super) version: Option<String>,
    /// Whether it is on this machine.
    pub(super) available: bool,
    /// Whether it runs this graph, as far as was tried.
    pub(super) supported: bool,
    /// How far it was tried.
    pub(super) tried: Tried,
    /// Why not.
    pub(super) reasons: Vec<String>,
}

/// How far an engine was tried with a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tried {
    /// Its operators were looked at.
    Not,
    /// It was compiled.
    Compiled,
    /// It answered.
    Ran,
}

const DEFAULT_DOMAIN: &str = "ai.onnx";

impl Report {
    pub(super) fn new(package: &Package, engines: &[Arc<dyn Engine>]) -> Self {
        let relative = package.model_file.strip_prefix(&package.root);
        let model_file = relative.unwrap_or(&package.model_file);
        Self {
            model: package.id.name.to_string(),
            version: package.id.version.0,
            path: package.root.display().to_string(),
            model_file: model_file.display().to_string(),
            digest: package.digest.clone(),
            signed: SealReport::new(package),
            weight_bytes: package.weight_bytes,
            external_data: external_files(package),
            manifest: ManifestReport::new(&package.manifest),
            signature: package
                .manifest
                .signature
                .as_ref()
                .map(SignatureReport::new),
            graph: GraphReport::new(package, engines),
            baseline: BaselineReport::new(package),
            engines: engines
                .iter()
                .map(|engine| Verdict::new(engine.as_ref(), package))
                .collect(),
            costs: None,
        }
    }

    /// Adds what came of measuring on the engine of this name.
    pub(super) fn add(&mut self, engine: &str, measured: Result<&Cost, &anyhow::Error>) {
        let mut verdict = self.engines.iter_mut();
        let Some(verdict) = verdict.find(|verdict| verdict.engine == engine) else {
            return;
        };
        match measured {
            Ok(cost) => {
                verdict.tried = match cost.points.is_empty() {
                    true => Tried::Compiled,
                    false => Tried::Ran,
                };
                let cost = CostReport::new(verdict.engine, cost);
                self.costs.get_or_insert_default().push(cost);
            }
            Err(error) => {
                verdict.supported = false;
                verdict.reasons.push(format!("{error:#}"));
            }
        }
    }
}

impl SealReport {
    fn new(package: &Package) -> Option<Self> {
        match Claim::read(&package.root) {
            Ok(claim) => claim.map(|claim| Self {
                file: claim.seal.display().to_string(),
                kind: claim.kind,
                by: claim.by,
            }),
            Err(error) => Some(Self {
                file: String::new(),
                kind: "unreadable",
                by: error.to_string(),
            }),
        }
    }
}

impl ManifestReport {
    fn new(manifest: &Manifest) -> Self {
        let providers = manifest.onnx.providers.iter();
        Self {
            mlflow_version: manifest.mlflow_version.clone(),
            run_id: manifest.run_id.clone(),
            model_id: manifest.model_id.clone(),
            created: manifest.created.clone(),
            input_example: manifest
                .example
                .as_ref()
                .map(|example| example.kind.clone()),
            providers: providers.map(|provider| provider.name.clone()).collect(),
            metadata: manifest.metadata.clone(),
        }
    }
}

impl SignatureReport {
    fn new(signature: &ModelSignature) -> Self {
        let fields = |schema: &Option<Schema>| match schema {
            None => Vec::new(),
            Some(Schema::Columns(columns)) => columns.iter().map(Field::column).collect(),
            Some(Schema::Tensors(tensors)) => tensors.iter().map(Field::tensor).collect(),
        };
        Self {
            inputs: fields(&signature.inputs),
            outputs: fields(&signature.outputs),
            params: signature.params.iter().flatten().map(Param::new).collect(),
        }
    }
}

impl Param {
    fn new(spec: &ParamSpec) -> Self {
        Self {
            name: spec.name.clone(),
            kind: spec.kind.describe(spec.is_list),
            default: spec.default.clone(),
        }
    }
}

impl GraphReport {
    fn new(package: &Package, engines: &[Arc<dyn Engine>]) -> Self {
        let (graph, signature) = (&package.graph, package.signature());
        let lacking: Vec<_> = engines
            .iter()
            .map(|engine| (engine.name(), engine.missing_operators(graph)))
            .collect();
        let operator = |(key, count): (&(String, String), &usize)| {
            let missing = lacking.iter().filter(|(_, lacking)| lacking.contains(key));
            Operator {
                domain: domain(&key.0),
                name: key.1.clone(),
                count: *count,
                missing_in: missing.map(|(engine, _)| *engine).collect(),
            }
        };
        Self {
            producer: graph.producer.clone(),
            ir_version: graph.ir_version,
            opsets: opsets(&graph.opsets),
            operators: graph.operators.iter().map(operator).collect(),
            inputs: inputs(&signature),
            outputs: outputs(&signature),
            rows: RowsReport::new(&graph.rows),
            work: WorkReport::new(&graph.work),
        }
    }
}

fn domain(name: &str) -> String {
    match name {
        "" => DEFAULT_DOMAIN.to_owned(),
        name => name.to_owned(),
    }
}

/// Some exporters import the default domain twice, under both of its names.
fn opsets(imports: &[(String, i64)]) -> Vec<Opset> {
    let mut opsets: Vec<Opset> = Vec::new();
    for (name, version) in imports {
        let opset = Opset {
            domain: domain(name),
            version: *version,
        };
        if !opsets.contains(&opset) {
            opsets.push(opset);
        }
    }
    opsets
}

fn inputs(signature: &Signature) -> Vec<Field> {
    let field = |input: &InputSpec| Field {
        name: Some(input.name.clone()),
        kind: input.dtype.oip_name().to_owned(),
        shape: sizes(input.shape.as_deref()),
        required: !input.is_optional(),
    };
    signature.inputs.iter().map(field).collect()
}

fn outputs(signature: &Signature) -> Vec<Field> {
    let outputs = signature.outputs.iter();
    outputs
        .map(|output| {
            let shape = match &output.kind {
                OutputKind::Tensor { shape, .. } => sizes(shape.as_deref()),
                OutputKind::Maps { .. } => None,
                sequence @ OutputKind::Sequence { .. } => sizes(sequence.stacked().as_deref()),
            };
            Field {
                name: Some(output.name.clone()),
                kind: output.kind.type_name().to_owned(),
                shape,
                required: true,
            }
        })
        .collect()
}

fn sizes(shape: Option<&[Dim]>) -> Option<Vec<i64>> {
    Some(shape?.iter().map(Dim::to_i64).collect())
}

impl Field {
    fn column(column: &ColSpec) -> Self {
        Self {
            name: column.name.clone(),
            kind: column.kind.describe(),
            shape: None,
            required: column.required,
        }
    }

    fn tensor(tensor: &TensorSpec) -> Self {
        Self {
            name: tensor.name.clone(),
            kind: tensor.dtype.numpy_name().to_owned(),
            shape: Some(tensor.shape.clone()),
            required: true,
        }
    }
}

impl Verdict {
    fn new(engine: &dyn Engine, package: &Package) -> Self {
        let available = engine.check();
        let support = engine.supports(package);
        let supported = !matches!(support, Support::No(_));
        let mut reasons = support.reasons();
        let missing = available.as_ref().err().map(ToString::to_string);
        reasons.extend(missing);
        Self {
            engine: engine.name(),
            version: engine.version(),
            available: available.is_ok(),
            supported,
            tried: Tried::Not,
            reasons,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_domain_is_listed_once_under_its_name() {
        let imports = [("", 17), ("ai.onnx.ml", 1), ("ai.onnx", 17)];
        let opsets = opsets(&imports.map(|(domain, version)| (domain.to_owned(), version)));
        let shown = opsets
            .iter()
            .map(|opset| (opset.domain.as_str(), opset.version));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [("ai.onnx", 17), ("ai.onnx.ml", 1)]
        );
    }
}
