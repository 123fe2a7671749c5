//! A pull reader that decodes nested lists of numbers into one flat buffer, and rows into columns.

mod tables;

use std::collections::HashMap;

use jiter::{Jiter, JiterError, NumberAny, NumberInt, Peek};

pub(crate) use self::tables::{NoObject, Table};
use super::value::{Cells, Items, Json};
use crate::budget::OverBudget;
use crate::protocol::meter::{Meter, block, block_of};

/// Lists nested deeper than this are refused; no tensor has so many dimensions.
const MAX_DEPTH: usize = 100;

/// Cells that may be made for missing keys and values, for each byte of the body and beside them.
const PADDING: usize = 16;
const FREE_PADDING: usize = 1_000;

/// Objects of more keys than this are searched by a map.
const FEW_KEYS: usize = 8;

/// Why a text is no JSON, and where; or that it takes too much memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// What is wrong.
    #[error("{0}")]
    Malformed(String),
    /// Its values take more memory than there is for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

type Result<T> = std::result::Result<T, JsonError>;

/// Reads one document.
pub(crate) struct Reader<'j> {
    body: &'j [u8],
    jiter: Jiter<'j>,
    meter: Meter,
    /// How many cells may still be made for keys and values that rows lack: a short body must not grow without bound.
    padding_left: usize,
}

impl<'j> Reader<'j> {
    /// A reader over UTF-8 text, with or without a byte order mark, that makes nothing of it or is no client's.
    ///
    /// # Errors
    /// [`JsonError`] when `body` is not UTF-8.
    pub(crate) fn new(body: &'j [u8]) -> Result<Self> {
        Self::metered(body, &Meter::unlimited())
    }

    /// A reader that charges what it makes.
    ///
    /// # Errors
    /// [`JsonError`] when `body` is not UTF-8.
    pub(crate) fn metered(body: &'j [u8], meter: &Meter) -> Result<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if let Err(error) = std::str::from_utf8(body) {
            return Err(JsonError::Malformed(format!(
                "the body is not UTF-8 from byte {}",
                error.valid_up_to()
            )));
        }
        Ok(Self {
            body,
            jiter: Jiter::new(body).with_allow_inf_nan(),
            meter: meter.clone(),
            padding_left: FREE_PADDING + PADDING.saturating_mul(body.len()),
        })
    }

    /// What the reader charges.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether the next value is an object.
    pub(crate) fn next_is_object(&mut self) -> Result<bool> {
        Ok(self.peek()? == Peek::Object)
    }

    /// Whether the next value is a list whose first item is an object.
    pub(crate) fn next_is_list_of_objects(&mut self) -> Result<bool> {
        Ok(self.first_of_list()? == Some(b'{'))
    }

    /// Whether the next value is a list of objects, and of one at least. What follows something else is not looked at.
    pub(crate) fn next_is_list_of_objects_only(&mut self) -> Result<bool> {
        if !self.next_is_list_of_objects()? {
            return Ok(false);
        }
        // Of its own, which holds no text that was read before.
        let mut ahead = Jiter::new(&self.body[self.jiter.current_index()..]).with_allow_inf_nan();
        let mut next = ahead.next_array();
        while let Ok(Some(peek)) = next {
            if peek != Peek::Object {
                return Ok(false);
            }
            // A broken list is found when it is read.
            if ahead.known_skip(peek).is_err() {
                break;
            }
            next = ahead.array_step();
        }
        Ok(true)
    }

    /// The byte with which the first item of the next value begins, or the list ends; `None` when it is no list.
    fn first_of_list(&mut self) -> Result<Option<u8>> {
        if self.peek()? != Peek::Array {
            return Ok(None);
        }
        let inside = self.body.get(self.jiter.current_index() + 1..);
        Ok(inside
            .unwrap_or_default()
            .trim_ascii_start()
            .first()
            .copied())
    }

    /// Reads over the next value if it is null, which clients send for members that they do not set.
    pub(crate) fn null(&mut self) -> Result<bool> {
        let is_null = self.peek()? == Peek::Null;
        if is_null {
            self.skip()?;
        }
        Ok(is_null)
    }

    fn peek(&mut self) -> Result<Peek> {
        let peek = self.jiter.peek();
        peek.map_err(|error| self.error(&error))
    }

    /// Reads an object and hands each key to `visit`, which must read the value.
    pub(crate) fn object<E: From<JsonError>>(
        &mut self,
        mut visit: impl FnMut(&mut Self, &str) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut key = String::new();
        let mut more = self.next_key(true, &mut key)?;
        while more {
            visit(self, &key)?;
            more = self.next_key(false, &mut key)?;
        }
        Ok(())
    }

    /// Reads a list and hands each element's index to `visit`, which must read the value; false, with nothing read,
    /// when the next value is no list.
    pub(crate) fn each<E: From<JsonError>>(
        &mut self,
        mut visit: impl FnMut(&mut Self, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<bool, E> {
        if self.peek()? != Peek::Array {
            return Ok(false);
        }
        let mut failed = None;
        let mut index = 0;
        self.list(|reader, _| {
            let visited = visit(reader, index);
            index += 1;
            failed = visited.err();
            Ok(failed.is_none())
        })?;
        failed.map_or(Ok(true), Err)
    }

    /// Reads the next key into `name`; false when there is none.
    fn next_key(&mut self, first: bool, name: &mut String) -> Result<bool> {
        let key = if first {
            self.jiter.next_object()
        } else {
            self.jiter.next_key()
        };
        match key {
            Ok(Some(key)) => {
                name.clear();
                name.push_str(key);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Reads the next value if it is a list of texts, each of which `visit` likes. False, with a part of it read, when
    /// it is anything else.
    pub(crate) fn texts(&mut self, mut visit: impl FnMut(&str) -> bool) -> Result<bool> {
        if self.peek()? != Peek::Array {
            return Ok(false);
        }
        self.list(|reader, peek| {
            if peek != Peek::String {
                return Ok(false);
            }
            match reader.jiter.known_str() {
                Ok(text) => Ok(visit(text)),
                Err(error) => Err(reader.error(&error)),
            }
        })
    }

    /// Reads the next value if it is a list of rows of `width` finite numbers, each of which `visit` likes. False, with a
    /// part of it read, when it is anything else.
    pub(crate) fn table(
        &mut self,
        width: usize,
        mut visit: impl FnMut(f64) -> bool,
    ) -> Result<bool> {
        if self.peek()? != Peek::Array {
            return Ok(false);
        }
        self.list(|reader, peek| {
            let mut numbers = 0;
            let is_row = peek == Peek::Array
                && reader.list(|reader, peek| {
                    numbers += 1;
                    let number = if peek.is_num() {
                        reader.finite(peek)?
                    } else {
                        None
                    };
                    Ok(number.is_some_and(&mut visit))
                })?;
            Ok(is_row && numbers == width)
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a whole number for a float is rounded to it"
    )]
    fn finite(&mut self, peek: Peek) -> Result<Option<f64>> {
        match self.jiter.known_number(peek) {
            Ok(NumberAny::Float(value)) => Ok(value.is_finite().then_some(value)),
            Ok(NumberAny::Int(NumberInt::Int(value))) => Ok(Some(value as f64)),
            Ok(NumberAny::Int(NumberInt::BigInt(_))) => Ok(None),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Reads over the next value.
    pub(crate) fn skip(&mut self) -> Result<()> {
        let skipped = self.jiter.next_skip();
        skipped.map_err(|error| self.error(&error))
    }

    /// Reads over the next value and gives its text.
    pub(crate) fn raw(&mut self) -> Result<&'j [u8]> {
        self.peek()?;
        let start = self.jiter.current_index();
        self.skip()?;
        Ok(self.jiter.slice_to_current(start))
    }

    /// Checks that nothing follows.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let end = self.jiter.finish();
        end.map_err(|error| self.error(&error))
    }

    /// Reads the next value.
    pub(crate) fn value(&mut self) -> Result<Json> {
        let peek = self.peek()?;
        self.value_at(peek, 0)
    }

    /// Reads a list, handing each element to `visit` until it answers false; `Ok(false)` then.
    fn list(&mut self, mut visit: impl FnMut(&mut Self, Peek) -> Result<bool>) -> Result<bool> {
        let mut next = self.jiter.known_array();
        loop {
            match next {
                Ok(Some(peek)) => {
                    if !visit(self, peek)? {
                        return Ok(false);
                    }
                }
                Ok(None) => return Ok(true),
                Err(error) => return Err(self.error(&error)),
            }
            next = self.jiter.array_step();
        }
    }

    fn value_at(&mut self, peek: Peek, depth: usize) -> Result<Json> {
        match peek {
            Peek::Array => {
                check_depth(depth)?;
                let first = self.jiter.known_array();
                let first = first.map_err(|error| self.error(&error))?;
                self.items(Items::default(), first, depth)
            }
            Peek::Object => {
                check_depth(depth)?;
                self.entries(depth)
            }
            scalar => self.scalar(scalar),
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Json> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        self.object(|reader, key| {
            let key = reader.meter.text(key)?;
            let peek = reader.peek()?;
            let value = reader.value_at(peek, depth + 1)?;
            reader.meter.push(&mut entries, (key, value))?;
            Ok::<(), JsonError>(())
        })?;
        Ok(Json::Object(last_wins(entries, &self.meter)?))
    }

    /// Reads the rest of a list, of which `items` were read before and `next` comes next. Each byte is read once, however
    /// ragged the list turns out to be.
    fn items(&mut self, mut items: Items, mut next: Option<Peek>, depth: usize) -> Result<Json> {
        while let Some(peek) = next {
            match &mut items {
                Items::Flat {
                    inner,
                    count,
                    cells,
                } if peek == Peek::Array && *count > 0 && !inner.is_empty() => {
                    match self.fill(cells, inner, depth + 1)? {
                        None => *count += 1,
                        Some(other) => items.push(other, &self.meter)?,
                    }
                }
                _ => {
                    let value = self.value_at(peek, depth + 1)?;
                    items.push(value, &self.meter)?;
                }
            }
            next = self.next_item()?;
        }
        Ok(items.finish(&self.meter)?)
    }

    /// Reads a list that should be of this shape into `cells`. When it is not, they are as they were, and the list is
    /// given back.
    fn fill(&mut self, cells: &mut Cells, shape: &[usize], depth: usize) -> Result<Option<Json>> {
        check_depth(depth)?;
        let Some((&wanted, inner)) = shape.split_first() else {
            return Ok(None);
        };
        let (start, mut count) = (cells.len(), 0);
        let first = self.jiter.known_array();
        let mut next = first.map_err(|error| self.error(&error))?;
        while let Some(peek) = next {
            let is_list = matches!(peek, Peek::Array | Peek::Object);
            if count == wanted || is_list == inner.is_empty() || peek == Peek::Object {
                let items = Items::split_off(cells, start, (inner, count), &self.meter)?;
                return self.items(items, next, depth).map(Some);
            }
            if is_list {
                if let Some(other) = self.fill(cells, inner, depth + 1)? {
                    let mut items = Items::split_off(cells, start, (inner, count), &self.meter)?;
                    items.push(other, &self.meter)?;
                    let next = self.next_item()?;
                    return self.items(items, next, depth).map(Some);
                }
            } else {
                let value = self.scalar(peek)?;
                cells.push(value, &self.meter)?;
            }
            count += 1;
            next = self.next_item()?;
        }
        if count == wanted {
            return Ok(None);
        }
        let items = Items::split_off(cells, start, (inner, count), &self.meter)?;
        Ok(Some(items.finish(&self.meter)?))
    }

    fn next_item(&mut self) -> Result<Option<Peek>> {
        let next = self.jiter.array_step();
        next.map_err(|error| self.error(&error))
    }

    fn scalar(&mut self, peek: Peek) -> Result<Json> {
        if peek == Peek::String {
            return match self.jiter.known_str() {
                Ok(text) => Ok(Json::Text(self.meter.text(text)?)),
                Err(error) => Err(self.error(&error)),
            };
        }
        let value = match peek {
            Peek::Null => self.jiter.known_null().map(|()| Json::Null),
            Peek::True | Peek::False => self.jiter.known_bool(peek).map(Json::Bool),
            number => self.jiter.known_number(number).map(|number| match number {
                NumberAny::Int(NumberInt::Int(int)) => Json::Int(int),
                NumberAny::Int(NumberInt::BigInt(big)) => Json::Big(big.to_string().into()),
                NumberAny::Float(float) => Json::Float(float),
            }),
        };
        let value = value.map_err(|error| self.error(&error))?;
        if let Json::Big(digits) = &value {
            self.meter.charge(block(digits.len()))?;
        }
        Ok(value)
    }

    fn error(&self, error: &JiterError) -> JsonError {
        JsonError::Malformed(error.description(&self.jiter))
    }
}

fn check_depth(depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        let message = format!("nested deeper than {MAX_DEPTH} levels");
        return Err(JsonError::Malformed(message));
    }
    Ok(())
}

/// Of entries with the same key the last one counts, at the place of the first, as in Python.
fn last_wins(mut entries: Vec<(String, Json)>, meter: &Meter) -> Result<Vec<(String, Json)>> {
    if entries.len() <= FEW_KEYS {
        let is_again = |index: usize| {
            entries[..index]
                .iter()
                .any(|(key, _)| *key == entries[index].0)
        };
        if !(1..entries.len()).any(is_again) {
            return Ok(entries);
        }
    }
    // A map doubles, and has a byte more for each place.
    let map = 3 * block_of::<(u8, &str, usize)>(entries.len());
    meter.charge(map)?;
    let mut place: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
    // Where the value of each key is, which comes last.
    let mut last: Vec<usize> = Vec::with_capacity(entries.len());
    let mut first: Vec<bool> = Vec::with_capacity(entries.len());
    for (index, (key, _)) in entries.iter().enumerate() {
        let known = place.get(key.as_str()).copied();
        first.push(known.is_none());
        last.push(index);
        match known {
            Some(known) => last[known] = index,
            None => drop(place.insert(key, index)),
        }
    }
    drop(place);
    for index in 0..entries.len() {
        if first[index] && last[index] != index {
            let value = std::mem::replace(&mut entries[last[index]].1, Json::Null);
            entries[index].1 = value;
        }
    }
    let mut first = first.into_iter();
    entries.retain(|_| first.next().unwrap_or(true));
    meter.release(map);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::budget::Budget;
    use crate::protocol::json::Flat;

    fn value(text: &str) -> Json {
        let mut reader = Reader::new(text.as_bytes()).unwrap();
        let value = reader.value().unwrap();
        reader.finish().unwrap();
        value
    }

    fn error(text: &[u8]) -> String {
        let read = |text| {
            let mut reader = Reader::new(text)?;
            reader.value()?;
            reader.finish()
        };
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_value_is_small_because_mixed_lists_hold_many() {
        assert!(size_of::<Json>() <= 32, "{} bytes", size_of::<Json>());
    }

    #[test]
    fn rectangular_lists_become_one_buffer() {
        let Json::Array(flat) = value("[[1, 2], [3, 4], [5, 6]]") else {
            panic!()
        };
        assert_eq!(
            *flat,
            Flat {
                shape: vec![3, 2],
                cells: Cells::Int(vec![1, 2, 3, 4, 5, 6])
            }
        );
        let Json::Array(flat) = value("[[], []]") else {
            panic!()
        };
        assert_eq!(flat.shape, [2, 0]);
        let Json::Array(flat) = value("[1, 2.5]") else {
            panic!()
        };
        assert!(matches!(&flat.cells, Cells::Number(numbers) if numbers.values == [1.0, 2.5]));
        assert_eq!(
            flat.cells.into_iter().collect::<Vec<_>>(),
            [Json::Int(1), Json::Float(2.5)]
        );
    }

    #[test]
    fn ragged_lists_stay_lists() {
        for text in [
            "[[1], [2, 3]]",
            "[1, [2]]",
            "[[1], 2]",
            "[[], [1]]",
            "[[[1]], []]",
            "[[], [[1]]]",
            "[{}]",
        ] {
            assert!(matches!(value(text), Json::List(_)), "{text}");
        }
    }

    #[test]
    fn reads_what_python_reads() {
        assert_eq!(value("\u{feff}1e400"), Json::Float(f64::INFINITY));
        assert_eq!(value("-Infinity"), Json::Float(f64::NEG_INFINITY));
        assert!(matches!(value("NaN"), Json::Float(x) if x.is_nan()));
        assert!(matches!(value("9223372036854775808"), Json::Big(_)));
        assert_eq!(
            value(r#"{"a": 1, "b": 2, "a": 3}"#),
            value(r#"{"a": 3, "b": 2}"#)
        );
        for (bad, described) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("[1,]", "trailing comma at line 1 column 4"),
            ("{'a': 1}", "key must be a string at line 1 column 2"),
            ("[01]", "invalid number at line 1 column 3"),
            ("[.5]", "expected value at line 1 column 2"),
            ("[0x1F]", "expected `,` or `]` at line 1 column 3"),
            ("1 2", "trailing characters at line 1 column 3"),
            ("[1] x", "trailing characters at line 1 column 5"),
            ("\"abc", "EOF while parsing a string at line 1 column 4"),
            ("[1 /* c */]", "expected `,` or `]` at line 1 column 4"),
        ] {
            assert_eq!(error(bad.as_bytes()), described, "{bad}");
        }
        assert_eq!(error(b"\"\xff\xfe\""), "the body is not UTF-8 from byte 1");
    }

    /// Inside the outermost one.
    #[test]
    fn as_many_arrays_may_be_inside_each_other_as_are_promised_and_no_more() {
        let nested = |arrays: usize| format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
        let read = |text: String| Reader::new(text.as_bytes()).unwrap().value().map(drop);
        assert_eq!(read(nested(1 + MAX_DEPTH)), Ok(()));
        assert!(read(nested(2 + MAX_DEPTH)).is_err());
    }

    #[test]
    fn a_short_body_cannot_ask_for_unbounded_memory() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(error(deep.as_bytes()), "nested deeper than 100 levels");
        let ragged = format!("[{}[[]]]", "[],[1],".repeat(1_001));
        let meter = Meter::new(&Budget::unlimited().allowance(100_000));
        let refused = Reader::metered(ragged.as_bytes(), &meter).unwrap().value();
        assert!(
            matches!(refused, Err(JsonError::OverBudget(_))),
            "{refused:?}"
        );
    }
}
