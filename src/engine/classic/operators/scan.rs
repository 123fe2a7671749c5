//! `Scan`: a graph that runs for each row of its inputs, as converters write distances between rows.

use super::super::body::Bodies;
use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::program::{Place, Program, Registers};
use super::super::value::{Data, Element, Slice, Value, View, each_type};

/// Runs its body once a row: some inputs are its state, passed from row to row, the others are read row by row.
struct Scan {
    body: Program,
    states: usize,
    scanned: usize,
    /// For each scanned input and output, whether it goes backwards.
    backwards_in: Vec<bool>,
    backwards_out: Vec<bool>,
}

impl Operator for Scan {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let given = inputs.0.len();
        let mut all: Vec<View<'_>> = (0..given)
            .map(|index| inputs.get(index))
            .collect::<Result<_, _>>()?;
        let scanned = all[self.states..self.states + self.scanned].to_vec();
        let rows = |view: &View<'_>| view.shape.first().copied();
        let length = scanned.first().and_then(rows);
        let length =
            length.ok_or_else(|| Failure::new("a scanned input has no rows".to_owned()))?;
        if scanned.iter().any(|view| rows(view) != Some(length)) {
            return Err(Failure::new(
                "the scanned inputs have different numbers of rows".to_owned(),
            ));
        }
        let mut states: Vec<Value> = all[..self.states]
            .iter()
            .map(|view| view.to_value())
            .collect();
        let mut registers = Registers::default();
        for step in 0..length {
            for (index, (view, backwards)) in scanned.iter().zip(&self.backwards_in).enumerate() {
                let row = if *backwards { length - 1 - step } else { step };
                all[self.states + index] = row_of(*view, row);
            }
            let (made, next) = {
                let mut views = all.clone();
                for (view, state) in views.iter_mut().zip(&states) {
                    *view = state.view();
                }
                self.body.run(&views, &mut registers, run.cancel)?;
                let made = self.body.outputs[self.states..].iter().enumerate();
                let made: Vec<Value> = made
                    .map(|(index, _)| {
                        self.body
                            .output(self.states + index, &views, &registers)
                            .to_value()
                    })
                    .collect();
                let kept = self.body.outputs[..self.states].iter();
                let next: Vec<Option<Value>> = kept
                    .enumerate()
                    .map(|(index, place)| match place {
                        // A state that the body hands on as it is.
                        Place::Input(from) if *from == index => None,
                        place => Some(self.body.copy(*place, &views, &registers)),
                    })
                    .collect();
                (made, next)
            };
            for (output, made) in outputs[self.states..].iter_mut().zip(&made) {
                append(output, made, (step, length))?;
            }
            for (state, next) in states.iter_mut().zip(next) {
                if let Some(next) = next {
                    *state = next;
                }
            }
        }
        for (output, state) in outputs.iter_mut().zip(states) {
            *output = state;
        }
        let made = outputs[self.states..].iter_mut().zip(&self.backwards_out);
        for (output, _) in made.filter(|(_, backwards)| **backwards) {
            reverse(output);
        }
        if length == 0 && outputs.len() > self.states {
            return Err(Failure::new(
                "nothing is scanned: the shape of the output is not known".to_owned(),
            ));
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.body.size()
    }

    fn cost(&self) -> Option<u64> {
        None
    }
}

fn row_of(view: View<'_>, row: usize) -> View<'_> {
    let shape = &view.shape[1..];
    let width: usize = shape.iter().product();
    let range = row * width..(row + 1) * width;
    let data = match view.data {
        Slice::F32(elements) => Slice::F32(&elements[range]),
        Slice::F64(elements) => Slice::F64(&elements[range]),
        Slice::I64(elements) => Slice::I64(&elements[range]),
        Slice::I32(elements) => Slice::I32(&elements[range]),
        Slice::I16(elements) => Slice::I16(&elements[range]),
        Slice::Bool(elements) => Slice::Bool(&elements[range]),
        Slice::Text(elements) => Slice::Text(&elements[range]),
    };
    View { shape, data }
}

fn append(output: &mut Value, made: &Value, (step, length): (usize, usize)) -> Result<(), Failure> {
    let shape = [&[length], made.shape.as_slice()].concat();
    count(&shape)?;
    if step > 0 && output.shape != shape {
        return Err(Failure::new(
            "the rows of an output are of different shapes".to_owned(),
        ));
    }
    each_type!(made.view().data, elements => {
        if step == 0 {
            output.start(&shape).extend_from_slice(elements);
        } else {
            extend(&mut output.data, elements);
        }
    });
    Ok(())
}

fn extend<T: Element>(data: &mut Data, elements: &[T]) {
    T::vec_of(data).extend_from_slice(elements);
}

fn reverse(output: &mut Value) {
    let before = output.clone();
    let rows = before.shape.first().copied().unwrap_or(0);
    each_type!(before.view().data, elements => {
        let width = elements.len().checked_div(rows).unwrap_or(0);
        let output = output.start(&before.shape);
        for row in (0..rows).rev() {
            output.extend_from_slice(&elements[row * width..][..width]);
        }
    });
}

/// The operator, and what its body reads of the graph around it.
pub(super) fn scan(node: &Node<'_>, bodies: &dyn Bodies) -> Result<(Built, Vec<Place>), Refusal> {
    node.only(&[
        "body",
        "num_scan_inputs",
        "scan_input_axes",
        "scan_output_axes",
        "scan_input_directions",
        "scan_output_directions",
    ])?;
    if node.version < 9 {
        return Err(node.refuse("the form of operator set 8 is not supported"));
    }
    let graph = node
        .graph("body")
        .ok_or_else(|| node.refuse("has no body"))?;
    let axes = node
        .ints("scan_input_axes")
        .iter()
        .chain(node.ints("scan_output_axes"));
    if { axes }.any(|axis| *axis != 0) {
        return Err(node.refuse("other axes than the first are not supported"));
    }
    let scanned = node
        .int("num_scan_inputs")
        .and_then(|count| usize::try_from(count).ok());
    let scanned = scanned.filter(|count| *count >= 1 && *count <= node.inputs.len());
    let scanned =
        scanned.ok_or_else(|| node.refuse("`num_scan_inputs` does not fit its inputs"))?;
    let states = node.inputs.len() - scanned;
    if graph.input.len() != node.inputs.len() || graph.output.len() < states {
        return Err(node.refuse("the inputs and outputs of its body do not fit those around it"));
    }
    let dtypes = (0..node.inputs.len()).map(|index| node.dtype(index));
    let dtypes = dtypes.collect::<Result<Vec<_>, _>>()?;
    let body = bodies.compile(graph, &dtypes)?;
    if body.dtypes[..states] != dtypes[..states] {
        return Err(node.refuse("its body changes the type of its state"));
    }
    let directions = |name: &str, count: usize| -> Vec<bool> {
        let given = node.ints(name);
        (0..count)
            .map(|index| given.get(index).is_some_and(|direction| *direction != 0))
            .collect()
    };
    let operator = Scan {
        states,
        scanned,
        backwards_in: directions("scan_input_directions", scanned),
        backwards_out: directions("scan_output_directions", body.dtypes.len() - states),
        body: body.program,
    };
    let built = Built {
        operator: Box::new(operator),
        dtypes: body.dtypes,
        labels: None,
    };
    Ok((built, body.captured))
}
