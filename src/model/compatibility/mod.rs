//! Whether a version of a model can take the place of another one: what clients send and read stays valid.
//!
//! Clients keep sending what the old version took and keep reading what it gave. So an input may take more than before
//! and an output may be added, never the other way round. The signatures are compared where both versions declare
//! them, else the graphs.

mod fields;
mod policy;
mod rules;

use std::fmt;

pub use policy::{ContractError, PolicyError, SignaturePolicy};

use self::fields::Fields;
use crate::model::{ModelSignature, Package, Signature};

/// What differs between the contracts of two versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Inputs first, then outputs, then params; each in the order of the new version, what is gone after it.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it is.
    pub part: Part,
    /// The field: its name, or its place from 1 on where fields have no names; `None` when all of them are meant.
    pub field: Option<Label>,
    /// What changed about it.
    pub aspect: Aspect,
    /// What it was; `None` when it was not there.
    pub was: Option<String>,
    /// What it is; `None` when it is gone.
    pub is: Option<String>,
    /// Whether clients of the old version notice.
    pub verdict: Verdict,
}

/// How a field is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// By its name.
    Name(String),
    /// By its place, from 1 on.
    Place(usize),
}

/// A part of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What a request brings.
    Input,
    /// What an answer holds.
    Output,
    /// The parameters of a request.
    Param,
}

/// What changed about a field, or about all fields of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Whether a signature declares the fields; where only one does, the graphs are compared.
    Declaration,
    /// Columns or tensors, with names or without.
    Form,
    /// Whether there is such a field.
    Presence,
    /// The type of its values.
    Type,
    /// The shape.
    Shape,
    /// Whether it may be left out.
    Requirement,
    /// The value of a parameter that a request leaves out.
    Default,
    /// The order of fields that have names.
    Order,
}

/// Whether clients of the old version can go on as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They can.
    Compatible,
    /// Some of their requests would be refused, or some answers would not be what they read.
    Incompatible,
}

/// Compares what clients may send to and read from two versions of a model.
pub fn compare(old: &Package, new: &Package) -> Comparison {
    let (old_tensors, new_tensors) = (old.signature(), new.signature());
    compare_contracts(
        Contract {
            signature: old.manifest.signature.as_ref(),
            graph: &old_tensors,
        },
        Contract {
            signature: new.manifest.signature.as_ref(),
            graph: &new_tensors,
        },
    )
}

/// All that clients can know of a version.
#[derive(Debug, Clone, Copy)]
struct Contract<'a> {
    signature: Option<&'a ModelSignature>,
    graph: &'a Signature,
}

impl<'a> Contract<'a> {
    /// The declared fields, when there are any.
    fn declared(self, part: Part) -> Option<Fields<'a>> {
        let signature = self.signature?;
        match part {
            Part::Input => signature.inputs.as_ref().map(Fields::of_schema),
            Part::Output => signature.outputs.as_ref().map(Fields::of_schema),
            Part::Param => Some(Fields::of_params(signature.params.as_deref())),
        }
    }

    fn in_graph(self, part: Part) -> Fields<'a> {
        match part {
            Part::Input => Fields::of_inputs(&self.graph.inputs),
            Part::Output => Fields::of_outputs(&self.graph.outputs),
            Part::Param => Fields::of_params(None),
        }
    }
}

fn compare_contracts(old: Contract<'_>, new: Contract<'_>) -> Comparison {
    let mut changes = Vec::new();
    let mut batch_opened = false;
    for part in [Part::Input, Part::Output, Part::Param] {
        let (was, is) = match (old.declared(part), new.declared(part)) {
            (Some(was), Some(is)) => (was, is),
            (None, None) => (old.in_graph(part), new.in_graph(part)),
            // A graph has no params: what only one version declares was added or removed.
            (was, is) if part == Part::Param => {
                let none = || Fields::of_params(None);
                (was.unwrap_or_else(none), is.unwrap_or_else(none))
            }
            (was, _) => {
                changes.push(declaration(part, was.is_some()));
                (old.in_graph(part), new.in_graph(part))
            }
        };
        if part == Part::Input {
            batch_opened = rules::opens_batch(&was, &is);
        }
        changes.extend(rules::compare(part, &was, &is, batch_opened));
    }
    Comparison { changes }
}

fn declaration(part: Part, was_declared: bool) -> Change {
    let (declared, open) = ("in the signature", "by the graph only");
    let (was, is) = if was_declared {
        (declared, open)
    } else {
        (open, declared)
    };
    Change {
        part,
        field: None,
        aspect: Aspect::Declaration,
        was: Some(was.to_owned()),
        is: Some(is.to_owned()),
        verdict: Verdict::Compatible,
    }
}

impl Comparison {
    /// Whether clients of the old version can go on with the new one.
    pub fn is_compatible(&self) -> bool {
        self.incompatible().next().is_none()
    }

    /// The changes that break clients.
    pub fn incompatible(&self) -> impl Iterator<Item = &Change> {
        let breaks = |change: &&Change| change.verdict == Verdict::Incompatible;
        self.changes.iter().filter(breaks)
    }
}

impl Part {
    /// The word for one field of this part.
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Param => "param",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{}`", name.escape_debug()),
            Self::Place(place) => write!(f, "{place}"),
        }
    }
}

/// What changed and, where it breaks clients, why.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.part.word();
        match &self.field {
            Some(label) => write!(f, "{word} {label} ")?,
            None => write!(f, "{word}s ")?,
        }
        let nothing = String::new();
        let was = self.was.as_ref().unwrap_or(&nothing);
        let is = self.is.as_ref().unwrap_or(&nothing);
        match self.aspect {
            Aspect::Declaration => {
                return write!(
                    f,
                    "are declared {is}, were {was}: the graphs were compared instead"
                );
            }
            Aspect::Form => write!(f, "are {is}, were {was}")?,
            Aspect::Presence if self.was.is_none() => write!(f, "is new ({is})")?,
            Aspect::Presence => write!(f, "is gone ({was})")?,
            Aspect::Type => write!(f, "is {is}, was {was}")?,
            Aspect::Shape => write!(f, "has {is}, had {was}")?,
            Aspect::Requirement => write!(f, "is {is}, was {was}")?,
            Aspect::Default => write!(f, "has the default {is}, had {was}")?,
            Aspect::Order => write!(f, "come in another order: {is} in the place of {was}")?,
        }
        match self.reason() {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl Change {
    /// Why clients of the old version notice; `None` when they do not.
    pub fn reason(&self) -> Option<&'static str> {
        if self.verdict == Verdict::Compatible {
            return None;
        }
        let is_output = self.part == Part::Output;
        Some(match self.aspect {
            Aspect::Presence if self.was.is_none() => "clients do not send it",
            Aspect::Presence if is_output => "clients read it",
            Aspect::Presence => "clients send it",
            Aspect::Requirement if is_output => "clients expect it in every answer",
            Aspect::Requirement => "clients may leave it out",
            _ if is_output => "clients read what it was",
            _ => "clients send what it was",
        })
    }
}

#[cfg(test)]
mod tests;
