//! `TfIdfVectorizer`: sequences of words, counted and weighted.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Slice, Value};
use crate::tensor::DType;

/// Sequences of items, by their first one.
struct Branch<K> {
    /// The sequence that ends here.
    gram: Option<usize>,
    next: HashMap<K, Self>,
}

impl<K> Default for Branch<K> {
    fn default() -> Self {
        Self {
            gram: None,
            next: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq + Clone> Branch<K> {
    fn insert(&mut self, items: &[K], gram: usize) {
        let mut branch = self;
        for item in items {
            branch = branch.next.entry(item.clone()).or_default();
        }
        branch.gram.get_or_insert(gram);
    }
}

/// What becomes of the number of times that a sequence occurs.
#[derive(Clone, Copy, PartialEq)]
enum Weighting {
    Count,
    Presence,
    Weighted,
}

enum Grams {
    Text(Branch<String>),
    Int64(Branch<i64>),
}

/// Counts sequences of words, perhaps with gaps.
struct TfIdf {
    grams: Grams,
    /// The column of each sequence.
    columns: Vec<usize>,
    weights: Vec<f32>,
    width: usize,
    weighting: Weighting,
    least: usize,
    most: usize,
    skips: usize,
}

impl TfIdf {
    fn count<K: Hash + Eq>(&self, root: &Branch<K>, row: &[K], counts: &mut [f32]) {
        let mut least = self.least;
        for distance in 1..=self.skips + 1 {
            for start in 0..row.len() {
                if start + distance * (least - 1) >= row.len() {
                    break;
                }
                let mut branch = root;
                let mut at = start;
                for size in 1..=self.most {
                    let Some(next) = row.get(at).and_then(|item| branch.next.get(item)) else {
                        break;
                    };
                    if size >= least
                        && let Some(gram) = next.gram
                    {
                        counts[self.columns[gram]] += 1.0;
                    }
                    branch = next;
                    at += distance;
                }
            }
            // Single items have no gaps: they count once.
            if least == 1 {
                least = 2;
                if least > self.most {
                    break;
                }
            }
        }
    }

    fn weigh(&self, counts: &mut [f32]) {
        for (column, count) in counts.iter_mut().enumerate() {
            let weight = self.weights.get(column).copied().unwrap_or(1.0);
            *count = match self.weighting {
                Weighting::Count => *count,
                Weighting::Presence if *count > 0.0 => weight,
                Weighting::Presence => 0.0,
                Weighting::Weighted => *count * weight,
            };
        }
    }
}

impl Operator for TfIdf {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let (rows, items, shape) = match input.shape {
            [items] => (1, *items, vec![self.width]),
            [rows, items] => (*rows, *items, vec![*rows, self.width]),
            shape => {
                return Err(Failure::new(format!(
                    "words of the shape {shape:?} are not supported"
                )));
            }
        };
        let length = count(&shape)?;
        let output = outputs[0].start::<f32>(&shape);
        output.resize(length, 0.0);
        for (row, counts) in output
            .chunks_exact_mut(self.width.max(1))
            .enumerate()
            .take(rows)
        {
            if row.is_multiple_of(64) {
                run.check()?;
            }
            let words = row * items..(row + 1) * items;
            match (&self.grams, input.data) {
                (Grams::Text(root), Slice::Text(texts)) => self.count(root, &texts[words], counts),
                (Grams::Int64(root), Slice::I64(numbers)) => {
                    self.count(root, &numbers[words], counts)
                }
                (Grams::Int64(root), Slice::I32(numbers)) => {
                    let numbers: Vec<i64> = numbers[words].iter().copied().map(i64::from).collect();
                    self.count(root, &numbers, counts);
                }
                _ => {
                    return Err(Failure::new(format!(
                        "words of {} are not in its pool",
                        input.dtype()
                    )));
                }
            }
            self.weigh(counts);
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        (self.columns.len() * 128) as u64
    }

    fn cost(&self) -> Option<u64> {
        None
    }
}

pub(super) fn tf_idf_vectorizer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[
        "max_gram_length",
        "max_skip_count",
        "min_gram_length",
        "mode",
        "ngram_counts",
        "ngram_indexes",
        "pool_int64s",
        "pool_strings",
        "weights",
    ])?;
    let weighting = match node.text("mode")? {
        Some("TF") => Weighting::Count,
        Some("IDF") => Weighting::Presence,
        Some("TFIDF") => Weighting::Weighted,
        _ => return Err(node.refuse("`mode` must be TF, IDF or TFIDF")),
    };
    let length = |name: &str| -> Result<usize, Refusal> {
        let value = node.int(name).unwrap_or(1);
        usize::try_from(value)
            .ok()
            .filter(|value| *value < 1 << 20)
            .ok_or_else(|| node.refuse(format!("`{name}` is {value}")))
    };
    let (least, most) = (length("min_gram_length")?, length("max_gram_length")?);
    let skips = if node.int("max_skip_count").is_some() {
        length("max_skip_count")?
    } else {
        0
    };
    if least == 0 || most < least {
        return Err(node.refuse(format!("sequences of {least} to {most} are not supported")));
    }
    let columns = node.ints("ngram_indexes").iter().map(|index| {
        usize::try_from(*index)
            .ok()
            .filter(|index| *index < 1 << 28)
    });
    let columns = columns
        .collect::<Option<Vec<_>>>()
        .filter(|columns| !columns.is_empty());
    let columns =
        columns.ok_or_else(|| node.refuse("`ngram_indexes` is empty or has a negative entry"))?;
    let width = columns.iter().max().map_or(0, |most| most + 1);
    let weights = node.floats("weights");
    if !weights.is_empty() && weights.len() != columns.len() {
        return Err(node.refuse(format!(
            "has {} weights for {} sequences",
            weights.len(),
            columns.len()
        )));
    }
    let texts = node.texts("pool_strings")?;
    let numbers = node.ints("pool_int64s");
    let counts = node.ints("ngram_counts");
    let grams = match (texts.is_empty(), numbers.is_empty(), node.dtype(0)?) {
        (false, true, DType::String) => Grams::Text(pool(node, &texts, counts, columns.len())?),
        (true, false, DType::I64 | DType::I32) => {
            Grams::Int64(pool(node, numbers, counts, columns.len())?)
        }
        _ => return Err(node.refuse("its pool is not of the type of its input")),
    };
    let mut by_column = vec![1.0; if weights.is_empty() { 0 } else { width }];
    for (column, weight) in columns.iter().zip(weights) {
        by_column[*column] = *weight;
    }
    Built::one(
        DType::F32,
        TfIdf {
            grams,
            columns,
            weights: by_column,
            width,
            weighting,
            least,
            most,
            skips,
        },
    )
}

/// Sequences in the order of their length; `counts` has the place where each length begins.
fn pool<K: Hash + Eq + Clone>(
    node: &Node<'_>,
    items: &[K],
    counts: &[i64],
    expected: usize,
) -> Result<Branch<K>, Refusal> {
    let mut root = Branch::default();
    let mut gram = 0;
    for (index, start) in counts.iter().enumerate() {
        let end = counts.get(index + 1).map_or(items.len(), |end| {
            usize::try_from(*end).unwrap_or(usize::MAX)
        });
        let start = usize::try_from(*start).unwrap_or(usize::MAX);
        let part = items.get(start..end);
        let part = part.filter(|part| part.len().is_multiple_of(index + 1));
        let part = part.ok_or_else(|| node.refuse("`ngram_counts` does not fit its pool"))?;
        for sequence in part.chunks_exact(index + 1) {
            root.insert(sequence, gram);
            gram += 1;
        }
    }
    if gram != expected {
        return Err(node.refuse(format!(
            "has {gram} sequences and {expected} entries in `ngram_indexes`"
        )));
    }
    Ok(root)
}
