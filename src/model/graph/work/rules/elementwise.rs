//! Operators whose outputs have the shapes of their inputs.

use super::super::fact::Fact;
use super::super::follow::{Call, Effect, Rule, Unbounded};
use super::{dtype_of, numbers};
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "Abs"
        | "Acos"
        | "Acosh"
        | "Asin"
        | "Asinh"
        | "Atan"
        | "Atanh"
        | "BatchNormalization"
        | "Bernoulli"
        | "BitwiseNot"
        | "Ceil"
        | "Celu"
        | "Clip"
        | "Cos"
        | "Cosh"
        | "CumSum"
        | "Dropout"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Floor"
        | "Gelu"
        | "GroupNormalization"
        | "HardSigmoid"
        | "HardSwish"
        | "Hardmax"
        | "Identity"
        | "InstanceNormalization"
        | "LRN"
        | "LayerNormalization"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "Mish"
        | "Neg"
        | "RMSNormalization"
        | "Reciprocal"
        | "Relu"
        | "ReverseSequence"
        | "RotaryEmbedding"
        | "Round"
        | "Scatter"
        | "ScatterElements"
        | "ScatterND"
        | "Selu"
        | "Shrink"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Sinh"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "Sqrt"
        | "Swish"
        | "Tan"
        | "Tanh"
        | "TensorScatter"
        | "ThresholdedRelu"
        | "Trilu"
        | "StringNormalizer" => same,
        "Cast" | "CastLike" | "QuantizeLinear" | "DequantizeLinear" | "EyeLike"
        | "RandomNormalLike" | "RandomUniformLike" => converted,
        "IsInf" | "IsNaN" | "Not" | "RegexFullMatch" => flags,
        "Add" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Div" | "Max" | "Mean"
        | "Min" | "Mod" | "Mul" | "PRelu" | "Pow" | "StringConcat" | "Sub" | "Sum" => broadcast,
        "And" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Or" | "Xor" => {
            compared
        }
        "Where" => chosen,
        "DynamicQuantizeLinear" => quantized,
        _ => return None,
    })
}

pub(super) fn contributed(op: &str) -> Option<Rule> {
    Some(match op {
        "BiasGelu"
        | "FastGelu"
        | "Gelu"
        | "Inverse"
        | "LayerNormalization"
        | "QuickGelu"
        | "RotaryEmbedding"
        | "SimplifiedLayerNormalization"
        | "SkipLayerNormalization"
        | "SkipSimplifiedLayerNormalization"
        | "Trilu" => same,
        "DequantizeLinear" | "QuantizeLinear" => converted,
        "BiasAdd" | "BiasSoftmax" | "QLinearAdd" | "QLinearMul" => broadcast,
        _ => return None,
    })
}

fn same(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    let content = numbers::unary(call).unwrap_or_else(|| super::super::fact::derived(call.given()));
    let fact = Fact {
        content,
        ..input.clone()
    };
    Ok(vec![fact; call.step.outputs.len()].into())
}

fn converted(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    let to = match &*call.step.op {
        "CastLike" => call.dtype(1),
        "QuantizeLinear" => call.input(2).map_or(DType::U8, |zero| zero.dtype),
        "DequantizeLinear" => call.dtype(1),
        op => {
            let attribute = if op == "Cast" { "to" } else { "dtype" };
            dtype_of(call.int(attribute, 0)).unwrap_or(input.dtype)
        }
    };
    let content = match &*call.step.op {
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => super::super::fact::Content::Fixed,
        "Cast" | "CastLike" => numbers::cast(input, to),
        _ => super::super::fact::derived(call.given()),
    };
    Ok(Fact {
        dtype: to,
        content,
        // The text of a number.
        longest: if input.dtype == DType::String {
            input.longest
        } else {
            24
        },
        ..input.clone()
    }
    .into())
}

fn flags(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let mut effect = same(call)?;
    for output in &mut effect.outputs {
        output.dtype = DType::Bool;
    }
    Ok(effect)
}

fn broadcast(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let fact = match broadcasted(call.given()) {
        Some(shape) => call.result(call.dtype(0), shape),
        None => call.guess(call.dtype(0)),
    };
    let lengths = call.given().map(|fact| fact.longest);
    let longest = lengths.fold(0, u64::saturating_add);
    let content = numbers::binary(call).unwrap_or(fact.content.clone());
    Ok(Fact {
        content,
        longest,
        ..fact
    }
    .into())
}

fn compared(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let mut effect = broadcast(call)?;
    for output in &mut effect.outputs {
        output.dtype = DType::Bool;
    }
    Ok(effect)
}

fn chosen(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let mut effect = broadcast(call)?;
    for output in &mut effect.outputs {
        output.dtype = call.dtype(1);
        if let Some(content) = numbers::chosen(call) {
            output.content = content;
        }
    }
    Ok(effect)
}

fn quantized(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    let whole = Fact {
        dtype: DType::U8,
        ..input.clone()
    };
    let single = |dtype| call.result(dtype, vec![]);
    Ok(vec![whole, single(DType::F32), single(DType::U8)].into())
}

/// The shape of operands that are put beside each other; `None` when one of them has none.
pub(super) fn broadcasted<'a>(facts: impl Iterator<Item = &'a Fact>) -> Option<Vec<u64>> {
    let mut shape: Vec<u64> = Vec::new();
    for fact in facts {
        let own = match &fact.shape {
            Some(own) => own,
            None => return None,
        };
        if own.len() > shape.len() {
            let missing = own.len() - shape.len();
            shape.splice(0..0, vec![1; missing]);
        }
        let offset = shape.len() - own.len();
        for (size, own) in shape[offset..].iter_mut().zip(own) {
            // Sizes of which one is only a bound need not be equal.
            *size = match (*size, *own) {
                (1, other) | (other, 1) => other,
                (one, other) => one.max(other),
            };
        }
    }
    Some(shape)
}
