//! Inputs of a signature's shape when a package brings none: zeros, ones and numbers that look random.

use half::{bf16, f16};

use super::batch::Batch;
use super::signature::{Dim, Signature};
use crate::tensor::{DType, Storage, Tensor};

/// What a sample is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Zeros,
    Ones,
    Random,
}

impl Fill {
    const ALL: [Self; 3] = [Self::Zeros, Self::Ones, Self::Random];

    fn word(self) -> &'static str {
        match self {
            Self::Zeros => "zeros",
            Self::Ones => "ones",
            Self::Random => "random",
        }
    }

    fn number(self, dice: &mut Dice) -> u8 {
        match self {
            Self::Zeros => 0,
            Self::Ones => 1,
            Self::Random => dice.roll(),
        }
    }
}

/// Values on which engines can differ, and which examples seldom hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Other numbers than those of the example, around zero.
    Random,
    /// Numbers up to 300 either way: more than an exponential of single precision holds.
    Large,
    /// One number in three is NaN.
    Missing,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Random, Self::Large, Self::Missing];

    /// What a report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random values",
            Self::Large => "large values",
            Self::Missing => "missing values",
        }
    }

    fn float(self, dice: &mut Dice) -> f32 {
        let number = dice.roll();
        match self {
            Self::Missing if number.is_multiple_of(3) => f32::NAN,
            Self::Random | Self::Missing => fraction(number),
            Self::Large => (f32::from(number) - 4.5) / 4.5 * 300.0,
        }
    }
}

/// Numbers that look random and are the same each time: what is said of a package must not change from one look to the next.
struct Dice(u64);

impl Dice {
    /// From 0 to 9: small enough to be a category, a count or a token.
    fn roll(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u8::try_from((self.0 >> 33) % 10).unwrap_or_default()
    }
}

impl Signature {
    /// Batches that fit: one row each, and two where there is a batch axis, with 1 for every other open dimension. Made
    /// when asked for; none when a rank is open.
    pub fn samples(&self) -> impl Iterator<Item = (&'static str, Batch)> {
        let rows: &[usize] = if self.has_batch_axis() { &[1, 2] } else { &[1] };
        let kinds = rows
            .iter()
            .flat_map(|rows| Fill::ALL.map(|fill| (fill, *rows)));
        kinds.filter_map(|(fill, rows)| Some((fill.word(), self.sample(fill, rows)?)))
    }

    /// A batch of zeros and empty texts, with 1 for every open dimension; `None` when a rank is open.
    pub fn zeros(&self) -> Option<Batch> {
        self.sample(Fill::Zeros, 1)
    }

    /// The same; `None` too when they take more bytes than that.
    pub fn zeros_within(&self, most: usize) -> Option<Batch> {
        let mut inputs = self.inputs.iter();
        let all = inputs.try_fold(0_usize, |all, input| {
            let sizes = input.shape.as_ref()?.iter().map(|dim| match dim {
                Dim::Fixed(size) => *size,
                Dim::Any(_) => 1,
            });
            // An empty text takes more memory than the four bytes in which it is sent.
            let element = input.dtype.width().unwrap_or(size_of::<String>());
            let bytes = sizes.into_iter().try_fold(element, usize::checked_mul)?;
            all.checked_add(bytes)
        });
        (all? <= most).then(|| self.zeros()).flatten()
    }

    fn sample(&self, fill: Fill, rows: usize) -> Option<Batch> {
        let mut dice = Dice(1);
        let batched = self.has_batch_axis();
        let named = self.required().map(|input| {
            let size = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(size) => *size,
                Dim::Any(_) if axis == 0 && batched => rows,
                Dim::Any(_) => 1,
            };
            let shape = input.shape.as_ref()?.iter().enumerate().map(size).collect();
            Some((
                input.name.clone(),
                tensor(shape, input.dtype, || fill.number(&mut dice))?,
            ))
        });
        self.bind(named.collect::<Option<_>>()?).ok()
    }
}

impl Batch {
    /// A row of the shape of these, with other contents where it carries rows; another one for each `seed`. `None` when
    /// there is no row.
    pub fn random_row(&self, seed: u64) -> Option<Self> {
        let mut dice = Dice(seed);
        self.rows_of(0..1)?
            .with_rows(|input| tensor(input.shape().to_vec(), input.dtype(), || dice.roll()))
    }
}

/// Rows of a [`Probe`].
const PROBED: usize = 3;

impl Batch {
    /// Rows of the shape of these with the values of a probe: in the inputs that carry rows, or in all where none does.
    /// `None` when there is no row, or no input that could hold such values.
    pub fn probe(&self, probe: Probe) -> Option<Self> {
        let mut dice = Dice(probe as u64 + 1);
        let mut holds = probe == Probe::Random;
        let fill = |input: &Tensor| {
            let shape = input.shape().to_vec();
            if !input.dtype().is_float() {
                return tensor(shape, input.dtype(), || dice.roll());
            }
            holds = true;
            floats(shape, input.dtype(), || probe.float(&mut dice))
        };
        let probed = match self.repeat_rows(PROBED) {
            Some(rows) if self.has_rows() => rows.with_rows(fill)?,
            _ => self.with_all(fill)?,
        };
        holds.then_some(probed)
    }
}

fn floats(shape: Vec<usize>, dtype: DType, mut next: impl FnMut() -> f32) -> Option<Tensor> {
    filled(shape, dtype, |bytes| push_float(bytes, dtype, next()))
}

/// A tensor, no text, whose elements are pushed one after the other.
fn filled(
    shape: Vec<usize>,
    dtype: DType,
    mut push_next: impl FnMut(&mut Vec<u8>) -> Option<()>,
) -> Option<Tensor> {
    let count: usize = shape.iter().product();
    let mut bytes = Vec::with_capacity(count.checked_mul(dtype.width()?)?);
    (0..count).try_for_each(|_| push_next(&mut bytes))?;
    Tensor::from_storage(dtype, shape, Storage::Shared(bytes.into())).ok()
}

fn tensor(shape: Vec<usize>, dtype: DType, mut next: impl FnMut() -> u8) -> Option<Tensor> {
    if dtype != DType::String {
        return filled(shape, dtype, |bytes| push(bytes, dtype, next()));
    }
    let count: usize = shape.iter().product();
    let text = |number: u8| match number {
        0 => String::new(),
        number => number.to_string(),
    };
    let texts = (0..count).map(|_| text(next()));
    Tensor::from_strings(shape, texts.collect()).ok()
}

/// Fractions are what floating-point inputs mostly have.
fn fraction(number: u8) -> f32 {
    match number {
        0 | 1 => f32::from(number),
        _ => f32::from(number) / 4.0 - 1.0,
    }
}

fn push(bytes: &mut Vec<u8>, dtype: DType, number: u8) -> Option<()> {
    match dtype {
        DType::Bool => bytes.push(number % 2),
        DType::U8 | DType::I8 => bytes.push(number),
        DType::U16 | DType::I16 => bytes.extend(u16::from(number).to_le_bytes()),
        DType::U32 | DType::I32 => bytes.extend(u32::from(number).to_le_bytes()),
        DType::U64 | DType::I64 => bytes.extend(u64::from(number).to_le_bytes()),
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => {
            return push_float(bytes, dtype, fraction(number));
        }
        DType::String => return None,
    }
    Some(())
}

fn push_float(bytes: &mut Vec<u8>, dtype: DType, float: f32) -> Option<()> {
    match dtype {
        DType::F16 => bytes.extend(f16::from_f32(float).to_le_bytes()),
        DType::Bf16 => bytes.extend(bf16::from_f32(float).to_le_bytes()),
        DType::F32 => bytes.extend(float.to_le_bytes()),
        DType::F64 => bytes.extend(f64::from(float).to_le_bytes()),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InputSpec;

    fn signature(inputs: &[(DType, Option<Vec<Dim>>)]) -> Signature {
        let input = |(index, (dtype, shape)): (usize, &(DType, Option<Vec<Dim>>))| InputSpec {
            name: format!("x{index}"),
            dtype: *dtype,
            shape: shape.clone(),
            default: None,
        };
        Signature {
            inputs: inputs.iter().enumerate().map(input).collect(),
            outputs: Vec::new(),
            ..Signature::default()
        }
    }

    fn open(dims: &[usize]) -> Option<Vec<Dim>> {
        let dim = |dim: &usize| match dim {
            0 => Dim::Any(None),
            size => Dim::Fixed(*size),
        };
        Some(dims.iter().map(dim).collect())
    }

    #[test]
    fn every_type_has_samples_of_one_row_and_of_two() {
        for dtype in (0..20).filter_map(DType::from_onnx) {
            let signature = signature(&[(dtype, open(&[0, 3]))]);
            let samples: Vec<_> = signature.samples().collect();
            let words: Vec<&str> = samples.iter().map(|(word, _)| *word).collect();
            assert_eq!(
                words,
                ["zeros", "ones", "random", "zeros", "ones", "random"]
            );
            let rows: Vec<usize> = samples.iter().map(|(_, batch)| batch.rows()).collect();
            assert_eq!(rows, [1, 1, 1, 2, 2, 2], "{dtype}");
        }
    }

    #[test]
    fn samples_are_what_they_say_and_the_same_each_time() {
        let signature = signature(&[(DType::F32, open(&[2, 0])), (DType::I64, open(&[4]))]);
        let samples: Vec<_> = signature.samples().collect();
        assert_eq!(samples.len(), 3, "no batch axis");
        let floats = |index: usize| samples[index].1.inputs()[0].to_vec::<f32>().unwrap();
        assert_eq!((floats(0), floats(1)), (vec![0.0; 2], vec![1.0; 2]));
        let tokens = samples[2].1.inputs()[1].to_vec::<i64>().unwrap();
        assert!(tokens.iter().all(|token| (0..10).contains(token)));
        assert!(tokens.iter().any(|token| *token != tokens[0]), "{tokens:?}");
        let again = signature.samples().nth(2).unwrap().1;
        assert_eq!(again.inputs()[1].to_vec::<i64>().unwrap(), tokens);
    }

    #[test]
    fn zeros_that_take_too_much_are_not_made() {
        let fits = |signature: &Signature, most: usize| signature.zeros_within(most).is_some();
        let images = signature(&[(DType::F32, open(&[0, 3, 8])), (DType::I64, open(&[2]))]);
        assert!(fits(&images, 3 * 8 * 4 + 16));
        assert!(!fits(&images, 3 * 8 * 4 + 15));
        let huge = signature(&[(DType::U8, open(&[usize::MAX, 3]))]);
        assert!(!fits(&huge, usize::MAX));
    }

    #[test]
    fn an_open_rank_has_no_samples() {
        let signature = signature(&[(DType::F32, None)]);
        assert_eq!(signature.samples().count(), 0);
    }
}
