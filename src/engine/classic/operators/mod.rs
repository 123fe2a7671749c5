//! The operators, and the table by which a graph finds them.

mod broadcast;
mod cast;
mod compare;
mod encode;
mod features;
mod fill;
mod index;
mod linear;
mod matmul;
mod normalize;
mod order;
mod reduce;
mod scan;
mod scores;
mod shape;
mod svm;
mod svm_regressor;
mod text;
mod tf_idf;
mod trees;
mod unary;

use super::body::Bodies;
use super::failure::Refusal;
use super::known::Known;
use super::node::Node;
use super::operator::{Build, Built};
use super::program::Place;

/// The domain of the classic machine-learning operators.
const ML: &str = "ai.onnx.ml";

/// ONNX Runtime's own domain.
const MICROSOFT: &str = "com.microsoft";

/// Domain, name and builder of each operator, but for those of [`structural`] and [`with_body`].
const TABLE: &[(&str, &str, Build)] = &[
    ("", "Abs", unary::abs),
    ("", "Add", broadcast::add),
    ("", "And", compare::and),
    ("", "ArgMax", reduce::arg_max),
    ("", "ArgMin", reduce::arg_min),
    ("", "Atan", unary::atan),
    ("", "Cast", cast::cast),
    ("", "Ceil", unary::ceil),
    ("", "Clip", unary::clip),
    ("", "Concat", shape::concat),
    ("", "Constant", fill::constant),
    ("", "ConstantOfShape", fill::constant_of_shape),
    ("", "Cos", unary::cos),
    ("", "CumSum", order::cum_sum),
    ("", "Div", broadcast::div),
    ("", "Elu", unary::elu),
    ("", "Equal", compare::equal),
    ("", "Erf", unary::erf),
    ("", "Exp", unary::exp),
    ("", "Expand", fill::expand),
    ("", "Flatten", shape::flatten),
    ("", "Floor", unary::floor),
    ("", "Gather", index::gather),
    ("", "GatherElements", index::gather_elements),
    ("", "GatherND", index::gather_nd),
    ("", "Gemm", matmul::gemm),
    ("", "Greater", compare::greater),
    ("", "GreaterOrEqual", compare::greater_or_equal),
    ("", "IsInf", unary::is_inf),
    ("", "IsNaN", unary::is_nan),
    ("", "LeakyRelu", unary::leaky_relu),
    ("", "Less", compare::less),
    ("", "LessOrEqual", compare::less_or_equal),
    ("", "Log", unary::log),
    ("", "LogSoftmax", normalize::log_softmax),
    ("", "LpNormalization", normalize::lp_normalization),
    ("", "MatMul", matmul::mat_mul),
    ("", "Max", broadcast::max),
    ("", "Mean", broadcast::mean),
    ("", "Min", broadcast::min),
    ("", "Mod", broadcast::modulo),
    ("", "Mul", broadcast::mul),
    ("", "Neg", unary::neg),
    ("", "Not", unary::not),
    ("", "OneHot", index::one_hot),
    ("", "Or", compare::or),
    ("", "Pow", broadcast::pow),
    ("", "Reciprocal", unary::reciprocal),
    ("", "ReduceL1", reduce::l1),
    ("", "ReduceL2", reduce::l2),
    ("", "ReduceLogSum", reduce::log_sum),
    ("", "ReduceLogSumExp", reduce::log_sum_exp),
    ("", "ReduceMax", reduce::largest),
    ("", "ReduceMean", reduce::mean),
    ("", "ReduceMin", reduce::smallest),
    ("", "ReduceProd", reduce::product),
    ("", "ReduceSum", reduce::sum),
    ("", "ReduceSumSquare", reduce::sum_square),
    ("", "Relu", unary::relu),
    ("", "Reshape", shape::reshape),
    ("", "Round", unary::round),
    ("", "Shape", shape::shape),
    ("", "Sigmoid", unary::sigmoid),
    ("", "Sign", unary::sign),
    ("", "Sin", unary::sin),
    ("", "Size", shape::size_of_array),
    ("", "Slice", index::slice),
    ("", "Softmax", normalize::softmax),
    ("", "Softplus", unary::softplus),
    ("", "Softsign", unary::softsign),
    ("", "Split", index::split),
    ("", "Sqrt", unary::sqrt),
    ("", "Squeeze", shape::squeeze),
    ("", "StringNormalizer", text::string_normalizer),
    ("", "Sub", broadcast::sub),
    ("", "Sum", broadcast::sum),
    ("", "Tan", unary::tan),
    ("", "Tanh", unary::tanh),
    ("", "TfIdfVectorizer", tf_idf::tf_idf_vectorizer),
    ("", "Tile", fill::tile),
    ("", "TopK", order::top_k),
    ("", "Transpose", shape::transpose),
    ("", "Unsqueeze", shape::unsqueeze),
    ("", "Where", compare::choose),
    ("", "Xor", compare::xor),
    (
        ML,
        "ArrayFeatureExtractor",
        features::array_feature_extractor,
    ),
    (ML, "Binarizer", features::binarizer),
    (ML, "CategoryMapper", encode::category_mapper),
    (ML, "FeatureVectorizer", features::feature_vectorizer),
    (ML, "Imputer", features::imputer),
    (ML, "LabelEncoder", encode::label_encoder),
    (ML, "LinearClassifier", linear::classifier),
    (ML, "LinearRegressor", linear::regressor),
    (ML, "Normalizer", features::normalizer),
    (ML, "OneHotEncoder", encode::one_hot_encoder),
    (ML, "SVMClassifier", svm::classifier),
    (ML, "SVMRegressor", svm_regressor::regressor),
    (ML, "Scaler", features::scaler),
    (ML, "TreeEnsemble", trees::ensemble),
    (ML, "TreeEnsembleClassifier", trees::classifier),
    (ML, "TreeEnsembleRegressor", trees::regressor),
    (ML, "ZipMap", features::zip_map),
    (MICROSOFT, "Tokenizer", text::tokenizer),
];

/// Operators of domain `ai.onnx` that are no builders: they only give values other names, or run graphs.
const OTHERS: [&str; 4] = ["Dropout", "Identity", "Scan", "SequenceConstruct"];

/// Operators whose output may be far larger than their constants.
const GROWING: [&str; 5] = ["ConstantOfShape", "Expand", "OneHot", "Tile", "Scan"];

/// The builder of an operator.
pub(super) fn find(domain: &str, name: &str) -> Option<Build> {
    let row = TABLE.binary_search_by(|row| (row.0, row.1).cmp(&(domain, name)));
    row.ok().map(|row| TABLE[row].2)
}

/// Whether this engine has the operator, in some form.
pub(super) fn is_known(domain: &str, name: &str) -> bool {
    find(domain, name).is_some() || (domain.is_empty() && OTHERS.contains(&name))
}

/// Whether an operator on constants may be calculated when the graph is loaded.
pub(super) fn is_foldable(node: &Node<'_>) -> bool {
    !GROWING.contains(&node.op_type())
}

/// What a node that only gives values other names stands for; `None` for all other nodes.
///
/// # Errors
/// [`Refusal`].
pub(super) fn structural(
    node: &Node<'_>,
    inputs: &[Option<Known>],
) -> Result<Option<Vec<Known>>, Refusal> {
    let first = || {
        inputs
            .first()
            .cloned()
            .flatten()
            .ok_or_else(|| node.refuse("input 0 is missing"))
    };
    match (node.domain, node.op_type()) {
        ("", "Identity") => Ok(Some(vec![first()?])),
        ("", "Dropout") => {
            if node.outputs() > 1 || node.optional(2).is_some() {
                return Err(node.refuse("training is not supported"));
            }
            Ok(Some(vec![first()?]))
        }
        ("", "Cast") if matches!(first()?, Known::Array(array) if array.dtype == cast::target(node)?) => {
            Ok(Some(vec![first()?]))
        }
        ("", "SequenceConstruct") => {
            let arrays = inputs.iter().map(|input| match input {
                Some(Known::Array(array)) => Ok(*array),
                _ => Err(node.refuse("only tensors can be in a sequence")),
            });
            let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
            Ok(Some(vec![Known::Sequence(arrays)]))
        }
        _ => Ok(None),
    }
}

/// A node that runs a graph of its own, and what that graph reads around it; `None` for all other nodes.
///
/// # Errors
/// [`Refusal`].
pub(super) fn with_body(
    node: &Node<'_>,
    bodies: &dyn Bodies,
) -> Result<Option<(Built, Vec<Place>)>, Refusal> {
    match (node.domain, node.op_type()) {
        ("", "Scan") => scan::scan(node, bodies).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_operators_are_found() {
        assert!(TABLE.is_sorted_by(|one, other| (one.0, one.1) < (other.0, other.1)));
        assert!(find("", "Add").is_some() && find(ML, "Scaler").is_some());
        assert!(is_known("", "Scan") && !is_known("", "Loop") && !is_known("com.example", "Add"));
    }
}
