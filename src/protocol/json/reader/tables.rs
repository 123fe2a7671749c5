//! Lists of rows and of objects, turned into columns.

use std::collections::HashMap;
use std::ops::Range;

use jiter::Peek;

use super::{JsonError, Reader, Result};
use crate::protocol::json::value::{Cells, Columns, Items, Json};
use crate::protocol::meter::block;
use crate::tensor::Absent;

/// What pandas puts where a row is too short.
const MISSING_VALUE: Json = Json::Null;

/// What pandas puts where a record lacks a key: no `None` but a NaN, which is true as a boolean and `nan` as text.
const MISSING_KEY: Json = Json::Float(Absent::F64);

/// What [`Reader::rows`] and [`Reader::records`] make of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Table {
    /// Its items are all of one kind.
    Columns(Columns),
    /// They are not.
    Irregular,
}

/// An item of a list of objects is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoObject;

fn table(is_regular: bool, columns: Columns) -> Table {
    if is_regular {
        Table::Columns(columns)
    } else {
        Table::Irregular
    }
}

impl Reader<'_> {
    /// Reads the next value if it is a list whose first item is a list, as columns; shorter rows are filled with null.
    /// `None`, with nothing read, when it is anything else.
    ///
    /// # Errors
    /// [`JsonError`].
    pub(crate) fn rows(&mut self) -> Result<Option<Table>> {
        if !matches!(self.first_of_list()?, Some(b'[' | b']')) {
            return Ok(None);
        }
        let mut columns = Columns::default();
        let is_regular = self.each_of(Peek::Array, |reader| {
            let row = columns.rows;
            let mut index = 0;
            reader.list(|reader, peek| {
                if index == columns.cells.len() {
                    reader.meter.push(&mut columns.cells, Cells::default())?;
                }
                let cells = &mut columns.cells[index];
                reader.pad(cells, row, &MISSING_VALUE)?;
                let value = reader.value_at(peek, 2)?;
                cells.push(value, &reader.meter)?;
                index += 1;
                Ok(true)
            })?;
            columns.rows += 1;
            Ok(())
        })?;
        let rows = columns.rows;
        for cells in &mut columns.cells {
            self.pad(cells, rows, &MISSING_VALUE)?;
        }
        Ok(Some(table(is_regular, columns)))
    }

    /// Reads the next value if it is a list whose first item is an object, as columns; missing keys are NaN. `None`, with
    /// nothing read, when it is anything else.
    ///
    /// # Errors
    /// [`JsonError`].
    pub(crate) fn records(&mut self) -> Result<Option<Table>> {
        if self.first_of_list()? != Some(b'{') {
            return Ok(None);
        }
        let mut columns = Columns::default();
        let mut index_of: HashMap<String, usize> = HashMap::new();
        // A key that comes twice in one record counts once, with its last value: what the first made of the form is
        // mended at the end.
        let mut repeated: Vec<usize> = Vec::new();
        let is_regular = self.each_of(Peek::Object, |reader| {
            let row = columns.rows;
            let mut position = 0;
            reader.object(|reader, key| {
                let index = reader.place(key, position, (&mut columns.names, &mut index_of))?;
                if index == columns.cells.len() {
                    reader.meter.push(&mut columns.cells, Cells::default())?;
                    reader.meter.push(&mut columns.gaps, Vec::new())?;
                }
                position = index + 1;
                let cells = &mut columns.cells[index];
                reader.leave_out(cells, row, &mut columns.gaps[index])?;
                let peek = reader.peek()?;
                let value = reader.value_at(peek, 2)?;
                if cells.len() > row {
                    cells.truncate(row);
                    if repeated.last() != Some(&index) {
                        reader.meter.push(&mut repeated, index)?;
                    }
                }
                cells.push(value, &reader.meter)?;
                Ok::<(), JsonError>(())
            })?;
            columns.rows += 1;
            Ok(())
        })?;
        let rows = columns.rows;
        for (cells, gaps) in columns.cells.iter_mut().zip(&mut columns.gaps) {
            self.leave_out(cells, rows, gaps)?;
        }
        repeated.sort_unstable();
        repeated.dedup();
        for index in repeated {
            let cells = std::mem::take(&mut columns.cells[index]);
            columns.cells[index] = cells.narrowed(&self.meter)?;
        }
        Ok(Some(table(is_regular, columns)))
    }

    /// Reads a list of objects, as one list for each of their keys, and nothing for a key that is missing.
    ///
    /// # Errors
    /// [`JsonError`]; inside of it [`NoObject`], when an item is none.
    pub(crate) fn transposed(
        &mut self,
    ) -> Result<std::result::Result<Vec<(String, Json)>, NoObject>> {
        let mut names: Vec<String> = Vec::new();
        let mut index_of: HashMap<String, usize> = HashMap::new();
        // The last value of each, and the row that it is of: of a key that comes twice the last one counts.
        let mut columns: Vec<(Items, usize, Json)> = Vec::new();
        let mut row = 0;
        let is_regular = self.each_of(Peek::Object, |reader| {
            let mut position = 0;
            reader.object(|reader, key| {
                let index = reader.place(key, position, (&mut names, &mut index_of))?;
                position = index + 1;
                let peek = reader.peek()?;
                let value = reader.value_at(peek, 2)?;
                let meter = &reader.meter;
                match columns.get_mut(index) {
                    None => meter.push(&mut columns, (Items::default(), row, value))?,
                    Some((items, last, held)) => {
                        let before = std::mem::replace(held, value);
                        if *last == row {
                            meter.release(before.heap());
                        } else {
                            items.push(before, meter)?;
                        }
                        *last = row;
                    }
                }
                Ok::<(), JsonError>(())
            })?;
            row += 1;
            Ok(())
        })?;
        if !is_regular {
            return Ok(Err(NoObject));
        }
        let meter = &self.meter;
        let mut out = meter.vec(names.len())?;
        for (name, (mut items, _, last)) in names.into_iter().zip(columns) {
            items.push(last, meter)?;
            out.push((name, items.finish(meter)?));
        }
        Ok(Ok(out))
    }

    /// Reads a list, handing each item of this kind to `read`. False when there are others, which are read over.
    fn each_of(
        &mut self,
        kind: Peek,
        mut read: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<bool> {
        let mut is_regular = true;
        self.list(|reader, peek| {
            is_regular &= peek == kind;
            if is_regular {
                read(reader)?;
            } else {
                let skipped = reader.jiter.known_skip(peek);
                skipped.map_err(|error| reader.error(&error))?;
            }
            Ok(true)
        })?;
        Ok(is_regular)
    }

    /// The column of a key, which may be a new one. Records repeat their keys in the same order: the map is used only when
    /// they do not.
    fn place(
        &self,
        key: &str,
        position: usize,
        (names, index_of): (&mut Vec<String>, &mut HashMap<String, usize>),
    ) -> Result<usize> {
        if names.get(position).is_some_and(|name| name == key) {
            return Ok(position);
        }
        if let Some(&index) = index_of.get(key) {
            return Ok(index);
        }
        let index = names.len();
        // The map doubles.
        self.meter
            .charge(3 * (size_of::<(String, usize)>() + 1) + block(key.len()))?;
        index_of.insert(key.to_owned(), index);
        self.meter.push(names, self.meter.text(key)?)?;
        Ok(index)
    }

    /// Fills a column whose key is missing up to `rows`, and notes it.
    fn leave_out(
        &mut self,
        cells: &mut Cells,
        rows: usize,
        gaps: &mut Vec<Range<usize>>,
    ) -> Result<()> {
        if cells.len() < rows {
            self.meter.push(gaps, cells.len()..rows)?;
        }
        self.pad(cells, rows, &MISSING_KEY)
    }

    /// Fills a column up to `rows`.
    fn pad(&mut self, cells: &mut Cells, rows: usize, filler: &Json) -> Result<()> {
        let missing = rows.saturating_sub(cells.len());
        let Some(left) = self.padding_left.checked_sub(missing) else {
            let message = "most values of the rows are missing";
            return Err(JsonError::Malformed(message.to_owned()));
        };
        self.padding_left = left;
        for _ in 0..missing {
            cells.push(filler.clone(), &self.meter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(read: Result<Option<Table>>) -> Columns {
        match read.unwrap() {
            Some(Table::Columns(columns)) => columns,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rows_become_columns_and_short_rows_are_filled() {
        let mut reader = Reader::new(b"[[1, \"a\"], [2], [3, \"c\"]]").unwrap();
        let columns = columns(reader.rows());
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
            "nothing was read"
        );
        let mut reader = Reader::new(b"[[1], 2, {}] ").unwrap();
        assert_eq!(reader.rows().unwrap(), Some(Table::Irregular));
        reader.finish().unwrap();
    }

    #[test]
    fn records_become_columns_in_order_of_first_appearance() {
        let mut reader =
            Reader::new(br#"[{"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 5, "a": 6}]"#).unwrap();
        let columns = columns(reader.records());
        assert_eq!(columns.names, ["a", "b", "c"]);
        let cells = |index: usize| {
            format!(
                "{:?}",
                columns.cells[index].clone().into_iter().collect::<Vec<_>>()
            )
        };
        assert_eq!(
            cells(0),
            "[Int(1), Float(NaN), Int(6)]",
            "a missing key is NaN"
        );
        assert_eq!(cells(1), "[Int(2), Int(3), Float(NaN)]");
        let gaps: Vec<Vec<usize>> = columns
            .gaps
            .iter()
            .map(|gaps| gaps.iter().cloned().flatten().collect())
            .collect();
        assert_eq!(gaps, [vec![1], vec![2], vec![0, 2]]);
    }

    #[test]
    fn a_short_body_cannot_ask_for_columns_of_missing_cells() {
        let records: Vec<String> = (0..20_000).map(|key| format!("{{\"{key}\":1}}")).collect();
        let body = format!("[{}]", records.join(","));
        let error = Reader::new(body.as_bytes()).unwrap().records().unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn of_a_key_that_comes_twice_the_last_value_counts_and_the_form_is_as_if_it_came_once() {
        let read = |text: &str| columns(Reader::new(text.as_bytes()).unwrap().records());
        let twice = read(r#"[{"a": "x", "a": 1}, {"b": 1}, {"a": null, "a": 2, "a": 3}]"#);
        let once = read(r#"[{"a": 1}, {"b": 1}, {"a": 3}]"#);
        assert_eq!(format!("{twice:?}"), format!("{once:?}"));
    }

    #[test]
    fn objects_become_one_list_for_each_key() {
        let transposed = |text: &str| Reader::new(text.as_bytes()).unwrap().transposed().unwrap();
        let value = |text: &str| Reader::new(text.as_bytes()).unwrap().value().unwrap();
        let lists =
            transposed(r#"[{"a": [1], "b": 2}, {"b": 3, "a": [4]}, {"a": [5, 6], "a": [7]}]"#);
        let expected = [("a", "[[1], [4], [7]]"), ("b", "[2, 3]")];
        let expected = expected.map(|(key, text)| (key.to_owned(), value(text)));
        assert_eq!(lists, Ok(expected.to_vec()));
        assert_eq!(transposed(r#"[{"a": 1}, 2, {}]"#), Err(NoObject));
    }
}
