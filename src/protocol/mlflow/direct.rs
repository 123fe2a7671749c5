//! The short way of the most frequent requests: a table of numbers, for a graph that takes one. It is read straight into
//! the tensor, in one pass.
//!
//! Whatever is not of just this form takes the long way, errors included. What the short way gives, the long way gives
//! too: the tests hold the one to the other.

use super::feed::Form;
use crate::model::{
    ColSpec, ColType, DataType, InputSpec, ModelSignature, Schema, Signature, TensorSpec,
    TensorType,
};
use crate::protocol::json::{JsonError, Reader};
use crate::protocol::meter::{Meter, tensor_heap};
use crate::protocol::pandas::array::{fitted, to_f32};
use crate::tensor::{DType, Element, Tensor};

/// A tensor with the name of its input, and the form of the answer.
type Table = ((String, Tensor), Form);

/// The tensor of a body of one of these forms; `None` when the body, or what it is for, is anything else.
///
/// ```text
/// {"dataframe_split": {"columns": […], "data": [[…], …]}}   the columns of a signature of doubles, in its order
/// {"inputs": [[…], …]}, {"instances": [[…], …]}             the only tensor of the signature, which has two dimensions
/// ```
pub(crate) fn table(
    body: &[u8],
    declared: Option<&ModelSignature>,
    signature: &Signature,
    meter: &Meter,
) -> Option<Table> {
    let declared = declared.filter(|declared| declared.params.is_none())?;
    let input = signature.sole_input()?;
    let wanted = Wanted::new(declared.inputs.as_ref()?, input)?;
    let tensor = match input.dtype {
        DType::F32 => wanted.read(body, to_f32, meter),
        DType::F64 => wanted.read(body, |value| value, meter),
        _ => None,
    };
    Some(((input.name.clone(), tensor?), wanted.answer()))
}

/// What a body must be.
#[derive(Clone, Copy)]
enum Wanted<'s> {
    /// A data frame of these columns.
    Frame(&'s [ColSpec]),
    /// Rows of so many numbers.
    Rows(usize),
}

impl<'s> Wanted<'s> {
    fn new(schema: &'s Schema, input: &InputSpec) -> Option<Self> {
        let is_double = |column: &ColSpec| column.kind == ColType::Scalar(DataType::Double);
        match schema {
            Schema::Columns(columns) if !columns.is_empty() => columns
                .iter()
                .all(is_double)
                .then_some(Self::Frame(columns)),
            Schema::Tensors(tensors) => {
                let [TensorSpec { name, dtype, shape }] = tensors.as_slice() else {
                    return None;
                };
                let is_it = name.as_ref().is_none_or(|name| *name == input.name);
                let [-1, width] = *shape.as_slice() else {
                    return None;
                };
                let width = usize::try_from(width).ok().filter(|width| *width > 0)?;
                (is_it && *dtype == TensorType::Plain(input.dtype)).then_some(Self::Rows(width))
            }
            Schema::Columns(_) => None,
        }
    }

    fn answer(self) -> Form {
        match self {
            Self::Frame(_) => Form::Records,
            Self::Rows(_) => Form::Lists,
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Frame(columns) => columns.len(),
            Self::Rows(width) => width,
        }
    }

    /// Where there is too little memory for this way, the other one says so.
    fn read<T: Element>(self, body: &[u8], of: impl Fn(f64) -> T, meter: &Meter) -> Option<Tensor> {
        let held = meter.held();
        let tensor = self.tensor(body, of, meter);
        let kept = tensor.as_ref().map_or(0, tensor_heap);
        meter.settle(held, kept);
        tensor
    }

    fn tensor<T: Element>(
        self,
        body: &[u8],
        of: impl Fn(f64) -> T,
        meter: &Meter,
    ) -> Option<Tensor> {
        let mut reader = Reader::metered(body, meter).ok()?;
        if !reader.next_is_object().ok()? {
            return None;
        }
        let mut elements = Vec::new();
        let read = reader.object(|reader, key| {
            if !elements.is_empty() {
                return Err(Other);
            }
            let mut push = |number| meter.push(&mut elements, of(number)).is_ok();
            match (self, key) {
                (Self::Frame(columns), "dataframe_split") => split(reader, columns, push),
                (Self::Rows(width), "inputs" | "instances") => {
                    is_wanted(reader.table(width, &mut push)?)
                }
                _ => Err(Other),
            }
        });
        read.ok()?;
        reader.finish().ok()?;
        let shape = vec![elements.len() / self.width(), self.width()];
        Tensor::from_vec(shape, fitted(elements, meter))
            .ok()
            .filter(|tensor| !tensor.is_empty())
    }
}

fn split(
    reader: &mut Reader<'_>,
    columns: &[ColSpec],
    mut push: impl FnMut(f64) -> bool,
) -> Result<(), Other> {
    if !reader.next_is_object()? {
        return Err(Other);
    }
    let mut names = columns.iter().map(|column| column.name.as_deref());
    let (mut has_columns, mut has_data) = (false, false);
    reader.object(|reader, key| {
        is_wanted(match key {
            "columns" if !has_columns => {
                has_columns = true;
                reader.texts(|text| names.next().flatten() == Some(text))?
            }
            "data" if !has_data => {
                has_data = true;
                reader.table(columns.len(), &mut push)?
            }
            _ => false,
        })
    })?;
    is_wanted(has_columns && names.next().is_none())
}

fn is_wanted(is_it: bool) -> Result<(), Other> {
    is_it.then_some(()).ok_or(Other)
}

/// The body is of another form.
struct Other;

impl From<JsonError> for Other {
    fn from(_: JsonError) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use axum::body::Bytes;
    use proptest::prelude::*;
    use proptest::sample::select;

    use crate::protocol::mlflow::codec::{Content, Signatures, tensors_of};

    fn declared(kind: DataType, width: usize) -> ModelSignature {
        let column = |index: usize| ColSpec {
            name: Some(format!("c{index}")),
            required: true,
            kind: ColType::Scalar(kind),
        };
        ModelSignature {
            inputs: Some(Schema::Columns((0..width).map(column).collect())),
            ..ModelSignature::default()
        }
    }

    fn graph(dtype: DType) -> Signature {
        Signature {
            inputs: vec![InputSpec {
                name: "X".to_owned(),
                dtype,
                shape: None,
                default: None,
            }],
            outputs: vec![],
            ..Signature::default()
        }
    }

    fn tensors(name: Option<&str>, dtype: DType, shape: &[i64]) -> ModelSignature {
        ModelSignature {
            inputs: Some(Schema::Tensors(vec![TensorSpec {
                name: name.map(str::to_owned),
                dtype: TensorType::Plain(dtype),
                shape: shape.to_vec(),
            }])),
            ..ModelSignature::default()
        }
    }

    fn short(body: &str, kind: DataType, width: usize, dtype: DType) -> Option<Table> {
        table(
            body.as_bytes(),
            Some(&declared(kind, width)),
            &graph(dtype),
            &Meter::unlimited(),
        )
    }

    #[test]
    fn a_table_of_doubles_takes_the_short_way_and_all_else_the_long_one() {
        let body =
            r#"{"dataframe_split": {"data": [[1, 2.5], [-3e2, 4]], "columns": ["c0", "c1"]}}"#;
        let ((name, tensor), form) = short(body, DataType::Double, 2, DType::F32).unwrap();
        assert_eq!((name.as_str(), tensor.shape()), ("X", &[2, 2][..]));
        assert_eq!(form, Form::Records);
        assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.5, -300.0, 4.0]);
        assert!(short(body, DataType::Double, 2, DType::F64).is_some());
        for (kind, width, dtype) in [
            (DataType::Float, 2, DType::F32),
            (DataType::Double, 1, DType::F32),
            (DataType::Double, 3, DType::F32),
            (DataType::Double, 2, DType::I64),
        ] {
            let short = short(body, kind, width, dtype);
            assert!(short.is_none(), "{kind:?} {width} {dtype}");
        }
        for other in [
            "[]",
            "{}",
            r#"{"dataframe_split": []}"#,
            r#"{"dataframe_split": {}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": []}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[]]}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[1], [1, 2]]}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[1], ["2"]]}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[NaN]]}}"#,
            r#"{"dataframe_split": {"columns": ["c1"], "data": [[1]]}}"#,
            r#"{"dataframe_split": {"data": [[1]]}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[1]], "index": [0]}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[1]]}, "params": {}}"#,
            r#"{"dataframe_split": {"columns": ["c0"], "data": [[1]]}} x"#,
            r#"{"inputs": [[1]]}"#,
        ] {
            let short = short(other, DataType::Double, 1, DType::F32);
            assert!(short.is_none(), "{other}");
        }
        let mut declared = declared(DataType::Double, 2);
        declared.params = Some(vec![]);
        let meter = Meter::unlimited();
        assert!(table(body.as_bytes(), Some(&declared), &graph(DType::F32), &meter).is_none());
        assert!(table(body.as_bytes(), None, &graph(DType::F32), &meter).is_none());
    }

    #[test]
    fn a_tensor_of_two_dimensions_takes_the_short_way_too() {
        let read = |body: &str, declared: &ModelSignature| {
            table(
                body.as_bytes(),
                Some(declared),
                &graph(DType::F32),
                &Meter::unlimited(),
            )
        };
        let body = r#"{"inputs": [[1, 2.5]]}"#;
        for declared in [
            tensors(None, DType::F32, &[-1, 2]),
            tensors(Some("X"), DType::F32, &[-1, 2]),
        ] {
            let ((_, tensor), form) = read(body, &declared).unwrap();
            assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.5]);
            assert_eq!((tensor.shape(), form), (&[1, 2][..], Form::Lists));
            assert!(read(&body.replace("inputs", "instances"), &declared).is_some());
            for other in [
                r#"{"inputs": [[1]]}"#,
                r#"{"inputs": []}"#,
                r#"{"inputs": [[1, 2]], "inputs": [[1, 2]]}"#,
            ] {
                assert!(read(other, &declared).is_none(), "{other}");
            }
        }
        for declared in [
            tensors(Some("Y"), DType::F32, &[-1, 2]),
            tensors(None, DType::F64, &[-1, 2]),
            tensors(None, DType::F32, &[-1, 3]),
            tensors(None, DType::F32, &[-1, 0]),
            tensors(None, DType::F32, &[-1, -1]),
            tensors(None, DType::F32, &[1, 2]),
            tensors(None, DType::F32, &[-1]),
        ] {
            assert!(read(body, &declared).is_none(), "{declared:?}");
        }
    }

    /// Texts of values, most of them numbers.
    fn value() -> impl Strategy<Value = String> {
        const ODD: &[&str] = &[
            "-0",
            "-0.0",
            "1e400",
            "1e-400",
            "9007199254740993",
            "-9223372036854775808",
            "9223372036854775808",
            "1.7976931348623157e308",
            "3.4028236e38",
            "NaN",
            "-Infinity",
            "null",
            "true",
            r#""1""#,
            "[1]",
            "",
        ];
        prop_oneof![
            4 => any::<f64>().prop_filter("JSON has none", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
            4 => any::<i64>().prop_map(|value| value.to_string()),
            4 => (-9i64..9).prop_map(|value| value.to_string()),
            1 => select(ODD).prop_map(str::to_owned),
        ]
    }

    fn body() -> impl Strategy<Value = (usize, String)> {
        let rows = (1usize..4, 0usize..4).prop_flat_map(|(width, rows)| {
            let row = prop::collection::vec(value(), width);
            (Just(width), prop::collection::vec(row, rows))
        });
        let more = select(
            &[
                "",
                "",
                "",
                r#", "index": [0]"#,
                r#", "data": [[1, 2]]"#,
                r#", "x": 1"#,
            ][..],
        );
        let behind = select(
            &[
                "",
                "",
                "",
                r#", "params": {}"#,
                r#", "inputs": [1]"#,
                " ",
                "}",
            ][..],
        );
        (rows, 0usize..8, any::<bool>(), more, behind).prop_map(
            |((width, rows), named, names_first, more, behind)| {
                let rows: Vec<String> = rows
                    .iter()
                    .map(|row| format!("[{}]", row.join(", ")))
                    .collect();
                // Now and then one name too few, too many, or another order.
                let mut names: Vec<String> = (0..width + usize::from(named == 0))
                    .skip(usize::from(named == 1))
                    .map(|index| format!("\"c{index}\""))
                    .collect();
                if named == 2 {
                    names.reverse();
                }
                let names = format!("\"columns\": [{}]", names.join(","));
                let data = format!("\"data\": [{}]", rows.join(", "));
                let parts = if names_first {
                    [names, data]
                } else {
                    [data, names]
                };
                let split = parts.join(", ");
                (
                    width,
                    format!("{{\"dataframe_split\": {{{split}{more}}}{behind}}}"),
                )
            },
        )
    }

    /// The long way has the same answer as the short one, bit by bit: a zero has a sign.
    fn agrees(body: String, declared: &ModelSignature, dtype: DType) -> Result<(), TestCaseError> {
        let graph = graph(dtype);
        let meter = Meter::unlimited();
        let Some(((name, tensor), form)) = table(body.as_bytes(), Some(declared), &graph, &meter)
        else {
            return Ok(());
        };
        let body = Bytes::from(body);
        let signatures = Signatures {
            declared: Some(declared),
            graph: &graph,
        };
        let long = tensors_of(Content::Json, body, signatures, 0, &meter);
        let long = long.expect("the short way has an answer");
        let (named, long_form) = (long.named, long.form);
        prop_assert_eq!(long_form, form);
        prop_assert_eq!(named.len(), 1);
        prop_assert_eq!(&named[0].0, &name);
        prop_assert_eq!(named[0].1.shape(), tensor.shape());
        prop_assert_eq!(named[0].1.dtype(), tensor.dtype());
        prop_assert_eq!(named[0].1.bytes(), tensor.bytes());
        Ok(())
    }

    proptest! {
        #[test]
        fn the_short_way_gives_what_the_long_way_gives(
            (width, body) in body(),
            dtype in select(&[DType::F32, DType::F64][..]),
            name in select(&[None, Some("X")][..]),
            key in select(&["inputs", "instances"][..]),
        ) {
            agrees(body.clone(), &declared(DataType::Double, width), dtype)?;
            // The same values without their names.
            let data = body.split_once("\"data\": ").map_or("", |(_, data)| data);
            let data = data.split(", \"").next().unwrap_or(data).trim_end_matches('}');
            let shape = [-1, i64::try_from(width).unwrap()];
            agrees(format!("{{\"{key}\": {data}}}"), &tensors(name, dtype, &shape), dtype)?;
        }
    }
}
