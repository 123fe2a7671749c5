//! Text for people: sections of two columns, wrapped to the width of the terminal.

use std::ffi::OsString;

const USUAL_WIDTH: usize = 100;
const NARROWEST: usize = 40;
const LEFT_LIMIT: usize = 28;

/// The width that the shell told us, or a usual one.
pub(super) fn width(environment: &[(OsString, OsString)]) -> usize {
    let columns = environment.iter().find(|(name, _)| name == "COLUMNS");
    let columns = columns.and_then(|(_, value)| value.to_str()?.parse().ok());
    columns.unwrap_or(USUAL_WIDTH).max(NARROWEST)
}

/// Paragraphs of aligned rows.
#[derive(Debug)]
pub(super) struct Page {
    width: usize,
    text: String,
}

impl Page {
    pub(super) fn new(width: usize) -> Self {
        let text = String::new();
        Self { width, text }
    }

    pub(super) fn heading(&mut self, heading: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(heading);
        self.text.push('\n');
    }

    /// Rows of a name and a value; what does not fit the line goes on below the value.
    pub(super) fn rows<L: AsRef<str>, R: AsRef<str>>(&mut self, rows: &[(L, R)]) {
        if rows.is_empty() {
            self.text.push_str("  none\n");
        }
        let lengths = rows.iter().map(|(left, _)| left.as_ref().chars().count());
        let left_width = lengths.max().unwrap_or(0).min(LEFT_LIMIT);
        for (left, right) in rows {
            let room = self.width.saturating_sub(left_width + 4).max(20);
            let mut lines = wrap(right.as_ref(), room).into_iter();
            let first = lines.next().unwrap_or_default();
            let row = format!("  {:left_width$}  {first}", left.as_ref());
            self.text.push_str(row.trim_end());
            self.text.push('\n');
            for line in lines {
                self.text.push_str(&" ".repeat(left_width + 4));
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
    }

    /// Columns under headings, each as wide as its longest cell; the last one goes on below itself.
    pub(super) fn table<const N: usize>(&mut self, headings: [&str; N], rows: &[[String; N]]) {
        if rows.is_empty() {
            self.text.push_str("  none\n");
            return;
        }
        let headings = headings.map(str::to_owned);
        let lines = || std::iter::once(&headings).chain(rows);
        let widths: Vec<usize> = (0..N.saturating_sub(1))
            .map(|column| lines().map(|row| row[column].chars().count()).max())
            .map(|longest| longest.unwrap_or(0))
            .collect();
        let indent = widths.iter().map(|width| width + 2).sum::<usize>() + 2;
        let room = self.width.saturating_sub(indent).max(20);
        for row in lines() {
            let mut line = " ".to_owned();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!(" {cell:width$} "));
            }
            let last = row.last().map_or("", String::as_str);
            for (index, rest) in wrap(last, room).into_iter().enumerate() {
                if index > 0 {
                    line = " ".repeat(indent - 1);
                }
                self.text.push_str(format!("{line} {rest}").trim_end());
                self.text.push('\n');
            }
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Breaks at spaces; a word longer than the line stays whole, so that it can be copied.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("it begins with one and only grows");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}

/// `some, of, them`, or a word for none.
pub(super) fn list(items: &[String], none: &str) -> String {
    if items.is_empty() {
        none.to_owned()
    } else {
        items.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_go_on_below_and_long_words_stay_whole() {
        let mut page = Page::new(40);
        let path = "/a/very/long/path/that/nobody/can/break/apart.so";
        page.rows(&[
            ("one", "some words that do not fit one line here"),
            ("path", path),
        ]);
        insta::assert_snapshot!(page.into_text(), @"
          one   some words that do not fit one
                line here
          path  /a/very/long/path/that/nobody/can/break/apart.so
        ");
    }

    #[test]
    fn the_width_is_that_of_the_shell_within_reason() {
        let columns = |value: &str| width(&[("COLUMNS".into(), value.into())]);
        assert_eq!([columns("120"), columns("7"), columns("x")], [120, 40, 100]);
    }
}
