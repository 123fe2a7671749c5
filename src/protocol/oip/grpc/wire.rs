//! What a message will take in memory, counted on the wire before anything is made of it: two bytes may become an input
//! of hundreds, and the library makes all of them before anybody can look.
//!
//! Works on a message as it comes, in whatever pieces. A table says what each field becomes: see [`super::layouts`].

use crate::budget::{Allowance, OverBudget};

/// A message: what its struct takes, and its fields that take more.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) fields: &'static [(u32, Field)],
}

/// What is made of a field. What is no field of a layout is passed over, here as in the library.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    /// A text, which is copied.
    Text,
    /// Many texts.
    Texts,
    /// Many slices of the message.
    Slices,
    /// Many numbers of so many bytes in memory. As wide on the wire, or of variable width.
    Numbers(usize, Width),
    /// A message in the struct of the one around it.
    Message(&'static Layout),
    /// Many messages.
    Messages(&'static Layout),
    /// A map; the layout is that of an entry.
    Map(&'static Layout),
}

/// How numbers are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Fixed,
    Variable,
}

/// A vector that grows by doubling holds the old and the new elements for a moment.
const GROWTH: usize = 2;

/// The smallest piece of memory that allocators give, and what they add.
const PIECE: usize = 32;

/// A table of hashes is at worst a little less than half full, and is copied when it grows.
const MAP: usize = 4;

/// Bytes of a slice of the message.
const SLICE: usize = size_of::<bytes::Bytes>();

/// So much is gathered before it is charged.
const GATHERED: usize = 64 << 10;

/// Why a message is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// It would take too much memory.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// It is no message.
    #[error("{0}")]
    Malformed(&'static str),
}

const TOO_LONG: WireError = WireError::Malformed("a field is longer than the message around it");
const BAD_VARINT: WireError = WireError::Malformed("a number has more than ten bytes");
const BAD_TAG: WireError = WireError::Malformed("a field has a number or a type that there is not");
const CUT_OFF: WireError = WireError::Malformed("it ends in the middle of a field");

/// Walks over one message. The tables have no cycles, so the stack is as deep as they are.
#[derive(Debug)]
pub(crate) struct Walker {
    stack: Vec<Frame>,
    /// Bytes walked over.
    offset: u64,
    state: State,
    number: Varint,
    allowance: Allowance,
    /// To be charged.
    due: usize,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    layout: &'static Layout,
    end: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Tag,
    /// The length of a field; `None` is one that is passed over.
    Length(Option<Field>),
    /// A number; one of many when it is of so many bytes.
    Number(usize),
    /// So many bytes to pass over; each costs so much.
    Skip(u64, usize),
    /// The same of packed numbers of variable width, of so many bytes in memory.
    Packed(u64, usize),
}

#[derive(Debug, Clone, Copy, Default)]
struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    /// The whole number, with its last byte.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, WireError> {
        if self.bytes == 10 {
            return Err(BAD_VARINT);
        }
        self.value |= u64::from(byte & 0x7F) << (7 * self.bytes).min(63);
        self.bytes += 1;
        Ok((byte < 0x80).then(|| std::mem::take(self).value))
    }
}

impl Walker {
    /// A message of so many bytes, which is charged to `allowance`.
    pub(crate) fn new(layout: &'static Layout, length: u64, allowance: Allowance) -> Self {
        let end = length;
        let mut walker = Self {
            stack: vec![Frame { layout, end }],
            offset: 0,
            state: State::Tag,
            number: Varint::default(),
            allowance,
            due: layout.size,
        };
        walker.ascend();
        walker
    }

    /// The next bytes of it. What they become is charged before this returns.
    ///
    /// # Errors
    /// [`WireError`].
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), WireError> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Skip(left, cost) => {
                    let taken = self.take(bytes, left);
                    self.owe(taken.len().saturating_mul(cost))?;
                    self.enter(State::Skip(left - length(taken), cost));
                    bytes = &bytes[taken.len()..];
                    continue;
                }
                State::Packed(left, size) => {
                    let taken = self.take(bytes, left);
                    let elements = taken.iter().filter(|byte| **byte < 0x80).count();
                    self.owe(elements.saturating_mul(size * GROWTH))?;
                    self.enter(State::Packed(left - length(taken), size));
                    bytes = &bytes[taken.len()..];
                    continue;
                }
                State::Tag | State::Length(_) | State::Number(_) => {}
            }
            self.offset += 1;
            bytes = rest;
            if let Some(number) = self.number.push(first)? {
                self.numbered(number)?;
            }
        }
        self.settle()
    }

    /// Bytes that came so far.
    pub(crate) fn length(&self) -> usize {
        usize::try_from(self.offset).unwrap_or(usize::MAX)
    }

    /// The message is whole.
    ///
    /// # Errors
    /// [`WireError`]: it is not.
    pub(crate) fn finish(mut self) -> Result<(), WireError> {
        self.settle()?;
        match self.state {
            State::Tag if self.stack.is_empty() => Ok(()),
            _ => Err(CUT_OFF),
        }
    }

    fn numbered(&mut self, number: u64) -> Result<(), WireError> {
        match self.state {
            State::Tag => {
                let field = u32::try_from(number).map_err(|_| BAD_TAG)?;
                self.begin(field >> 3, field & 7)
            }
            State::Length(field) => self.delimited(field, number),
            State::Number(size) => {
                self.owe(size * GROWTH * GROWTH)?;
                self.next_field()
            }
            State::Skip(..) | State::Packed(..) => Ok(()),
        }
    }

    /// A field of this number and type of the wire.
    fn begin(&mut self, number: u32, wire_type: u32) -> Result<(), WireError> {
        let layout = self.stack.last().ok_or(TOO_LONG)?.layout;
        let known = layout.fields.iter().find(|(known, _)| *known == number);
        let field = known.map(|(_, field)| *field);
        let single = match field {
            Some(Field::Numbers(size, _)) => size,
            _ => 0,
        };
        self.state = match wire_type {
            _ if number == 0 => return Err(BAD_TAG),
            0 => State::Number(single),
            1 | 5 => {
                self.owe(single * GROWTH * GROWTH)?;
                State::Skip(if wire_type == 1 { 8 } else { 4 }, 0)
            }
            2 => State::Length(field),
            // Groups are not in this version of the language.
            _ => return Err(BAD_TAG),
        };
        self.fits(match self.state {
            State::Skip(left, _) => left,
            _ => 1,
        })
    }

    /// A field of this length.
    fn delimited(&mut self, field: Option<Field>, left: u64) -> Result<(), WireError> {
        self.fits(left)?;
        let piece = if left > 0 { PIECE } else { 0 };
        match field {
            None => self.enter(State::Skip(left, 0)),
            Some(Field::Text) => {
                self.owe(piece)?;
                self.enter(State::Skip(left, 1));
            }
            Some(Field::Texts) => {
                self.owe(size_of::<String>() * GROWTH + piece)?;
                self.enter(State::Skip(left, 1));
            }
            Some(Field::Slices) => {
                self.owe(SLICE * GROWTH)?;
                self.enter(State::Skip(left, 0));
            }
            Some(Field::Numbers(_, Width::Fixed)) => {
                self.owe(piece * GROWTH)?;
                self.enter(State::Skip(left, GROWTH));
            }
            Some(Field::Numbers(size, Width::Variable)) => {
                self.owe(piece * GROWTH)?;
                self.enter(State::Packed(left, size));
            }
            Some(Field::Message(layout)) => self.descend(layout, left),
            Some(Field::Messages(layout)) => {
                self.owe(layout.size * GROWTH)?;
                self.descend(layout, left);
            }
            Some(Field::Map(entry)) => {
                self.owe(entry.size * MAP + PIECE * GROWTH)?;
                self.descend(entry, left);
            }
        }
        Ok(())
    }

    fn descend(&mut self, layout: &'static Layout, left: u64) {
        let end = self.offset + left;
        self.stack.push(Frame { layout, end });
        self.state = State::Tag;
        self.ascend();
    }

    /// Leaves the messages that end here.
    fn ascend(&mut self) {
        while self.stack.last().is_some_and(|top| top.end <= self.offset) {
            self.stack.pop();
        }
    }

    fn next_field(&mut self) -> Result<(), WireError> {
        self.fits(0)?;
        self.state = State::Tag;
        self.ascend();
        Ok(())
    }

    /// A field with contents, or what comes after it.
    fn enter(&mut self, state: State) {
        self.state = match state {
            State::Skip(0, _) | State::Packed(0, _) => State::Tag,
            more => more,
        };
        if matches!(self.state, State::Tag) {
            self.ascend();
        }
    }

    fn fits(&self, left: u64) -> Result<(), WireError> {
        let end = self.stack.last().ok_or(TOO_LONG)?.end;
        let fits = self.offset.checked_add(left).is_some_and(|to| to <= end);
        if fits { Ok(()) } else { Err(TOO_LONG) }
    }

    fn take<'b>(&mut self, bytes: &'b [u8], left: u64) -> &'b [u8] {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let taken = &bytes[..bytes.len().min(most)];
        self.offset += length(taken);
        taken
    }

    fn owe(&mut self, bytes: usize) -> Result<(), WireError> {
        self.due = self.due.saturating_add(bytes);
        if self.due > GATHERED {
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), WireError> {
        Ok(self.allowance.charge(std::mem::take(&mut self.due))?)
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
