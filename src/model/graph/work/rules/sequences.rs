//! Sequences and optionals: what they hold takes as much as it took before.

use super::super::fact::{Fact, derived};
use super::super::follow::{Call, Effect, Rule, Unbounded};

pub(super) fn find(op: &str) -> Option<Rule> {
    Some(match op {
        "SequenceConstruct" | "SequenceEmpty" | "SplitToSequence" => collected,
        "Optional" | "OptionalGetElement" => held,
        _ => return None,
    })
}

/// A sequence of all inputs, or of the parts of one. The lengths of a split are its second input.
fn collected(call: &Call<'_>) -> Result<Effect, Unbounded> {
    let count = if &*call.step.op == "SplitToSequence" {
        1
    } else {
        usize::MAX
    };
    let parts: Vec<&Fact> = call.given().take(count).collect();
    let elements = parts.iter().map(|part| part.elements());
    let longest = parts.iter().map(|part| part.longest).max();
    let fact = Fact::unknown(
        call.dtype(0),
        elements.fold(0, u64::saturating_add),
        derived(parts),
    );
    Ok(Fact {
        longest: longest.unwrap_or_default(),
        ..fact
    }
    .into())
}

fn held(call: &Call<'_>) -> Result<Effect, Unbounded> {
    match call.input(0) {
        Some(input) => Ok(input.clone().into()),
        None => collected(call),
    }
}
