//! Which output answers a scoring request, when not all of them do: the labels, or the class probabilities.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Dim, Origin, OutputKind, OutputSpec};
use crate::error::{ErrorKind, Kinded};

/// The form of scoring answers that the operator chose for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ResponseForm {
    /// All outputs, by name, as MLflow's ONNX flavor answers.
    #[default]
    #[serde(rename = "mlflow-onnx")]
    MlflowOnnx,
    /// What `predict` of scikit-learn returns: a plain list of labels or numbers.
    #[serde(rename = "predict")]
    Predict,
    /// What `predict_proba` of scikit-learn returns: a list of probabilities per row, in the order of the classes.
    #[serde(rename = "predict_proba")]
    PredictProba,
}

impl ResponseForm {
    /// The value of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::MlflowOnnx => "mlflow-onnx",
            Self::Predict => "predict",
            Self::PredictProba => "predict_proba",
        }
    }
}

/// A [`ResponseForm`] resolved against the outputs of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseOutput {
    /// All outputs.
    #[default]
    All,
    /// The output at this index: labels, or the numbers of a regression.
    Predictions(usize),
    /// The output at this index: class probabilities.
    Probabilities(usize),
}

/// A graph without the output that the chosen form of answers needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`response = \"{}\"` needs {}, but the graph's outputs are {outputs}; remove the setting, or {}",
    form.name(),
    Self::expected(*form),
    Self::remedy(*form)
)]
pub struct NoSuchOutput {
    form: ResponseForm,
    outputs: String,
}

impl Kinded for NoSuchOutput {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl NoSuchOutput {
    fn expected(form: ResponseForm) -> &'static str {
        match form {
            ResponseForm::MlflowOnnx => "no output in particular",
            ResponseForm::Predict => {
                "one output of labels (named `label` or `output_label`, or made by a classifier of ai.onnx.ml) or a \
                 single tensor output"
            }
            ResponseForm::PredictProba => {
                "one output of class probabilities (a ZipMap, a float tensor named `probabilities` or \
                 `output_probability`, or one made by Softmax or a classifier of ai.onnx.ml)"
            }
        }
    }

    fn remedy(form: ResponseForm) -> &'static str {
        match form {
            ResponseForm::MlflowOnnx | ResponseForm::Predict => {
                "export the model so that its labels are an output named `label`"
            }
            ResponseForm::PredictProba => {
                "export the model so that its probabilities are one output named `probabilities` (skl2onnx: \
                 `options={\"zipmap\": False}`)"
            }
        }
    }
}

const LABEL_NAMES: [&str; 3] = ["label", "output_label", "labels"];
const PROBABILITY_NAMES: [&str; 3] = ["probabilities", "output_probability", "probability"];

/// Operators whose first output is a label and whose second one scores each class.
const CLASSIFIERS: [&str; 3] = [
    "LinearClassifier",
    "SVMClassifier",
    "TreeEnsembleClassifier",
];

impl ResponseOutput {
    /// Finds the output that `form` asks for.
    ///
    /// # Errors
    /// [`NoSuchOutput`], when there is none or more than one could be meant.
    pub fn resolve(
        form: ResponseForm,
        outputs: &[OutputSpec],
        origins: &BTreeMap<String, Origin>,
    ) -> Result<Self, NoSuchOutput> {
        let found = match form {
            ResponseForm::MlflowOnnx => return Ok(Self::All),
            ResponseForm::Predict => predictions(outputs, origins).map(Self::Predictions),
            ResponseForm::PredictProba => probabilities(outputs, origins).map(Self::Probabilities),
        };
        found.ok_or_else(|| NoSuchOutput {
            form,
            outputs: describe(outputs),
        })
    }
}

/// By name, then by the operator behind it, then as the only output that is no number with a fraction, then as the only
/// output at all.
fn predictions(outputs: &[OutputSpec], origins: &BTreeMap<String, Origin>) -> Option<usize> {
    let named = |output: &OutputSpec| {
        is_tensor(output) && LABEL_NAMES.contains(&output.name.to_ascii_lowercase().as_str())
    };
    let classified = |output: &OutputSpec| is_tensor(output) && is_made_by(output, origins, 0);
    let whole = |output: &OutputSpec| is_column(output) && !is_float(output);
    let alone = |output: &OutputSpec| {
        outputs.len() == 1 && is_tensor(output) && !is_named_probability(output)
    };
    only(outputs, named)
        .or_else(|| only(outputs, classified))
        .or_else(|| only(outputs, whole))
        .or_else(|| only(outputs, alone))
}

/// By type, then by name, then by the operator behind it.
fn probabilities(outputs: &[OutputSpec], origins: &BTreeMap<String, Origin>) -> Option<usize> {
    let maps = |output: &OutputSpec| matches!(output.kind, OutputKind::Maps { .. });
    let named = |output: &OutputSpec| {
        is_float(output) && is_named_probability(output) && has_classes(output)
    };
    let made = |output: &OutputSpec| {
        let softmax = origins
            .get(&output.name)
            .is_some_and(|origin| origin.op_type == "Softmax");
        is_float(output) && has_classes(output) && (softmax || is_made_by(output, origins, 1))
    };
    only(outputs, maps)
        .or_else(|| only(outputs, named))
        .or_else(|| only(outputs, made))
}

/// The index of the one output that fits.
fn only(outputs: &[OutputSpec], fits: impl Fn(&OutputSpec) -> bool) -> Option<usize> {
    let mut fitting = (0..outputs.len()).filter(|&index| fits(&outputs[index]));
    fitting.next().filter(|_| fitting.next().is_none())
}

fn is_made_by(output: &OutputSpec, origins: &BTreeMap<String, Origin>, index: usize) -> bool {
    origins.get(&output.name).is_some_and(|origin| {
        origin.index == index && CLASSIFIERS.contains(&origin.op_type.as_str())
    })
}

fn is_named_probability(output: &OutputSpec) -> bool {
    PROBABILITY_NAMES.contains(&output.name.to_ascii_lowercase().as_str())
}

fn is_tensor(output: &OutputSpec) -> bool {
    matches!(output.kind, OutputKind::Tensor { .. })
}

fn is_float(output: &OutputSpec) -> bool {
    matches!(output.kind, OutputKind::Tensor { dtype, .. } if dtype.is_float())
}

fn shape(output: &OutputSpec) -> Option<&[Dim]> {
    match &output.kind {
        OutputKind::Tensor { shape, .. } => shape.as_deref(),
        OutputKind::Maps { .. } | OutputKind::Sequence { .. } => None,
    }
}

/// One value per row, as far as the graph says.
fn is_column(output: &OutputSpec) -> bool {
    is_tensor(output)
        && shape(output).is_none_or(|shape| matches!(shape, [_] | [_, Dim::Fixed(1) | Dim::Any(_)]))
}

/// Several values per row, as far as the graph says.
fn has_classes(output: &OutputSpec) -> bool {
    shape(output).is_none_or(|shape| shape.len() >= 2)
}

fn describe(outputs: &[OutputSpec]) -> String {
    let mut text = String::new();
    for (index, output) in outputs.iter().take(20).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let name = output.name.escape_debug();
        let kind = match &output.kind {
            OutputKind::Maps { .. } => "maps".to_owned(),
            OutputKind::Sequence { .. } => "sequence".to_owned(),
            OutputKind::Tensor { dtype, shape: None } => dtype.to_string(),
            OutputKind::Tensor {
                dtype,
                shape: Some(shape),
            } => {
                let dims: Vec<i64> = shape.iter().map(Dim::to_i64).collect();
                format!("{dtype} {dims:?}")
            }
        };
        write!(text, "{separator}`{name}` ({kind})").expect("writing to a text cannot fail");
    }
    if outputs.len() > 20 {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    /// Outputs written as `name dtype dims`, or `name maps`, with commas between.
    fn outputs(text: &str) -> Vec<OutputSpec> {
        let output = |text: &str| {
            let mut words = text.split_whitespace();
            let name = words.next().unwrap().to_owned();
            let dtype = match words.next().unwrap() {
                "maps" => {
                    let kind = OutputKind::Maps { text_labels: true };
                    return OutputSpec { name, kind };
                }
                "text" => DType::String,
                dtype => DType::from_numpy(dtype).unwrap(),
            };
            let dim = |word: &str| word.parse().map_or(Dim::Any(None), Dim::Fixed);
            let shape = Some(words.map(dim).collect());
            let kind = OutputKind::Tensor { dtype, shape };
            OutputSpec { name, kind }
        };
        text.split(", ").map(output).collect()
    }

    /// Origins written as `name operator index`, with commas between.
    fn origins(text: &str) -> BTreeMap<String, Origin> {
        let origin = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let (op_type, index) = (words[1].to_owned(), words[2].parse().unwrap());
            (words[0].to_owned(), Origin { op_type, index })
        };
        let parts = text.split(", ").filter(|part| !part.is_empty());
        parts.map(origin).collect()
    }

    /// The outputs, what makes them, the index of the predictions and that of the probabilities.
    #[rustfmt::skip]
    const TABLE: [(&str, &str, Option<usize>, Option<usize>); 17] = [
        ("label int64 n, probabilities float32 n 3", "", Some(0), Some(1)),
        ("output_label text n, output_probability maps", "", Some(0), Some(1)),
        ("Probabilities float32 n 3, Label text n", "", Some(1), Some(0)),
        ("c int64 n, s float32 n 3", "c TreeEnsembleClassifier 0, s TreeEnsembleClassifier 1", Some(0), Some(1)),
        ("c float32 n, s float32 n 3", "c LinearClassifier 0, s LinearClassifier 1", Some(0), Some(1)),
        ("variable float32 n 1", "variable TreeEnsembleRegressor 0", Some(0), None),
        ("y float32 n 10", "y Softmax 0", Some(0), Some(0)),
        ("y float32 n 10", "y Gemm 0", Some(0), None),
        ("label int64 n 1, scores float32 n 1", "", Some(0), None),
        ("class int64 n, scores float32 n 3", "", Some(0), None),
        ("probabilities float32 n 3", "", None, Some(0)),
        ("p maps", "", None, Some(0)),
        ("mean float32 n 1, std float32 n", "", None, None),
        ("a int64 n, b int64 n", "", None, None),
        ("label int64 n, probability float32 n", "", Some(0), None),
        ("output_label int64 n, i0 float32 n, i1 float32 n", "", Some(0), None),
        ("x int64 n 4, y float32 n", "", None, None),
    ];

    #[test]
    fn finds_the_labels_and_the_probabilities() {
        for (spec, made, labels, scores) in TABLE {
            let (outputs, made) = (outputs(spec), origins(made));
            let resolve = |form| ResponseOutput::resolve(form, &outputs, &made).ok();
            let all = resolve(ResponseForm::MlflowOnnx);
            assert_eq!(all, Some(ResponseOutput::All), "{spec}");
            let wanted = labels.map(ResponseOutput::Predictions);
            assert_eq!(resolve(ResponseForm::Predict), wanted, "{spec}");
            let wanted = scores.map(ResponseOutput::Probabilities);
            assert_eq!(resolve(ResponseForm::PredictProba), wanted, "{spec}");
        }
    }

    #[test]
    fn says_what_there_is_what_was_expected_and_what_to_do() {
        let refuse = |form, spec| {
            ResponseOutput::resolve(form, &outputs(spec), &BTreeMap::new())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refuse(
                ResponseForm::Predict,
                "mean float32 n 1, p maps, std float32 n"
            ),
            "`response = \"predict\"` needs one output of labels (named `label` or `output_label`, or made by a classifier \
             of ai.onnx.ml) or a single tensor output, but the graph's outputs are `mean` (FP32 [-1, 1]), `p` (maps), \
             `std` (FP32 [-1]); remove the setting, or export the model so that its labels are an output named `label`"
        );
        let message = refuse(ResponseForm::PredictProba, "mean float32 n 1");
        let wanted =
            "`response = \"predict_proba\"` needs one output of class probabilities (a ZipMap, ";
        assert!(message.starts_with(wanted), "{message}");
        let outputs = "outputs are `mean` (FP32 [-1, 1]);";
        assert!(message.contains(outputs), "{message}");
    }
}
