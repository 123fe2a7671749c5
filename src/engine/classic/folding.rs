//! Calculates what no request has a say in, once, when a graph is loaded.

use super::operator::{Built, Inputs, Run, Scratch};
use super::program::Place;
use super::value::{Value, View};
use crate::engine::CancelToken;

/// A constant with more elements than this is calculated in each run, not when the graph is loaded.
const MOST_FOLDED: usize = 1 << 20;

/// Arrays of so few elements hold shapes and axes, and make little larger.
const FEW: usize = 8;

/// Elements of all constants together from which nothing is calculated before a run.
pub(super) const MOST_CONSTANTS: usize = 1 << 24;

/// What an operator makes of constants; `None` when a request has a say in it, or when the operator fails: then
/// requests get its error.
pub(super) fn fold(
    constants: &[Value],
    built: &Built,
    places: &[Option<Place>],
) -> Option<Vec<Value>> {
    let views = places.iter().map(|place| match place {
        None => Some(None),
        Some(Place::Constant(index)) => Some(Some(constants[*index].view())),
        Some(_) => None,
    });
    let views: Vec<Option<View<'_>>> = views.collect::<Option<_>>()?;
    // What an operator makes of several arrays may be as large as their product.
    let sizes = views
        .iter()
        .flatten()
        .map(View::len)
        .filter(|size| *size > FEW);
    let largest = sizes.fold(1usize, usize::saturating_mul);
    if largest > MOST_FOLDED {
        return None;
    }
    let mut outputs = vec![Value::default(); built.dtypes.len()];
    let mut scratch = Scratch::default();
    let mut run = Run {
        cancel: &CancelToken::new(),
        scratch: &mut scratch,
    };
    let inputs = Inputs(&views);
    built.operator.run(&inputs, &mut outputs, &mut run).ok()?;
    Some(outputs)
}
