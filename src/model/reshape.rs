//! Tensors whose shape for clients is another one than in the graph.

use super::signature::{Dim, OutputKind, Signature};

/// Other shapes for clients than those of the graph, by the place of the input or output in its [`Signature`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reshapes {
    inputs: Vec<(usize, Reshape)>,
    outputs: Vec<(usize, Reshape)>,
}

impl Reshapes {
    /// Gives an input another shape, in place of one that it got before.
    pub fn add_input(&mut self, place: usize, reshape: Reshape) {
        self.inputs.retain(|(own, _)| *own != place);
        self.inputs.push((place, reshape));
    }

    /// The same of an output.
    pub fn add_output(&mut self, place: usize, reshape: Reshape) {
        self.outputs.retain(|(own, _)| *own != place);
        self.outputs.push((place, reshape));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }

    pub(super) fn input(&self, place: usize) -> Option<&Reshape> {
        find(&self.inputs, place)
    }

    pub(super) fn output(&self, place: usize) -> Option<&Reshape> {
        find(&self.outputs, place)
    }

    /// This signature of a graph as clients see it.
    pub(in crate::model) fn apply(&self, graph: &Signature) -> Signature {
        let mut signature = graph.clone();
        for (place, reshape) in &self.inputs {
            if let Some(input) = signature.inputs.get_mut(*place) {
                input.shape = Some(reshape.client.clone());
            }
        }
        for (place, reshape) in &self.outputs {
            if let Some(output) = signature.outputs.get_mut(*place)
                && let OutputKind::Tensor { shape, .. } = &mut output.kind
            {
                *shape = Some(reshape.client.clone());
            }
        }
        signature.reshapes = self.clone();
        signature
    }
}

fn find(reshapes: &[(usize, Reshape)], place: usize) -> Option<&Reshape> {
    let mut reshapes = reshapes.iter();
    reshapes
        .find(|(own, _)| *own == place)
        .map(|(_, reshape)| reshape)
}

/// The two shapes of one tensor. Each open dimension of the one is the open dimension of the other that has the same place
/// among the open ones, so that every size leads to exactly one shape in both directions (Triton's rule for `reshape` with
/// dimensions of any size).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    client: Vec<Dim>,
    graph: Vec<Dim>,
}

impl Reshape {
    /// A tensor that clients send or get as `client` and the graph takes or gives as `graph`; `None` when one of them may
    /// hold another number of elements than the other.
    pub fn new(client: Vec<Dim>, graph: Vec<Dim>) -> Option<Self> {
        let (own, others) = (segments(&client)?, segments(&graph)?);
        (own == others).then_some(Self { client, graph })
    }

    /// The shape in the graph.
    pub fn graph(&self) -> &[Dim] {
        &self.graph
    }

    /// The shape in the graph of a tensor that a client sent; `None` when the client may not send that shape.
    pub fn to_graph(&self, shape: &[usize]) -> Option<Vec<usize>> {
        translate(&self.client, &self.graph, shape)
    }

    /// The shape for clients of a tensor of the graph; `None` when the graph may not give that shape.
    pub fn to_client(&self, shape: &[usize]) -> Option<Vec<usize>> {
        translate(&self.graph, &self.client, shape)
    }
}

/// The elements that the fixed dimensions before, between and after the open ones hold; `None` for more than there are
/// numbers.
fn segments(dims: &[Dim]) -> Option<Vec<usize>> {
    let parts = dims.split(|dim| matches!(dim, Dim::Any(_)));
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Any(_) => 1,
    };
    let product = |part: &[Dim]| {
        let mut sizes = part.iter().map(fixed);
        sizes.try_fold(1_usize, usize::checked_mul)
    };
    parts.map(product).collect()
}

fn translate(from: &[Dim], to: &[Dim], shape: &[usize]) -> Option<Vec<usize>> {
    if from.len() != shape.len() {
        return None;
    }
    let mut open = Vec::new();
    for (dim, &size) in from.iter().zip(shape) {
        match dim {
            Dim::Fixed(fixed) if *fixed != size => return None,
            Dim::Fixed(_) => {}
            Dim::Any(_) => open.push(size),
        }
    }
    let mut open = open.into_iter();
    let sizes = to.iter().map(|dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Any(_) => open.next(),
    });
    sizes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(sizes: &[i64]) -> Vec<Dim> {
        let dim = |size: &i64| usize::try_from(*size).map_or(Dim::Any(None), Dim::Fixed);
        sizes.iter().map(dim).collect()
    }

    #[test]
    fn shapes_are_translated_in_both_directions() {
        for (client, graph, sent, taken) in [
            (&[4][..], &[2, 2][..], &[4][..], &[2, 2][..]),
            (&[1], &[], &[1], &[]),
            (&[-1, 1], &[-1], &[7, 1], &[7]),
            (
                &[-1, 4, -1],
                &[-1, 2, 2, -1, 1],
                &[3, 4, 5],
                &[3, 2, 2, 5, 1],
            ),
            (&[-1, 0], &[-1, 0, 3], &[2, 0], &[2, 0, 3]),
        ] {
            let reshape = Reshape::new(dims(client), dims(graph)).unwrap();
            assert_eq!(reshape.to_graph(sent).as_deref(), Some(taken));
            assert_eq!(reshape.to_client(taken).as_deref(), Some(sent));
        }
    }

    #[test]
    fn shapes_of_other_numbers_of_elements_make_no_reshape() {
        for (client, graph) in [
            (&[4][..], &[2, 3][..]),
            (&[-1, 2], &[2, -1]),
            (&[-1, -1], &[-1]),
            (&[i64::MAX, 4], &[i64::MAX, 4]),
        ] {
            assert_eq!(Reshape::new(dims(client), dims(graph)), None, "{client:?}");
        }
    }

    #[test]
    fn a_shape_that_may_not_be_is_none() {
        let reshape = Reshape::new(dims(&[-1, 4]), dims(&[-1, 2, 2])).unwrap();
        for shape in [&[3, 2][..], &[4], &[1, 4, 1], &[]] {
            assert_eq!(reshape.to_graph(shape), None, "{shape:?}");
        }
        assert_eq!(reshape.to_client(&[3, 4, 1]), None);
    }
}
