//! Which outputs a request wants and in what form, and the outputs in that form.

use std::collections::HashMap;

use super::classification::classify;
use super::error::OipError;
use super::parameters::Parameters;
use crate::engine::Outputs;
use crate::model::{ClassLabels, OutputSpec, Signature};
use crate::protocol::size;
use crate::tensor::{Tensor, Value};

/// Names, and characters of one, that a message shows.
const LISTED: usize = 50;
const SHOWN: usize = 1_000;

/// An output that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requested {
    name: String,
    /// How many of the best classes.
    classes: Option<usize>,
    binary: Option<bool>,
}

impl Requested {
    /// An output with its parameters.
    ///
    /// # Errors
    /// A parameter of the wrong type, or one that asks for what is not there.
    pub(crate) fn new(name: String, parameters: &Parameters) -> Result<Self, OipError> {
        parameters.refuse_shared_memory(&name)?;
        // 0 asks for none.
        let classes = parameters.count("classification")?.filter(|&k| k > 0);
        Ok(Self {
            name,
            classes: classes.map(|k| usize::try_from(k).unwrap_or(usize::MAX)),
            binary: parameters.flag("binary_data")?,
        })
    }
}

/// An output that the answer will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chosen {
    /// Where it stands in the signature.
    place: usize,
    classes: Option<usize>,
    binary: bool,
}

/// The outputs of an answer, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selection(Vec<Chosen>);

/// One output as it is sent.
#[derive(Debug)]
pub(crate) struct Sent<'s> {
    /// Its name.
    pub(crate) name: &'s str,
    /// Its elements: of maps the scores, of a classification the texts.
    pub(crate) tensor: Tensor,
    /// The labels of the columns, as JSON text, where they are not in the tensor.
    pub(crate) labels: Option<String>,
    /// Whether it was asked for as bytes.
    pub(crate) binary: bool,
}

impl Selection {
    /// Every output of the signature, or those that are named; `binary` counts for those that do not say it.
    ///
    /// # Errors
    /// A name that the model does not give, or one that comes twice.
    pub(crate) fn new(
        requested: &[Requested],
        signature: &Signature,
        binary: bool,
    ) -> Result<Self, OipError> {
        if requested.is_empty() {
            let all = (0..signature.outputs.len()).map(|place| Chosen {
                place,
                classes: None,
                binary,
            });
            return Ok(Self(all.collect()));
        }
        let mut chosen: Vec<Chosen> = Vec::new();
        let places = signature.outputs.iter().enumerate().rev();
        let places = places.map(|(place, output)| (output.name.as_str(), place));
        let places: HashMap<&str, usize> = places.collect();
        let mut is_chosen = vec![false; signature.outputs.len()];
        for Requested {
            name,
            classes,
            binary: own,
        } in requested
        {
            let place = places.get(name.as_str()).copied();
            let place = place.ok_or_else(|| unknown(name, signature))?;
            if std::mem::replace(&mut is_chosen[place], true) {
                let message = format!("output `{name}` is asked for twice");
                return Err(OipError::Invalid(message));
            }
            chosen.push(Chosen {
                place,
                classes: *classes,
                binary: own.unwrap_or(binary),
            });
        }
        Ok(Self(chosen))
    }

    /// Bytes of the outputs in that form, at most.
    pub(crate) fn size(
        &self,
        (signature, classes): (&Signature, &ClassLabels),
        outputs: &Outputs,
    ) -> usize {
        let sizes = self.0.iter().filter_map(|chosen| {
            let output = outputs.get(chosen.place)?;
            Some(match (chosen.classes, chosen.binary) {
                (Some(k), _) => {
                    let spec = signature.outputs.get(chosen.place)?;
                    let named = classes.get(&spec.name).map(Vec::as_slice);
                    size::of_classes(output, k, named)
                }
                (None, true) => size::in_bytes(output),
                (None, false) => size::in_json([output]),
            })
        });
        sizes.fold(0, usize::saturating_add)
    }

    /// The outputs in the form in which they were asked for; `classes` are the labels of tensors.
    ///
    /// # Errors
    /// When one has no classes.
    pub(crate) fn apply<'s>(
        &self,
        (signature, classes): (&'s Signature, &ClassLabels),
        outputs: &Outputs,
    ) -> Result<Vec<Sent<'s>>, OipError> {
        let send = |chosen: &Chosen| {
            let spec = signature.outputs.get(chosen.place);
            let value = outputs.get(chosen.place);
            let (Some(spec), Some(value)) = (spec, value) else {
                return Err(OipError::Invalid("an output is not there".to_owned()));
            };
            let (tensor, labels) = match value {
                Value::Tensor(tensor) => (tensor.clone(), None),
                Value::Maps(maps) => (maps.scores.clone(), Some(maps.labels.to_texts())),
                Value::Sequence(tensors) => (stacked(spec, tensors)?, None),
            };
            let (tensor, labels) = match chosen.classes {
                Some(k) => {
                    let own = classes.get(&spec.name);
                    let labels = labels.as_deref().or(own.map(Vec::as_slice));
                    let has_rows = signature.has_batch_axis();
                    (classify(&spec.name, &tensor, k, labels, has_rows)?, None)
                }
                None => {
                    let labels = labels.map(|labels| serde_json::Value::from(labels).to_string());
                    (tensor, labels)
                }
            };
            Ok(Sent {
                name: &spec.name,
                tensor,
                labels,
                binary: chosen.binary,
            })
        };
        self.0.iter().map(send).collect()
    }
}

/// The protocol has no sequences: tensors of one shape travel as one tensor.
fn stacked(output: &OutputSpec, tensors: &[Tensor]) -> Result<Tensor, OipError> {
    Tensor::stack(tensors, output.kind.dtype()).ok_or_else(|| {
        OipError::Invalid(format!(
            "output `{}` is a sequence of tensors of different shapes, which this protocol cannot carry: ask for other \
             outputs, or use `/invocations` or the V1 protocol",
            output.name
        ))
    })
}

fn unknown(name: &str, signature: &Signature) -> OipError {
    let known = signature.outputs.iter();
    let known = known
        .take(LISTED)
        .map(|output| format!("`{}`", output.name));
    let mut known = known.collect::<Vec<_>>().join(", ");
    if signature.outputs.len() > LISTED {
        known += ", …";
    }
    let name: String = name.chars().take(SHOWN).collect();
    OipError::Invalid(format!("unknown output `{name}`; this model gives {known}"))
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameter;
    use super::*;
    use crate::model::{Dim, InputSpec, OutputKind, OutputSpec};
    use crate::tensor::{DType, Labels, MapSequence};

    fn signature() -> Signature {
        let output = |name: &str, kind| OutputSpec {
            name: name.to_owned(),
            kind,
        };
        let shape = Some(vec![Dim::Any(None), Dim::Fixed(2)]);
        let dtype = DType::F32;
        let numbers = OutputKind::Tensor {
            dtype,
            shape: shape.clone(),
        };
        Signature {
            inputs: vec![InputSpec {
                name: "x".to_owned(),
                dtype,
                shape,
                default: None,
            }],
            outputs: vec![
                output("numbers", numbers),
                output("maps", OutputKind::Maps { text_labels: true }),
            ],
            ..Signature::default()
        }
    }

    fn outputs() -> Outputs {
        let scores = || Tensor::from_vec(vec![1, 2], vec![0.25_f32, 0.75]).unwrap();
        let labels = Labels::String(vec!["no".to_owned(), "yes".to_owned()]);
        let maps = MapSequence {
            labels,
            scores: scores(),
        };
        vec![Value::Tensor(scores()), Value::Maps(maps)]
    }

    fn requested(name: &str, parameters: &[(&str, Parameter)]) -> Requested {
        let mut all = Parameters::default();
        for (name, value) in parameters {
            all.push((*name).to_owned(), value.clone()).unwrap();
        }
        Requested::new(name.to_owned(), &all).unwrap()
    }

    #[test]
    fn without_names_all_come_in_the_order_of_the_model() {
        let signature = signature();
        let all = Selection::new(&[], &signature, true).unwrap();
        let sent = all.apply((&signature, &[].into()), &outputs()).unwrap();
        let names: Vec<_> = sent.iter().map(|sent| (sent.name, sent.binary)).collect();
        assert_eq!(names, [("numbers", true), ("maps", true)]);
        assert_eq!(sent[0].labels, None);
        assert_eq!(sent[1].labels.as_deref(), Some(r#"["no","yes"]"#));
        assert_eq!(sent[1].tensor.shape(), [1, 2]);
    }

    #[test]
    fn named_ones_come_in_the_order_of_the_request_each_in_its_form() {
        let wanted = [
            requested("maps", &[("classification", Parameter::Int(9))]),
            requested("numbers", &[("binary_data", Parameter::Bool(false))]),
        ];
        let signature = signature();
        let chosen = Selection::new(&wanted, &signature, true).unwrap();
        let of = (&signature, &[].into());
        let sent = chosen.apply(of, &outputs()).unwrap();
        assert_eq!((sent[0].name, sent[1].name), ("maps", "numbers"));
        let classes = sent[0].tensor.as_strings().unwrap();
        assert_eq!(classes, ["0.75:1:yes", "0.25:0:no"]);
        assert_eq!((sent[0].binary, sent[1].binary), (true, false));
    }

    #[test]
    fn classes_of_tensors_are_called_what_the_package_says_and_are_charged() {
        let signature = signature();
        let wanted = [requested(
            "numbers",
            &[("classification", Parameter::Int(2))],
        )];
        let chosen = Selection::new(&wanted, &signature, true).unwrap();
        let texts = |classes: &ClassLabels| {
            let sent = chosen.apply((&signature, classes), &outputs()).unwrap();
            sent[0].tensor.as_strings().unwrap().to_vec()
        };
        let none = [].into();
        assert_eq!(texts(&none), ["0.75:1", "0.25:0"]);
        let long = "dog".repeat(1_000);
        let labels = [("numbers".to_owned(), vec!["cat".to_owned(), long.clone()])].into();
        assert_eq!(
            texts(&labels),
            [format!("0.75:1:{long}"), "0.25:0:cat".to_owned()]
        );
        let size = |classes: &ClassLabels| chosen.size((&signature, classes), &outputs());
        assert!(size(&labels) >= size(&none) + 2 * long.len());
        let one = [("numbers".to_owned(), vec!["cat".to_owned()])].into();
        assert_eq!(texts(&one), ["0.75:1", "0.25:0:cat"], "a file may be short");
    }

    #[test]
    fn what_the_model_does_not_give_or_twice_is_refused() {
        let refused = |names: &[&str]| {
            let wanted: Vec<_> = names.iter().map(|name| requested(name, &[])).collect();
            let refused = Selection::new(&wanted, &signature(), false);
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            refused(&["class"]),
            "unknown output `class`; this model gives `numbers`, `maps`"
        );
        assert_eq!(
            refused(&["maps", "maps"]),
            "output `maps` is asked for twice"
        );
        let mut region = Parameters::default();
        let value = Parameter::Text("r".to_owned());
        region
            .push("shared_memory_region".to_owned(), value)
            .unwrap();
        assert!(Requested::new("maps".to_owned(), &region).is_err());
    }
}
