//! Registers are used again once nobody reads them any more: a run of many operators needs the memory of a few.

use super::known::Known;
use super::program::{Place, Program};

/// Lets each step of a program write where an earlier one wrote what is not needed any more.
pub(super) fn share(program: &mut Program, outputs: &mut [Known]) {
    let last_use = last_uses(program, outputs);
    let mut places: Vec<Option<usize>> = vec![None; program.registers];
    let mut free: Vec<usize> = Vec::new();
    let mut count = 0;
    for (index, step) in program.steps.iter_mut().enumerate() {
        for register in &step.outputs {
            // Before what is read is let go: a step does not write over its own inputs.
            let place = free.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            });
            places[*register] = Some(place);
        }
        let read = step.inputs.iter().flatten().filter_map(register_of);
        let mut done: Vec<usize> = read.chain(step.outputs.iter().copied()).collect();
        done.sort_unstable();
        done.dedup();
        let done = done
            .into_iter()
            .filter(|register| last_use[*register] == index);
        free.extend(done.filter_map(|register| places[register]));
        for place in step.inputs.iter_mut().flatten() {
            moved(place, &places);
        }
        for register in &mut step.outputs {
            *register = places[*register].unwrap_or(*register);
        }
    }
    program.registers = count;
    for array in outputs.iter_mut().flat_map(Known::arrays_mut) {
        moved(&mut array.place, &places);
    }
}

/// The last step that reads each register, or writes it for nobody; outputs are read after all steps.
fn last_uses(program: &Program, outputs: &[Known]) -> Vec<usize> {
    let mut last_use = vec![0; program.registers];
    for (index, step) in program.steps.iter().enumerate() {
        let read = step.inputs.iter().flatten().filter_map(register_of);
        for register in read.chain(step.outputs.iter().copied()) {
            last_use[register] = index;
        }
    }
    let kept = outputs.iter().flat_map(Known::arrays);
    for register in kept.filter_map(|array| register_of(&array.place)) {
        last_use[register] = usize::MAX;
    }
    last_use
}

fn register_of(place: &Place) -> Option<usize> {
    match place {
        Place::Register(register) => Some(*register),
        _ => None,
    }
}

fn moved(place: &mut Place, places: &[Option<usize>]) {
    if let Place::Register(register) = place {
        *register = places[*register].unwrap_or(*register);
    }
}
