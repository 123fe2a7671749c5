//! Operators with graphs in them: If, Loop, Scan.

use super::fact::{Content, Fact, Number, axis_of, derived};
use super::follow::{Effect, Values, either};
use super::program::{Attribute, Body, Step};
use crate::tensor::DType;

/// A state that is not settled after this many rounds grows with each.
const ROUNDS: usize = 6;

/// A count beyond this is no bound: exporters write the largest number for a loop that ends by its condition.
const MOST_ROUNDS: u64 = 1 << 31;

/// Rounds that are taken for a count that is not known.
const SOME_ROUNDS: u64 = 64;

/// How often a body runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// So often, at most.
    Known(u64),
    /// As often as shapes or constants say in ways that are not followed.
    Fixed,
    /// As often as the values of a request say.
    Values,
}

pub(super) fn follow(step: &Step, values: &mut Values) -> Effect {
    match &*step.op {
        "If" => choose(step, values),
        "Loop" => repeat(step, values),
        _ => scan(step, values),
    }
}

fn body<'a>(step: &'a Step, name: &str) -> Option<&'a Body> {
    let found = step.bodies.iter().find(|body| &*body.0 == name);
    found.map(|found| &found.1)
}

fn input(step: &Step, values: &Values, index: usize) -> Option<Fact> {
    let place = step.inputs.get(index).copied().flatten()?;
    values.get(place).cloned()
}

fn unknown(step: &Step, values: &Values) -> Effect {
    let inputs = step.inputs.iter().flatten();
    let facts: Vec<&Fact> = inputs.filter_map(|place| values.get(*place)).collect();
    let guess = facts.iter().map(|fact| fact.elements()).max();
    let fact = Fact::unknown(DType::F32, guess.unwrap_or_default(), derived(facts));
    vec![fact; step.outputs.len()].into()
}

/// The outputs of a body whose inputs are set.
fn run(body: &Body, values: &mut Values) -> Vec<Fact> {
    let held = values.held();
    values.follow(body);
    values.back_to(held);
    let missing = || Fact::unknown(DType::F32, 0, Content::Fixed);
    let outputs = body.outputs.iter();
    outputs
        .map(|place| {
            place
                .and_then(|place| values.get(place).cloned())
                .unwrap_or_else(missing)
        })
        .collect()
}

fn choose(step: &Step, values: &mut Values) -> Effect {
    let (Some(yes), Some(no)) = (body(step, "then_branch"), body(step, "else_branch")) else {
        return unknown(step, values);
    };
    let condition = input(step, values, 0);
    let known = condition
        .as_ref()
        .and_then(|condition| condition.known()?.first().copied());
    if let Some(Number {
        value,
        is_exact: true,
    }) = known
    {
        let branch = if value == 0.0 { no } else { yes };
        return without_work(run(branch, values));
    }
    let by_values = condition.is_none_or(|condition| condition.content == Content::Values);
    let (yes, no) = (run(yes, values), run(no, values));
    let merged = yes.iter().zip(&no).map(|(yes, no)| {
        let fact = either(yes, no);
        let content = match fact.content {
            Content::Known(_) if yes.content == no.content => fact.content,
            _ if by_values => Content::Values,
            other => other,
        };
        Fact { content, ..fact }
    });
    without_work(merged.collect())
}

fn without_work(outputs: Vec<Fact>) -> Effect {
    Effect {
        work: Some(0),
        ..outputs.into()
    }
}

/// Inputs: how often, whether at all, then the states. Body: number, condition, states → condition, states, parts.
fn repeat(step: &Step, values: &mut Values) -> Effect {
    values.note_open("Loop");
    let Some(body) = body(step, "body") else {
        return unknown(step, values);
    };
    let states: Vec<Fact> = (2..step.inputs.len())
        .map(|index| {
            let missing = Fact::unknown(DType::F32, 0, Content::Fixed);
            input(step, values, index).unwrap_or(missing)
        })
        .collect();
    let limit = match input(step, values, 0) {
        None => None,
        Some(limit) => Some(match (limit.known(), &limit.content) {
            (Some([number, ..]), _) => number.size().map_or(Count::Fixed, Count::Known),
            (_, Content::Values) => Count::Values,
            _ => Count::Fixed,
        }),
    };
    let limit =
        limit.filter(|limit| !matches!(limit, Count::Known(rounds) if *rounds > MOST_ROUNDS));
    let has_condition = input(step, values, 1).is_some();
    let counter = Fact::shaped(DType::I64, vec![], Content::Fixed);
    let going = Fact::shaped(DType::Bool, vec![], Content::Fixed);
    let settled = settle(body, states, 1, values, &[counter, going]);
    let goes_on = settled
        .outputs
        .first()
        .map(|condition| condition.content.clone());
    let count = match limit {
        Some(Count::Values) | None if goes_on == Some(Content::Values) && has_condition => {
            Count::Values
        }
        Some(limit) => limit,
        None => Count::Fixed,
    };
    if count == Count::Values {
        values.note_unbounded("Loop", "runs as often as the values of a request say");
    }
    finish(settled, count, 1, values, |_| 0)
}

fn scan(step: &Step, values: &mut Values) -> Effect {
    let number_of = |name: &str| match step.attributes.iter().find(|own| &*own.0 == name) {
        Some((_, Attribute::Number(number))) => usize::try_from(*number).ok(),
        _ => None,
    };
    let axes = |name: &str| match step.attributes.iter().find(|own| &*own.0 == name) {
        Some((_, Attribute::Numbers(axes))) => axes.to_vec(),
        _ => vec![],
    };
    let (Some(body), Some(scanned)) = (body(step, "body"), number_of("num_scan_inputs")) else {
        values.note_open("Scan");
        return unknown(step, values);
    };
    // The oldest form has the lengths first and a batch axis before all others.
    let Some(states) = step
        .inputs
        .len()
        .checked_sub(scanned)
        .filter(|_| step.opset >= 9)
    else {
        values.note_open("Scan");
        return unknown(step, values);
    };
    let missing = || Fact::unknown(DType::F32, 0, Content::Fixed);
    let mut count = Count::Fixed;
    let input_axes = axes("scan_input_axes");
    let mut slices = Vec::with_capacity(scanned);
    for index in 0..scanned {
        let whole = input(step, values, states + index).unwrap_or_else(missing);
        let axis = input_axes.get(index).copied().unwrap_or(0);
        let place = whole.rank().and_then(|rank| axis_of(axis, rank));
        let Some((shape, place)) = whole.shape.clone().zip(place) else {
            slices.push(Fact {
                content: whole.content.clone(),
                ..missing()
            });
            continue;
        };
        count = Count::Known(shape[place]);
        let rest = [&shape[..place], &shape[place + 1..]].concat();
        let content = derived([&whole]);
        slices.push(Fact {
            content,
            ..whole.in_shape(rest)
        });
    }
    let states = (0..states)
        .map(|index| input(step, values, index).unwrap_or_else(missing))
        .collect();
    // The slices come after the states.
    for (place, slice) in body.inputs.iter().rev().zip(slices.into_iter().rev()) {
        values.set(*place, slice);
    }
    let settled = settle(body, states, 0, values, &[]);
    let output_axes = axes("scan_output_axes");
    finish(settled, count, 0, values, |part| {
        output_axes.get(part).copied().unwrap_or(0)
    })
}

/// What a body does in a round when its states have been what they will be.
struct Settled {
    /// Before the first round.
    first: Vec<Fact>,
    /// After one round, and after some.
    states: [Vec<Fact>; 2],
    outputs: Vec<Fact>,
    /// Of one round.
    work: u64,
    /// Rounds after which the states were the last ones.
    rounds: u64,
}

/// Runs a body, with these inputs before its states, until it knows its states.
fn settle(
    body: &Body,
    first: Vec<Fact>,
    skipped: usize,
    values: &mut Values,
    before: &[Fact],
) -> Settled {
    let mut states = first.clone();
    let mut after_one = None;
    let mut outputs = Vec::new();
    let (mut work, mut rounds) = (0, 0);
    for _ in 0..ROUNDS {
        rounds += 1;
        let inputs = before.iter().chain(&states);
        for (place, fact) in body.inputs.iter().zip(inputs) {
            values.set(*place, fact.clone());
        }
        let worked = values.account.work;
        outputs = run(body, values);
        work = values.account.work - worked;
        // It is counted once, for all rounds.
        values.account.work = worked;
        let after = outputs.iter().skip(skipped);
        let known: Vec<Fact> = states
            .iter()
            .zip(after)
            .map(|(state, after)| either(state, after))
            .collect();
        after_one.get_or_insert_with(|| known.clone());
        let is_settled = known == states;
        states = known;
        if is_settled {
            break;
        }
    }
    let after_one = after_one.unwrap_or_else(|| states.clone());
    Settled {
        first,
        states: [after_one, states],
        outputs,
        work,
        rounds,
    }
}

fn finish(
    settled: Settled,
    count: Count,
    skipped: usize,
    values: &mut Values,
    axis: impl Fn(usize) -> i64,
) -> Effect {
    let Settled {
        first,
        states: [after_one, last],
        outputs,
        work,
        rounds: followed,
    } = settled;
    let rounds = match count {
        Count::Known(rounds) => rounds,
        Count::Fixed | Count::Values => SOME_ROUNDS,
    };
    values.works(work.saturating_mul(rounds));
    let states = first.len();
    let grows = |((first, after), last): ((&Fact, &Fact), &Fact)| {
        grows_faster((first, after, last), followed)
    };
    if first.iter().zip(&after_one).zip(&last).any(grows) {
        values.note_unbounded("Loop", "carries a state that grows by more in each round");
    }
    let mut results: Vec<Fact> = first
        .iter()
        .zip(&after_one)
        .zip(last)
        .map(|((first, after), last)| grown(first, after, last, rounds))
        .collect();
    let by_values = count == Count::Values;
    for (index, part) in outputs.iter().skip(skipped + states).enumerate() {
        let axis = part.rank().and_then(|rank| axis_of(axis(index), rank + 1));
        let shape = part.shape.clone().zip(axis).map(|(mut shape, axis)| {
            shape.insert(axis, rounds);
            shape
        });
        let content = match part.content {
            Content::Values => Content::Values,
            _ if by_values => Content::Values,
            _ => Content::Fixed,
        };
        results.push(Fact {
            shape: shape.filter(|_| matches!(count, Count::Known(_))),
            // It may end earlier.
            is_exact: false,
            guess: part.elements().saturating_mul(rounds),
            content,
            ..part.clone()
        });
    }
    without_work(results)
}

/// Whether a state has grown by more than as much in each of so many rounds: nobody knows how large it becomes.
fn grows_faster((first, after, last): (&Fact, &Fact, &Fact), rounds: u64) -> bool {
    let shapes = (&first.shape, &after.shape, &last.shape);
    let (Some(from), Some(to), Some(last)) = shapes else {
        return false;
    };
    let steadily = |(from, to): (&u64, &u64)| {
        from.saturating_add(to.saturating_sub(*from).saturating_mul(rounds))
    };
    let expected = from.iter().zip(to).map(steadily);
    expected.zip(last).any(|(expected, last)| *last > expected)
}

/// A state after so many rounds; one that grows is taken to grow by as much in each.
fn grown(first: &Fact, after: &Fact, last: Fact, rounds: u64) -> Fact {
    if first.shape == last.shape {
        return last;
    }
    let shapes = (&first.shape, &after.shape, &last.shape);
    let (Some(from), Some(to), Some(_)) = shapes else {
        return Fact {
            shape: None,
            ..last
        };
    };
    let sizes = from.iter().zip(to);
    let size = |(from, to): (&u64, &u64)| {
        from.saturating_add(to.saturating_sub(*from).saturating_mul(rounds))
    };
    let shape: Vec<u64> = sizes.map(size).collect();
    Fact {
        is_exact: false,
        ..last.in_shape(shape)
    }
}
