//! A pull reader that decodes nested lists of numbers into one flat buffer, and rows into columns.

use std::collections::HashMap;

use jiter::{Jiter, JiterError, NumberAny, NumberInt, Peek};

use super::value::{Cells, Columns, Flat, Json};

/// Lists nested deeper than this are refused; no tensor has so many dimensions.
const MAX_DEPTH: usize = 100;

/// Values in ragged lists, lists of objects and objects, and columns: each costs many times its text, and no request
/// that can be answered needs so many.
const MAX_TREE_NODES: usize = 2_000_000;

/// Cells that are made for missing keys and values, beside a quarter of the body's length.
const FREE_PADDING: usize = 4_000_000;

/// What pandas puts where a row is too short.
const MISSING_VALUE: Json = Json::Null;

/// What pandas puts where a record lacks a key: no `None` but a NaN, which is true as a boolean and `nan` as text.
const MISSING_KEY: Json = Json::Float(f64::NAN);

/// Why a text is no JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct JsonError(pub(crate) String);

type Result<T> = std::result::Result<T, JsonError>;

/// Reads one document.
pub(crate) struct Reader<'j> {
    jiter: Jiter<'j>,
    /// How many nulls may still be made for keys and values that rows lack: a short body must not grow without bound.
    padding_left: usize,
    /// How many columns, and values in trees, there may still be.
    nodes_left: usize,
}

impl<'j> Reader<'j> {
    /// A reader over UTF-8 text, with or without a byte order mark.
    ///
    /// # Errors
    /// [`JsonError`] when `body` is not UTF-8.
    pub(crate) fn new(body: &'j [u8]) -> Result<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if let Err(error) = std::str::from_utf8(body) {
            return Err(JsonError(format!(
                "the body is not UTF-8 from byte {}",
                error.valid_up_to()
            )));
        }
        Ok(Self {
            jiter: Jiter::new(body).with_allow_inf_nan(),
            padding_left: FREE_PADDING + body.len() / 4,
            nodes_left: MAX_TREE_NODES,
        })
    }

    /// Whether the next value is an object.
    pub(crate) fn next_is_object(&mut self) -> Result<bool> {
        Ok(self.peek()? == Peek::Object)
    }

    /// Whether the next value is a list whose first item is an object.
    pub(crate) fn next_is_list_of_objects(&mut self) -> Result<bool> {
        if self.peek()? != Peek::Array {
            return Ok(false);
        }
        // A broken list is found when it is read.
        let first = self.jiter.clone().known_array();
        Ok(matches!(first, Ok(Some(Peek::Object))))
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

    /// Reads the next value if it is a list of rows of `width` finite numbers. False, with a part of it read, when it is
    /// anything else.
    pub(crate) fn table(&mut self, width: usize, mut visit: impl FnMut(f64)) -> Result<bool> {
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
                    Ok(number.map(&mut visit).is_some())
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

    /// Reads the next value if it is a list of lists, as columns; shorter rows are filled with null. `None`, with
    /// nothing read, when it is anything else.
    pub(crate) fn rows(&mut self) -> Result<Option<Columns>> {
        self.attempt(|reader| {
            let mut columns = Columns::default();
            reader
                .list(|reader, peek| {
                    if peek != Peek::Array {
                        return Ok(false);
                    }
                    let mut index = 0;
                    reader.list(|reader, peek| {
                        if index == columns.cells.len() {
                            reader.count_node()?;
                            columns.cells.push(Cells::default());
                        }
                        reader.cell(
                            &mut columns.cells[index],
                            columns.rows,
                            peek,
                            &MISSING_VALUE,
                        )?;
                        index += 1;
                        Ok(true)
                    })?;
                    columns.rows += 1;
                    Ok(true)
                })
                .map(|regular| regular.then_some(columns))
        })?
        .map(|columns| self.padded(columns, &MISSING_VALUE))
        .transpose()
    }

    /// Reads the next value if it is a list of objects, as columns; missing keys are NaN. `None`, with nothing read,
    /// when it is anything else.
    pub(crate) fn records(&mut self) -> Result<Option<Columns>> {
        self.attempt(|reader| {
            let mut columns = Columns::default();
            let mut index_of: HashMap<String, usize> = HashMap::new();
            reader
                .list(|reader, peek| {
                    if peek != Peek::Object {
                        return Ok(false);
                    }
                    let mut position = 0;
                    reader.object(|reader, key| {
                        // Records repeat their keys in the same order: the map is asked only when they do not.
                        let index = match columns.names.get(position) {
                            Some(name) if name == key => position,
                            _ => *index_of
                                .entry(key.to_owned())
                                .or_insert(columns.names.len()),
                        };
                        if index == columns.names.len() {
                            reader.count_node()?;
                            columns.names.push(key.to_owned());
                            columns.cells.push(Cells::default());
                        }
                        index_of.entry(key.to_owned()).or_insert(index);
                        position = index + 1;
                        let peek = reader.peek()?;
                        reader.cell(&mut columns.cells[index], columns.rows, peek, &MISSING_KEY)
                    })?;
                    columns.rows += 1;
                    Ok(true)
                })
                .map(|regular| regular.then_some(columns))
        })?
        .map(|columns| self.padded(columns, &MISSING_KEY))
        .transpose()
    }

    /// Reads one cell of row `row`, after `filler` for the rows in which the column was missing. A key that comes twice
    /// in one record counts once, with its last value.
    fn cell(&mut self, cells: &mut Cells, row: usize, peek: Peek, filler: &Json) -> Result<()> {
        self.pad(cells, row, filler)?;
        let value = self.value_at(peek, 2)?;
        if cells.len() > row {
            let mut kept: Vec<Json> = std::mem::take(cells).into_iter().collect();
            kept.truncate(row);
            kept.into_iter().for_each(|kept| cells.push(kept));
        }
        cells.push(value);
        Ok(())
    }

    fn padded(&mut self, mut columns: Columns, filler: &Json) -> Result<Columns> {
        for cells in &mut columns.cells {
            self.pad(cells, columns.rows, filler)?;
        }
        Ok(columns)
    }

    /// Fills a column up to `rows`.
    fn pad(&mut self, cells: &mut Cells, rows: usize, filler: &Json) -> Result<()> {
        let missing = rows.saturating_sub(cells.len());
        let Some(left) = self.padding_left.checked_sub(missing) else {
            return Err(JsonError("most values of the rows are missing".to_owned()));
        };
        self.padding_left = left;
        (0..missing).for_each(|_| cells.push(filler.clone()));
        Ok(())
    }

    /// Runs `read`; when it gives `None`, goes back to where it started.
    fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if self.peek()? != Peek::Array {
            return Ok(None);
        }
        let start = self.jiter.clone();
        let result = read(self)?;
        if result.is_none() {
            self.jiter = start;
        }
        Ok(result)
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
        if depth > MAX_DEPTH {
            return Err(JsonError(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        match peek {
            Peek::Array => self.array(depth),
            Peek::Object => {
                let mut entries: Vec<(String, Json)> = Vec::new();
                self.object(|reader, key| {
                    reader.count_node()?;
                    let peek = reader.peek()?;
                    entries.push((key.to_owned(), reader.value_at(peek, depth + 1)?));
                    Ok::<(), JsonError>(())
                })?;
                Ok(Json::Object(last_wins(entries)))
            }
            scalar => self.scalar(scalar),
        }
    }

    /// Takes one value out of the budget of trees.
    fn count_node(&mut self) -> Result<()> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or_else(|| {
            JsonError(format!(
                "more than {MAX_TREE_NODES} values in ragged lists and objects, and columns"
            ))
        })?;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Json> {
        let start = self.jiter.clone();
        let mut flat = Flattener::default();
        if self.flatten(&mut flat, 0, depth)? {
            let shape = flat.dims.into_iter().map(|dim| dim.unwrap_or(0)).collect();
            return Ok(Json::Array(Box::new(Flat {
                shape,
                cells: flat.cells,
            })));
        }
        self.jiter = start;
        let mut items = Vec::new();
        self.list(|reader, peek| {
            reader.count_node()?;
            items.push(reader.value_at(peek, depth + 1)?);
            Ok(true)
        })?;
        Ok(Json::List(items))
    }

    /// Reads the list at nesting `level` of a rectangular array; false when it is none.
    fn flatten(&mut self, flat: &mut Flattener, level: usize, depth: usize) -> Result<bool> {
        if depth + level > MAX_DEPTH {
            return Err(JsonError(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if level == flat.dims.len() {
            if flat.has_leaves {
                return Ok(false);
            }
            flat.dims.push(None);
        }
        let mut count = 0;
        let regular = self.list(|reader, peek| {
            count += 1;
            match peek {
                Peek::Array => reader.flatten(flat, level + 1, depth),
                Peek::Object => Ok(false),
                _ if level + 1 != flat.dims.len() => Ok(false),
                scalar => {
                    flat.has_leaves = true;
                    let value = reader.scalar(scalar)?;
                    flat.cells.push(value);
                    Ok(true)
                }
            }
        })?;
        // An empty list is a leaf level too: `[[], [[1]]]` is ragged.
        flat.has_leaves |= count == 0 && level + 1 == flat.dims.len();
        Ok(regular && *flat.dims[level].get_or_insert(count) == count)
    }

    fn scalar(&mut self, peek: Peek) -> Result<Json> {
        let value = match peek {
            Peek::Null => self.jiter.known_null().map(|()| Json::Null),
            Peek::True | Peek::False => self.jiter.known_bool(peek).map(Json::Bool),
            Peek::String => self
                .jiter
                .known_str()
                .map(|text| Json::Text(text.to_owned())),
            number => self.jiter.known_number(number).map(|number| match number {
                NumberAny::Int(NumberInt::Int(int)) => Json::Int(int),
                NumberAny::Int(NumberInt::BigInt(big)) => Json::Big(big.to_string().into()),
                NumberAny::Float(float) => Json::Float(float),
            }),
        };
        value.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &JiterError) -> JsonError {
        JsonError(error.description(&self.jiter))
    }
}

#[derive(Default)]
struct Flattener {
    dims: Vec<Option<usize>>,
    has_leaves: bool,
    cells: Cells,
}

/// Of entries with the same key the last one counts, at the place of the first, as in Python.
fn last_wins(entries: Vec<(String, Json)>) -> Vec<(String, Json)> {
    let mut index_of: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
    if entries
        .iter()
        .enumerate()
        .all(|(index, (key, _))| index_of.insert(key, index).is_none())
    {
        return entries;
    }
    let mut kept: Vec<(String, Json)> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    for (key, value) in entries {
        match place.get(&key) {
            Some(&index) => kept[index].1 = value,
            None => {
                place.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::protocol::json::Numbers;

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
        read(text).unwrap_err().0
    }

    #[test]
    fn a_value_is_small_because_mixed_lists_hold_many() {
        assert!(size_of::<Json>() <= 32, "{} bytes", size_of::<Json>());
    }

    #[test]
    fn columns_are_not_without_number() {
        let many = vec!["1"; MAX_TREE_NODES + 1].join(",");
        let error = Reader::new(format!("[[{many}]]").as_bytes())
            .unwrap()
            .rows();
        assert!(error.unwrap_err().0.starts_with("more than"));
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
        assert_eq!(
            flat.cells,
            Cells::Number(Numbers {
                values: vec![1.0, 2.5],
                whole: vec![0]
            })
        );
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
        for bad in [
            "",
            "{",
            "[1,]",
            "{'a': 1}",
            "[01]",
            "[.5]",
            "[0x1F]",
            "1 2",
            "[1] x",
            "\"abc",
            "[1 /* c */]",
        ] {
            assert!(!error(bad.as_bytes()).is_empty(), "{bad}");
        }
        assert_eq!(error(b"\"\xff\xfe\""), "the body is not UTF-8 from byte 1");
    }

    #[test]
    fn rows_become_columns_and_short_rows_are_filled() {
        let mut reader = Reader::new(b"[[1, \"a\"], [2], [3, \"c\"]]").unwrap();
        let columns = reader.rows().unwrap().unwrap();
        assert_eq!((columns.rows, columns.cells.len()), (3, 2));
        assert_eq!(columns.cells[0], Cells::Int(vec![1, 2, 3]));
        let text = |text: &str| Json::Text(text.to_owned());
        assert_eq!(
            columns.cells[1],
            Cells::Mixed(vec![text("a"), Json::Null, text("c")])
        );
        let mut reader = Reader::new(b"[1, [2]]").unwrap();
        assert_eq!(reader.rows().unwrap(), None);
        assert!(
            matches!(reader.value().unwrap(), Json::List(_)),
            "it goes back to the start"
        );
    }

    #[test]
    fn records_become_columns_in_order_of_first_appearance() {
        let mut reader =
            Reader::new(br#"[{"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 5, "a": 6}]"#).unwrap();
        let columns = reader.records().unwrap().unwrap();
        assert_eq!(columns.names, ["a", "b", "c"]);
        let numbers = |cells: &Cells| match cells {
            Cells::Number(numbers) => (numbers.values.clone(), numbers.whole.clone()),
            other => panic!("{other:?}"),
        };
        let (values, whole) = numbers(&columns.cells[0]);
        assert!(values[1].is_nan(), "a missing key is NaN");
        assert_eq!((values[0], values[2], whole), (1.0, 6.0, vec![0, 2]));
        let (values, _) = numbers(&columns.cells[1]);
        assert_eq!((values[0], values[1]), (2.0, 3.0));
        assert!(values[2].is_nan());
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
        let ragged = format!("[{}[[]]]", "[],[1],".repeat(1_000_001));
        assert!(error(ragged.as_bytes()).starts_with("more than 2000000 values"));
        let records: Vec<String> = (0..20_000).map(|key| format!("{{\"{key}\":1}}")).collect();
        let body = format!("[{}]", records.join(","));
        let error = Reader::new(body.as_bytes()).unwrap().records().unwrap_err();
        assert!(
            error.0.contains("missing") || error.0.contains("keys"),
            "{error}"
        );
    }
}
