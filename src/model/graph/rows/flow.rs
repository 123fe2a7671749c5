//! Operators with graphs in them: If, Loop, Scan.

use super::call::{Call, NO_SUCH_AXIS, UNKNOWN_RANK};
use super::size::{Size, axis_of};
use super::value::{Refusal, Tensor, Value};
use super::{Analysis, Scope};
use crate::model::graph::proto::GraphProto;

const NO_BODY: Refusal = "has no graph to run";
const NO_STATE: Refusal = "lacks a state";

/// A state that is not settled after this many rounds never is: each round can only know less.
const ROUNDS: usize = 8;

impl<'a> Analysis<'a> {
    pub(super) fn flow(&self, call: &Call<'a>, scope: &Scope<'_>) -> Result<Vec<Value>, Refusal> {
        match call.op {
            "If" => self.choose(call, scope),
            "Loop" => self.repeat(call, scope),
            _ => self.scan(call, scope),
        }
    }

    fn choose(&self, call: &Call<'a>, scope: &Scope<'_>) -> Result<Vec<Value>, Refusal> {
        let branches = [
            call.graph("else_branch").ok_or(NO_BODY)?,
            call.graph("then_branch").ok_or(NO_BODY)?,
        ];
        let condition = call.value(0).and_then(|value| value.integers());
        let known = condition.and_then(|condition| condition.known()?.first().copied());
        if let Some(known) = known {
            return Ok(self.run(branches[usize::from(known != 0)], scope, vec![]));
        }
        let condition = call.invariant(0, "chooses by the data")?;
        if condition.is_some_and(|condition| condition.of_one_row) {
            return Err("chooses by the data of a row");
        }
        // The same branch for all, whichever that is.
        let [no, yes] = branches.map(|branch| self.run(branch, scope, vec![]));
        Ok(yes
            .iter()
            .zip(&no)
            .map(|(yes, no)| self.either(yes, no))
            .collect())
    }

    /// Inputs: how often, whether at all, then the states. Body: number, condition, states → condition, states, parts.
    fn repeat(&self, call: &Call<'a>, scope: &Scope<'_>) -> Result<Vec<Value>, Refusal> {
        let body = call.graph("body").ok_or(NO_BODY)?;
        for index in 0..2 {
            let limit = call.invariant(index, "repeats as often as the data say")?;
            if limit.is_some_and(|limit| limit.of_one_row) {
                return Err("repeats as often as the data of a row say");
            }
        }
        let states: Option<Vec<Value>> = call.inputs.iter().skip(2).cloned().collect();
        let states = states.ok_or(NO_STATE)?;
        let unknown = || Value::from(Tensor::invariant(vec![]));
        let (states, outputs) = self.settle(
            states,
            |states| {
                let own = [unknown(), unknown()].into_iter();
                self.run(body, scope, own.chain(states.iter().cloned()).collect())
            },
            1,
        )?;
        let condition = outputs.first().ok_or(NO_BODY)?;
        if !matches!(
            condition,
            Value::Tensor(Tensor {
                rows: None,
                of_one_row: false,
                ..
            })
        ) {
            return Err("repeats as often as the data say");
        }
        let parts = outputs
            .iter()
            .skip(1 + states.len())
            .map(|part| self.stacked(part, 0, None));
        Ok(states.iter().cloned().chain(parts).collect())
    }

    fn scan(&self, call: &Call<'a>, scope: &Scope<'_>) -> Result<Vec<Value>, Refusal> {
        let body = call.graph("body").ok_or(NO_BODY)?;
        if call.opset < 9 {
            return Err("scans by the rules of an old operator set");
        }
        let scanned = usize::try_from(call.int("num_scan_inputs", 0)).map_err(|_| NO_BODY)?;
        let count = call.inputs.len().checked_sub(scanned).ok_or(NO_BODY)?;
        let mut steps = None;
        let mut slices = Vec::with_capacity(scanned);
        for index in 0..scanned {
            let (slice, size) = self.slice(call, count + index, index)?;
            // All are as long as the first, or it fails.
            steps = Some(steps.filter(Size::has_rows).unwrap_or(size));
            slices.push(slice);
        }
        let steps = steps.ok_or(NO_BODY)?;
        let reversed = call
            .ints("scan_output_directions")
            .is_some_and(|directions| directions.contains(&1));
        if steps.has_rows() && reversed {
            return Err("scans the rows backwards");
        }
        if steps.has_rows()
            && slices.iter().any(|slice| {
                !matches!(
                    slice,
                    Value::Tensor(Tensor {
                        of_one_row: true,
                        ..
                    })
                )
            })
        {
            return Err("takes a constant at the position of the row");
        }
        let states: Option<Vec<Value>> = call.inputs.iter().take(count).cloned().collect();
        let states = states.ok_or(NO_STATE)?;
        let (states, outputs) = self.settle(
            states,
            |states| self.run(body, scope, states.iter().chain(&slices).cloned().collect()),
            0,
        )?;
        let over_rows = steps.has_rows();
        let carries = |state: &Value| {
            matches!(
                state,
                Value::Tensor(Tensor {
                    of_one_row: true,
                    ..
                })
            )
        };
        if over_rows
            && states
                .iter()
                .any(|state| carries(state) || !state.is_invariant())
        {
            return Err("carries something from row to row");
        }
        let axes = call.ints("scan_output_axes").unwrap_or_default();
        let parts = outputs
            .iter()
            .skip(states.len())
            .enumerate()
            .map(|(index, part)| {
                self.stacked(
                    part,
                    axes.get(index).copied().unwrap_or(0),
                    over_rows.then_some(&steps),
                )
            });
        Ok(states.iter().cloned().chain(parts).collect())
    }

    /// What the body sees of a scanned input, and how often.
    fn slice(&self, call: &Call<'a>, index: usize, place: usize) -> Result<(Value, Size), Refusal> {
        let (tensor, shape) = call.shaped(index)?;
        let axes = call.ints("scan_input_axes").unwrap_or_default();
        let axis =
            axis_of(axes.get(place).copied().unwrap_or(0), shape.len()).ok_or(NO_SUCH_AXIS)?;
        let backwards = call
            .ints("scan_input_directions")
            .and_then(|directions| directions.get(place))
            == Some(&1);
        let rest = [&shape[..axis], &shape[axis + 1..]].concat();
        let value = if tensor.rows == Some(axis) {
            if backwards {
                return Err("scans the rows backwards");
            }
            Tensor {
                of_one_row: true,
                ..Tensor::invariant(rest)
            }
        } else {
            let rows = tensor.rows.map(|rows| rows - usize::from(rows > axis));
            Tensor {
                of_one_row: tensor.of_one_row,
                ..Tensor::with_rows(rest, rows)
            }
        };
        Ok((value.into(), shape[axis].clone()))
    }

    /// Runs a body until its states are what they were before: then they are that after any number of rounds.
    fn settle(
        &self,
        mut states: Vec<Value>,
        body: impl Fn(&[Value]) -> Vec<Value>,
        skipped: usize,
    ) -> Result<(Vec<Value>, Vec<Value>), Refusal> {
        let before = self.symbols.count();
        for _ in 0..ROUNDS {
            let outputs = body(&states);
            let after = outputs
                .get(skipped..skipped + states.len())
                .ok_or(NO_BODY)?;
            let known: Vec<Value> = states
                .iter()
                .zip(after)
                .map(|(state, after)| self.either(state, after))
                .collect();
            if known
                .iter()
                .zip(&states)
                .all(|(known, state)| is_settled(known, state, before))
            {
                return Ok((known, outputs));
            }
            states = known;
        }
        Err("carries a state that is not followed")
    }

    /// What is known of a value that is one of two.
    fn either(&self, one: &Value, other: &Value) -> Value {
        match (one, other) {
            (Value::Unproven(_), _) => one.clone(),
            (_, Value::Unproven(_)) => other.clone(),
            (Value::Tensor(first), Value::Tensor(second)) => {
                match self.either_tensor(first, second) {
                    Some(tensor) => tensor.into(),
                    None => Value::Unproven(
                        "operators with graphs in them give values with rows or without".into(),
                    ),
                }
            }
            _ if one == other => one.clone(),
            _ => Value::Unproven(
                "operators with graphs in them give different numbers of rows".into(),
            ),
        }
    }

    fn either_tensor(&self, one: &Tensor, other: &Tensor) -> Option<Tensor> {
        if one.rows != other.rows || one.padded.is_some() || other.padded.is_some() {
            return None;
        }
        let of_one_row = one.of_one_row || other.of_one_row;
        let shape = match (&one.shape, &other.shape) {
            (Some(first), Some(second)) if first.len() == second.len() => {
                let size = |(first, second): (&Size, &Size)| match first == second {
                    true => Some(first.clone()),
                    false if first.has_rows() || second.has_rows() => None,
                    false => Some(self.symbols.fresh()),
                };
                Some(
                    first
                        .iter()
                        .zip(second)
                        .map(size)
                        .collect::<Option<Vec<Size>>>()?,
                )
            }
            _ if one.rows.is_some() => return None,
            _ => None,
        };
        let content = one
            .content
            .clone()
            .filter(|content| other.content.as_ref() == Some(content));
        Some(Tensor {
            shape,
            content,
            of_one_row,
            ..Tensor::with_rows(vec![], one.rows)
        })
    }

    /// The parts that each round gave, one behind the other on a new axis; `steps` are the rows that were scanned.
    fn stacked(&self, part: &Value, axis: i64, steps: Option<&Size>) -> Value {
        let unproven = |reason: Refusal| {
            Value::Unproven(format!("an operator with a graph in it {reason}").into())
        };
        let tensor = match part {
            Value::Tensor(tensor) if tensor.padded.is_none() => tensor,
            Value::Unproven(_) => return part.clone(),
            _ => return unproven("gives the number of rows in each round"),
        };
        let Some(shape) = &tensor.shape else {
            // A row may have given it any shape.
            return if steps.is_some() {
                unproven(UNKNOWN_RANK)
            } else {
                Tensor {
                    of_one_row: tensor.of_one_row,
                    ..Tensor::unknown()
                }
                .into()
            };
        };
        let Some(axis) = axis_of(axis, shape.len() + 1) else {
            return unproven(NO_SUCH_AXIS);
        };
        let mut shape = shape.clone();
        shape.insert(axis, steps.cloned().unwrap_or_else(|| self.symbols.fresh()));
        let rows = match (tensor.rows, steps) {
            (Some(_), Some(_)) => return unproven("gives all rows for each row"),
            (None, Some(_)) => Some(axis),
            (rows, None) => rows.map(|rows| rows + usize::from(rows >= axis)),
        };
        // Outside of the body of a scan over rows, what one row gave is a row.
        let of_one_row = tensor.of_one_row && steps.is_none();
        Tensor {
            of_one_row,
            ..Tensor::with_rows(shape, rows)
        }
        .into()
    }

    /// The outputs of a subgraph for these inputs.
    fn run(&self, body: &'a GraphProto, scope: &Scope<'_>, inputs: Vec<Value>) -> Vec<Value> {
        let mut inner = scope.inner();
        for (input, value) in body.input.iter().zip(inputs) {
            inner.set(input.name.as_deref().unwrap_or_default(), value);
        }
        self.graph(body, &mut inner);
        body.output
            .iter()
            .map(|output| inner.get(output.name.as_deref().unwrap_or_default()))
            .collect()
    }
}

/// Whether a round left a state as it was. A size that changes from round to round has a symbol of its own each time,
/// made since `first`; the round before must not have taken it for another one.
fn is_settled(after: &Value, state: &Value, first: u32) -> bool {
    let (Value::Tensor(one), Value::Tensor(other)) = (after, state) else {
        return after == state
            || matches!((after, state), (Value::Unproven(_), Value::Unproven(_)));
    };
    let same_size = |(after, state): (&Size, &Size)| after == state || state.is_symbol_after(first);
    let shapes = match (&one.shape, &other.shape) {
        (Some(one), Some(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(same_size)
        }
        (one, other) => one == other,
    };
    shapes
        && one.rows == other.rows
        && one.of_one_row == other.of_one_row
        && one.content == other.content
}
