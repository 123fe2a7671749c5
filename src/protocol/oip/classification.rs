//! The extension `classification`: of each row the best classes, as text.

use std::cmp::Ordering;
use std::fmt::Display;

use super::error::OipError;
use crate::tensor::{DType, Element, Tensor, dispatch};

/// The `k` best of each row, highest first, as `value:index` or `value:index:label`; of equal ones the first comes first,
/// what is no number comes last.
///
/// A row is what the first dimension counts, or the whole tensor for a model without a batch axis.
///
/// # Errors
/// When the output holds no numbers.
pub(crate) fn classify(
    output: &str,
    scores: &Tensor,
    k: usize,
    labels: Option<&[String]>,
    has_batch_axis: bool,
) -> Result<Tensor, OipError> {
    let rows = if has_batch_axis { scores.rows() } else { None };
    let classes = match rows {
        Some(rows) => scores.len().checked_div(rows).unwrap_or(0),
        None => scores.len(),
    };
    let best = Best {
        classes,
        k: k.min(classes),
        labels,
    };
    let texts = dispatch!(
        scores.dtype(),
        number T => best.of::<T>(scores),
        dtype @ (DType::Bool | DType::String) => {
            return Err(OipError::Invalid(format!(
                "output `{output}` is {dtype}, which has no classes: `classification` takes numbers"
            )));
        },
    );
    let shape = rows.into_iter().chain([best.k]).collect();
    Tensor::from_strings(shape, texts).map_err(|error| OipError::Tensor {
        name: output.to_owned(),
        error,
    })
}

struct Best<'l> {
    classes: usize,
    k: usize,
    labels: Option<&'l [String]>,
}

impl Best<'_> {
    fn of<T: Element + PartialOrd + Display>(&self, scores: &Tensor) -> Vec<String> {
        if self.k == 0 {
            return Vec::new();
        }
        let copied;
        let scores = match scores.as_slice::<T>() {
            Some(scores) => scores,
            None => {
                copied = scores.to_vec::<T>().unwrap_or_default();
                &copied
            }
        };
        let rows = scores.chunks_exact(self.classes);
        rows.flat_map(|row| self.of_row(row)).collect()
    }

    fn of_row<T: PartialOrd + Display>(&self, row: &[T]) -> Vec<String> {
        let mut order: Vec<usize> = (0..row.len()).collect();
        let better = |&a: &usize, &b: &usize| descending(&row[a], &row[b]).then(a.cmp(&b));
        if self.k < row.len() {
            order.select_nth_unstable_by(self.k, better);
            order.truncate(self.k);
        }
        order.sort_unstable_by(better);
        let text = |index: usize| match self.labels.and_then(|labels| labels.get(index)) {
            Some(label) => format!("{}:{index}:{label}", row[index]),
            None => format!("{}:{index}", row[index]),
        };
        order.into_iter().map(text).collect()
    }
}

/// A total order: what cannot be compared with itself is after everything else.
fn descending<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    b.partial_cmp(a).unwrap_or_else(|| {
        let is_number = |value: &T| value.partial_cmp(value).is_some();
        is_number(b).cmp(&is_number(a))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(
        scores: &Tensor,
        k: usize,
        labels: Option<&[String]>,
        batch: bool,
    ) -> (Vec<usize>, Vec<String>) {
        let texts = classify("y", scores, k, labels, batch).unwrap();
        (texts.shape().to_vec(), texts.as_strings().unwrap().to_vec())
    }

    #[test]
    fn the_best_of_each_row_come_first() {
        let scores = Tensor::from_vec(vec![2, 3], vec![0.1_f32, 0.7, 0.2, 5.0, -1.0, 5.0]).unwrap();
        let (shape, texts) = best(&scores, 2, None, true);
        assert_eq!(shape, [2, 2]);
        assert_eq!(texts, ["0.7:1", "0.2:2", "5:0", "5:2"]);
        let (shape, texts) = best(&scores, 1, None, false);
        assert_eq!((shape, texts), (vec![1], vec!["5:3".to_owned()]));
    }

    #[test]
    fn there_are_no_more_than_the_classes_and_each_has_its_label() {
        let scores = Tensor::from_vec(vec![1, 2], vec![3_i64, 4]).unwrap();
        let labels = ["no".to_owned(), "yes".to_owned()];
        let (shape, texts) = best(&scores, usize::MAX, Some(&labels), true);
        assert_eq!(shape, [1, 2]);
        assert_eq!(texts, ["4:1:yes", "3:0:no"]);
    }

    #[test]
    fn what_is_no_number_comes_last() {
        let scores = Tensor::from_vec(
            vec![4],
            vec![f64::NAN, 1.0, f64::NEG_INFINITY, f64::INFINITY],
        )
        .unwrap();
        let (_, texts) = best(&scores, 4, None, false);
        assert_eq!(texts, ["inf:3", "1:1", "-inf:2", "NaN:0"]);
    }

    #[test]
    fn rows_without_classes_and_no_rows_give_none() {
        let none = Tensor::from_vec(vec![2, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(best(&none, 3, None, true), (vec![2, 0], vec![]));
        let none = Tensor::from_vec(vec![0, 2], Vec::<f32>::new()).unwrap();
        assert_eq!(best(&none, 3, None, true), (vec![0, 0], vec![]));
        let scalar = Tensor::from_vec(vec![], vec![1_u8]).unwrap();
        assert_eq!(
            best(&scalar, 3, None, true),
            (vec![1], vec!["1:0".to_owned()])
        );
    }

    #[test]
    fn texts_and_booleans_have_no_classes() {
        let texts = Tensor::from_strings(vec![1], vec!["a".to_owned()]).unwrap();
        let message = classify("y", &texts, 1, None, true).unwrap_err();
        assert!(message.to_string().contains("`y` is BYTES"), "{message}");
        let bools = Tensor::from_bools(vec![1], &[true]).unwrap();
        assert!(classify("y", &bools, 1, None, true).is_err());
    }
}
