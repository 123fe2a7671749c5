//! What each change of a field means for clients.

use std::collections::{HashMap, VecDeque};

use super::fields::{Field, Fields, Type, describe_shape, requirement};
use super::{Aspect, Change, Label, Part, Verdict};
use crate::model::{ColType, DataType, ParamType, Property, TensorType};
use crate::tensor::DType;

/// Which of two types has to hold every value of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The new one holds what clients send.
    Sent,
    /// What clients read holds the new one.
    Read,
}

/// The differences of one part. `batch_opened` says that requests of the new version may have any number of rows, which
/// its answers then follow.
pub(super) fn compare(
    part: Part,
    old: &Fields<'_>,
    new: &Fields<'_>,
    batch_opened: bool,
) -> Vec<Change> {
    if old.form != new.form {
        let (was, is) = (old.form.describe(), new.form.describe());
        let change = Change {
            part,
            field: None,
            aspect: Aspect::Form,
            was: Some(was.to_owned()),
            is: Some(is.to_owned()),
            verdict: Verdict::Incompatible,
        };
        return vec![change];
    }
    let pairs = Pairs::new(old, new);
    let mut changes = Vec::new();
    for (place, (field, partner)) in new.list.iter().zip(&pairs.partners).enumerate() {
        let judge = Judge {
            part,
            label: label(field, place),
            batch_opened,
        };
        match partner {
            Some(index) => judge.fields(&old.list[*index], field, &mut changes),
            None => changes.push(judge.added(field)),
        }
    }
    for &place in &pairs.gone {
        let field = &old.list[place];
        changes.push(Change {
            part,
            field: Some(label(field, place)),
            aspect: Aspect::Presence,
            was: Some(field.describe()),
            is: None,
            verdict: Verdict::Incompatible,
        });
    }
    changes.extend(order(part, old, &pairs));
    changes
}

/// Whether an input that took a fixed number of rows now takes any number.
pub(super) fn opens_batch(old: &Fields<'_>, new: &Fields<'_>) -> bool {
    let rows = |field: &Field<'_>| field.shape.as_ref()?.first().copied();
    let pairs = Pairs::new(old, new);
    new.list
        .iter()
        .zip(&pairs.partners)
        .any(|(field, partner)| {
            let was = partner.and_then(|index| rows(&old.list[index]));
            was.is_some_and(|was| was >= 0) && rows(field) == Some(-1)
        })
}

fn label(field: &Field<'_>, place: usize) -> Label {
    match field.name {
        Some(name) => Label::Name(name.to_owned()),
        None => Label::Place(place + 1),
    }
}

/// Which old field each new one continues: the one of its name, or of its place where fields have no names.
struct Pairs {
    partners: Vec<Option<usize>>,
    gone: Vec<usize>,
}

impl Pairs {
    fn new(old: &Fields<'_>, new: &Fields<'_>) -> Self {
        // Fields without a name share a key, so they are taken in their order.
        let mut waiting: HashMap<Option<&str>, VecDeque<usize>> = HashMap::new();
        for (index, field) in old.list.iter().enumerate() {
            waiting.entry(field.name).or_default().push_back(index);
        }
        let mut partners = Vec::with_capacity(new.list.len());
        for field in &new.list {
            let same = waiting.get_mut(&field.name);
            partners.push(same.and_then(VecDeque::pop_front));
        }
        let mut gone: Vec<usize> = waiting.into_values().flatten().collect();
        gone.sort_unstable();
        Self { partners, gone }
    }
}

/// Clients name what they send and read, so another order is only worth a line.
fn order(part: Part, old: &Fields<'_>, pairs: &Pairs) -> Option<Change> {
    let kept: Vec<usize> = pairs.partners.iter().copied().flatten().collect();
    let mut sorted = kept.clone();
    sorted.sort_unstable();
    let (&is, was) = kept.iter().zip(sorted).find(|(is, was)| *is != was)?;
    let name = |place: usize| Some(label(&old.list[place], place).to_string());
    Some(Change {
        part,
        field: None,
        aspect: Aspect::Order,
        was: name(was),
        is: name(is),
        verdict: Verdict::Compatible,
    })
}

/// Judges the changes of one field.
struct Judge {
    part: Part,
    label: Label,
    batch_opened: bool,
}

impl Judge {
    fn fields(&self, old: &Field<'_>, new: &Field<'_>, changes: &mut Vec<Change>) {
        let is_output = self.part == Part::Output;
        if old.kind != new.kind {
            let way = if is_output { Way::Read } else { Way::Sent };
            let (was, is) = (old.kind.describe(), new.kind.describe());
            changes.push(self.change(Aspect::Type, was, is, type_fits(old.kind, new.kind, way)));
        }
        let has_shape = |kind| !matches!(kind, Type::Sequence(_));
        if old.shape != new.shape && has_shape(old.kind) && has_shape(new.kind) {
            let (was, is) = (old.shape.as_deref(), new.shape.as_deref());
            let fits = match is_output {
                true => self.answer_fits(was, is),
                false => shape_holds(is, was),
            };
            let (was, is) = (describe_shape(was), describe_shape(is));
            changes.push(self.change(Aspect::Shape, was, is, fits));
        }
        if old.required != new.required {
            let (was, is) = (requirement(old.required), requirement(new.required));
            // Requests may leave out what becomes optional; answers may not.
            let fits = new.required == is_output;
            let change = self.change(Aspect::Requirement, was.to_owned(), is.to_owned(), fits);
            changes.push(change);
        }
        if let (Some(was), Some(is)) = (old.default, new.default)
            && was != is
        {
            changes.push(self.change(Aspect::Default, was.to_string(), is.to_string(), true));
        }
    }

    fn added(&self, field: &Field<'_>) -> Change {
        let fits = self.part == Part::Output || !field.required;
        let change = self.change(Aspect::Presence, String::new(), field.describe(), fits);
        Change {
            was: None,
            ..change
        }
    }

    fn change(&self, aspect: Aspect, was: String, is: String, fits: bool) -> Change {
        Change {
            part: self.part,
            field: Some(self.label.clone()),
            aspect,
            was: Some(was),
            is: Some(is),
            verdict: if fits {
                Verdict::Compatible
            } else {
                Verdict::Incompatible
            },
        }
    }

    /// An answer has as many rows as its request: a client that sends what it always sent gets as many as before.
    fn answer_fits(&self, was: Option<&[i64]>, is: Option<&[i64]>) -> bool {
        match (was, is) {
            (Some([_, was @ ..]), Some([-1, is @ ..])) if self.batch_opened => {
                shape_holds(Some(was), Some(is))
            }
            _ => shape_holds(was, is),
        }
    }
}

/// Whether every tensor of the shape `inner` has the shape `outer`.
fn shape_holds(outer: Option<&[i64]>, inner: Option<&[i64]>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => {
            let holds = |(outer, inner): (&i64, &i64)| *outer < 0 || outer == inner;
            outer.len() == inner.len() && outer.iter().zip(inner).all(holds)
        }
    }
}

fn type_fits(old: Type<'_>, new: Type<'_>, way: Way) -> bool {
    match (old, new) {
        (Type::Cell(old), Type::Cell(new)) => cell_fits(old, new, way),
        // Clients of the Open Inference Protocol name the type in each request, and nothing casts a tensor.
        (Type::Tensor(old), Type::Tensor(new)) => {
            old == new || (way == Way::Sent && is_text(old) && *new == TensorType::Object)
        }
        (
            Type::Param {
                kind: old,
                is_list: was_list,
            },
            Type::Param { kind: new, is_list },
        ) => was_list == is_list && param_fits(old, new),
        _ => old == new,
    }
}

fn is_text(kind: &TensorType) -> bool {
    *kind == TensorType::Plain(DType::String)
}

fn cell_fits(old: &ColType, new: &ColType, way: Way) -> bool {
    let outer = match way {
        Way::Sent => new,
        Way::Read => old,
    };
    if *outer == ColType::Any {
        return true;
    }
    match (old, new) {
        (ColType::Scalar(old), ColType::Scalar(new)) => {
            old == new || (way == Way::Sent && widens(*old, *new))
        }
        (ColType::Array(old), ColType::Array(new)) | (ColType::Map(old), ColType::Map(new)) => {
            cell_fits(old, new, way)
        }
        (ColType::Object(old), ColType::Object(new)) => {
            object_fits(old, new, way, |old, new| cell_fits(old, new, way))
        }
        _ => false,
    }
}

/// Whether each property fits, and what was added or left out does not matter.
fn object_fits(
    old: &[Property],
    new: &[Property],
    way: Way,
    fits: impl Fn(&ColType, &ColType) -> bool,
) -> bool {
    let find = |list: &'_ [Property], name: &str| list.iter().position(|p| p.name == name);
    let kept = old.iter().all(|was| {
        find(new, &was.name).is_some_and(|index| {
            let is = &new[index];
            let requirement = match way {
                Way::Sent => was.required || !is.required,
                Way::Read => is.required || !was.required,
            };
            requirement && fits(&was.kind, &is.kind)
        })
    });
    let is_new = |property: &&Property| find(old, &property.name).is_none();
    let added = new
        .iter()
        .filter(is_new)
        .all(|p| way == Way::Read || !p.required);
    kept && added
}

/// The conversions that MLflow calls safe.
fn widens(old: DataType, new: DataType) -> bool {
    matches!(
        (old, new),
        (DataType::Integer, DataType::Long | DataType::Double)
            | (DataType::Float, DataType::Double)
    )
}

fn param_fits(old: &ParamType, new: &ParamType) -> bool {
    let rank = |kind: DataType| match kind {
        DataType::Integer => Some(0),
        DataType::Long => Some(1),
        DataType::Float => Some(2),
        DataType::Double => Some(3),
        _ => None,
    };
    match (old, new) {
        (ParamType::Scalar(old), ParamType::Scalar(new)) => {
            // For params MLflow converts integers to floating point, too.
            let numbers = rank(*old).zip(rank(*new));
            old == new || numbers.is_some_and(|(old, new)| old < new)
        }
        (ParamType::Object(old), ParamType::Object(new)) => {
            let fits = |old: &ColType, new: &ColType| cell_fits(old, new, Way::Sent);
            object_fits(old, new, Way::Sent, fits)
        }
        _ => false,
    }
}
