//! `SVMRegressor`, for one class too.

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run};
use super::super::value::Value;
use super::matmul::dot;
use super::scores::Transform;
use super::svm::{ATTRIBUTES, Kernel};
use crate::tensor::DType;

struct Regressor {
    kernel: Kernel,
    vectors: Vec<f32>,
    features: usize,
    coefficients: Vec<f32>,
    rho: f32,
    is_one_class: bool,
    transform: Transform,
}

impl Operator for Regressor {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let rows = input.rows_of(self.features)?;
        let features = input.elements::<f32>()?;
        let output = outputs[0].start::<f32>(&[rows, 1]);
        for (index, row) in features
            .chunks_exact(self.features.max(1))
            .enumerate()
            .take(rows)
        {
            if index.is_multiple_of(64) {
                run.check()?;
            }
            let sum = if self.vectors.is_empty() {
                dot(row, &self.coefficients, 0.0)
            } else {
                let vectors = self
                    .vectors
                    .chunks_exact(self.features)
                    .zip(&self.coefficients);
                vectors
                    .map(|(vector, coefficient)| self.kernel.alike(row, vector) * coefficient)
                    .sum()
            };
            let score = sum + self.rho;
            output.push(match self.is_one_class {
                true if score > 0.0 => 1.0,
                true => -1.0,
                false => self.transform.apply_to_one(score),
            });
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        ((self.vectors.len() + self.coefficients.len()) * 4) as u64
    }

    fn cost(&self) -> Option<u64> {
        Some(100 + (self.vectors.len() + self.coefficients.len()) as u64 * 2)
    }
}

pub(super) fn regressor(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&ATTRIBUTES)?;
    if node.dtype(0)? != DType::F32 {
        return Err(node.unsupported(node.dtype(0)?));
    }
    let vectors = node.floats("support_vectors").to_vec();
    let coefficients = node.floats("coefficients").to_vec();
    let count = node.int("n_supports").unwrap_or(0);
    let count =
        usize::try_from(count).map_err(|_| node.refuse(format!("`n_supports` is {count}")))?;
    let features = match count {
        0 => coefficients.len(),
        count => vectors.len() / count,
    };
    let fits = match count {
        0 => vectors.is_empty() && !coefficients.is_empty(),
        count => vectors.len() == features * count && features > 0 && coefficients.len() == count,
    };
    if !fits {
        let (numbers, weights) = (vectors.len(), coefficients.len());
        let message =
            format!("has {numbers} numbers and {weights} coefficients for {count} support vectors");
        return Err(node.refuse(message));
    }
    let rho = node.floats("rho").first().copied();
    Built::one(
        DType::F32,
        Regressor {
            kernel: if count == 0 {
                Kernel::Linear
            } else {
                Kernel::new(node)?
            },
            vectors,
            features,
            coefficients,
            rho: rho.ok_or_else(|| node.refuse("has no `rho`"))?,
            is_one_class: node.flag("one_class", false),
            transform: Transform::new(node)?,
        },
    )
}
