//! Text: as many words as there are letters, at most.

use super::super::fact::Fact;
use super::super::follow::{Call, Effect, Rule, Unbounded};
use crate::tensor::DType;

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "TfIdfVectorizer" => counted,
        "Tokenizer" | "StringSplit" => words,
        _ => return None,
    })
}

type Ruled = Result<Effect, Unbounded>;

fn counted(call: &Call<'_>) -> Ruled {
    let width = call
        .largest("ngram_indexes")
        .map_or(0, |last| last.unsigned_abs() + 1);
    let fact = match call.shape(0) {
        Some([before @ .., _]) => call.result(DType::F32, [before, &[width]].concat()),
        _ => Fact {
            guess: width.max(call.guess(DType::F32).guess),
            ..call.guess(DType::F32)
        },
    };
    Ok(fact.into())
}

/// One axis more, as long as the text with the most words has.
fn words(call: &Call<'_>) -> Ruled {
    let Some(input) = call.input(0) else {
        return super::as_large_as_inputs(call);
    };
    // Between two words stands something, unless letters are words.
    let letters = input.longest.saturating_add(2);
    let are_words = match call.text("tokenexp") {
        Some(expression) => expression.len() > 1,
        None => !call.has("separators") || call.count("separators") > 0,
    };
    let most = if are_words && !separates_letters(call) {
        letters / 2 + 1
    } else {
        letters
    };
    let fact = match &input.shape {
        Some(shape) => call.result(DType::String, [shape.as_slice(), &[most]].concat()),
        None => Fact {
            guess: input.guess.saturating_mul(most),
            ..call.guess(DType::String)
        },
    };
    // All words of a text together have its letters.
    let each = (input.longest / most.max(1)).saturating_add(1);
    let split = Fact {
        longest: each,
        ..fact.inexact(true)
    };
    let counts = Fact {
        dtype: DType::I64,
        ..input.clone()
    };
    let outputs = vec![split, counts]
        .into_iter()
        .take(call.step.outputs.len().max(1));
    let work = input.elements().saturating_mul(letters);
    Ok(Effect {
        work: Some(work),
        ..outputs.collect::<Vec<Fact>>().into()
    })
}

/// Whether the text is cut at the empty text, which stands between any two letters.
fn separates_letters(call: &Call<'_>) -> bool {
    call.text("tokenexp") == Some(".")
}
