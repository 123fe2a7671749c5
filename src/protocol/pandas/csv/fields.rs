//! Where rows and fields begin and end.

use std::borrow::Cow;

/// The fields of a body, as they come. Quotes mean something at the beginning of a field alone, and twice inside of one in
/// quotes they are one of it; a line ends with a line feed, a carriage return or both; empty lines are none, and neither
/// are lines of white space alone.
pub(crate) struct Fields<'b> {
    body: &'b str,
    at: usize,
    is_open: bool,
}

impl<'b> Fields<'b> {
    pub(crate) fn new(body: &'b str) -> Self {
        Self {
            body,
            at: 0,
            is_open: false,
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.body.as_bytes().get(at).copied()
    }

    /// Where the next row begins.
    pub(crate) fn next_row(&mut self) -> Option<usize> {
        loop {
            while let Some(b'\n' | b'\r') = self.byte(self.at) {
                self.at += 1;
            }
            let start = self.at;
            self.byte(start)?;
            if !self.is_blank(start) {
                return Some(start);
            }
        }
    }

    /// Whether the line holds one cell of white space only, which is read over. A line `""` is a row with an empty cell.
    fn is_blank(&mut self, start: usize) -> bool {
        let rest = &self.body[start..];
        // Most rows begin with something else.
        if !rest.starts_with(['"', ' ']) && !rest.starts_with(char::is_whitespace) {
            return false;
        }
        let (cell, after) = self.field(start);
        let is_blank = after.is_none() && !cell.is_empty() && cell.trim().is_empty();
        if !is_blank {
            self.at = start;
        }
        is_blank
    }

    /// The field that begins here, and where the next of its row begins.
    pub(crate) fn field(&mut self, start: usize) -> (Cow<'b, str>, Option<usize>) {
        if self.byte(start) == Some(b'"') {
            return self.quoted(start + 1);
        }
        let end = self.end_of_plain(start);
        (Cow::Borrowed(&self.body[start..end]), self.after(end))
    }

    fn end_of_plain(&self, start: usize) -> usize {
        let rest = &self.body.as_bytes()[start..];
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'\n' | b'\r'));
        end.map_or(self.body.len(), |end| start + end)
    }

    /// Where the next field of the row begins, when one ends here.
    fn after(&mut self, end: usize) -> Option<usize> {
        self.at = (end + 1).min(self.body.len());
        (self.byte(end) == Some(b',')).then_some(end + 1)
    }

    fn quoted(&mut self, start: usize) -> (Cow<'b, str>, Option<usize>) {
        let body = self.body;
        let mut text = Cow::Borrowed("");
        let mut from = start;
        loop {
            let Some(quote) = body[from..].find('"').map(|quote| from + quote) else {
                self.is_open = true;
                add(&mut text, &body[from..]);
                return (text, self.after(body.len()));
            };
            if self.byte(quote + 1) == Some(b'"') {
                add(&mut text, &body[from..=quote]);
                from = quote + 2;
                continue;
            }
            add(&mut text, &body[from..quote]);
            // What follows the last quote belongs to the field.
            let end = self.end_of_plain(quote + 1);
            add(&mut text, &body[quote + 1..end]);
            return (text, self.after(end));
        }
    }

    pub(crate) fn count_row(&mut self, row: usize) -> usize {
        let at = self.at;
        let mut count = 0;
        let mut next = Some(row);
        while let Some(start) = next {
            next = self.field(start).1;
            count += 1;
        }
        self.at = at;
        count
    }

    pub(crate) fn skip_row(&mut self, row: usize) {
        let mut next = Some(row);
        while let Some(start) = next {
            next = self.field(start).1;
        }
    }

    /// Whether a quoted field was still open at the end.
    pub(crate) fn ends_inside_quotes(&self) -> bool {
        self.is_open
    }
}

fn add<'b>(text: &mut Cow<'b, str>, more: &'b str) {
    if text.is_empty() {
        *text = Cow::Borrowed(more);
    } else if !more.is_empty() {
        text.to_mut().push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    /// The rows of a body, as they are read here.
    fn rows(body: &str) -> Vec<Vec<String>> {
        let mut fields = Fields::new(body);
        let mut rows = Vec::new();
        while let Some(start) = fields.next_row() {
            let mut row = Vec::new();
            let mut next = Some(start);
            while let Some(start) = next {
                let (cell, after) = fields.field(start);
                row.push(cell.into_owned());
                next = after;
            }
            rows.push(row);
        }
        rows
    }

    proptest! {
        #[test]
        fn fields_are_those_of_the_usual_reader(body in "[ab\", \r\n\u{3000}]{0,40}") {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(body.as_bytes());
            let records = reader.records().map(|record| record.unwrap());
            let usual: Vec<Vec<String>> = records
                .map(|record| record.iter().map(str::to_owned).collect::<Vec<_>>())
                .filter(|row| row.len() != 1 || row[0].is_empty() || !row[0].trim().is_empty())
                .collect();
            prop_assert_eq!(rows(&body), usual);
        }
    }
}
