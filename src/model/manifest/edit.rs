//! One line more in an `MLmodel` file that somebody else wrote; the others stay as they are.

/// Why a line was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is written on one line; expected one key on each line below it")]
pub struct EditError(&'static str);

/// The same text, whose `metadata.onstage.baseline` names `file`.
///
/// # Errors
/// [`EditError`].
pub fn with_baseline(text: &str, file: &str) -> Result<String, EditError> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = |indent: usize| format!("{}baseline: {file}", " ".repeat(indent));
    let metadata = match mapping(&lines, (0, lines.len()), (0, "metadata")) {
        Found::Block(at, end) => (at, end),
        Found::Nothing => {
            lines.push("metadata:".to_owned());
            (lines.len() - 1, lines.len())
        }
        Found::Empty(at) => {
            "metadata:".clone_into(&mut lines[at]);
            (at, at + 1)
        }
        Found::OneLine => return Err(EditError("metadata")),
    };
    let (at, end) = metadata;
    let indent = indent_below(&lines, at, end).unwrap_or(2);
    let onstage = match mapping(&lines, (at + 1, end), (indent, "onstage")) {
        Found::Block(at, end) => (at, end),
        Found::Nothing => {
            lines.insert(at + 1, format!("{}onstage:", " ".repeat(indent)));
            (at + 1, at + 2)
        }
        Found::Empty(at) => {
            lines[at] = format!("{}onstage:", " ".repeat(indent));
            (at, at + 1)
        }
        Found::OneLine => return Err(EditError("metadata.onstage")),
    };
    let (at, end) = onstage;
    let below = indent_below(&lines, at, end).unwrap_or(indent + 2);
    match mapping(&lines, (at + 1, end), (below, "baseline")) {
        Found::Block(at, _) | Found::Empty(at) => lines[at] = line(below),
        Found::OneLine => {
            let is_it = |text: &String| key_of(text, below) == Some("baseline");
            let place = lines[at + 1..end].iter().position(is_it);
            lines[at + 1 + place.unwrap_or(0)] = line(below);
        }
        Found::Nothing => lines.insert(at + 1, line(below)),
    }
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

/// A key and what is below it.
enum Found {
    Nothing,
    /// It has no value, or an empty one.
    Empty(usize),
    /// Its value is on its own line.
    OneLine,
    /// The lines of its value end there.
    Block(usize, usize),
}

fn mapping(lines: &[String], (from, to): (usize, usize), (indent, key): (usize, &str)) -> Found {
    let is_it = |line: &String| key_of(line, indent) == Some(key);
    let Some(at) = lines[from..to].iter().position(is_it) else {
        return Found::Nothing;
    };
    let at = from + at;
    let value = lines[at].split_once(':').map_or("", |(_, value)| value);
    let value = value.split(" #").next().unwrap_or_default().trim();
    if matches!(value, "null" | "~" | "{}") {
        return Found::Empty(at);
    }
    if !value.is_empty() {
        return Found::OneLine;
    }
    let is_below = |line: &String| line.trim().is_empty() || leading(line) > indent;
    let below = lines[at + 1..to]
        .iter()
        .take_while(|line| is_below(line))
        .count();
    match below {
        0 => Found::Empty(at),
        below => Found::Block(at, at + 1 + below),
    }
}

/// The key on a line of this indent.
fn key_of(line: &str, indent: usize) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    let key = key.get(indent..)?;
    let is_plain = leading(line) == indent && !key.starts_with(['#', '-']);
    is_plain.then(|| key.trim_end().trim_matches(['\'', '"']))
}

fn leading(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn indent_below(lines: &[String], at: usize, end: usize) -> Option<usize> {
    let below = lines.get(at + 1..end)?;
    let first = below.iter().find(|line| !line.trim().is_empty())?;
    Some(leading(first))
}

#[cfg(test)]
mod tests {
    use super::super::Manifest;
    use super::*;

    const FLAVOR: &str = "flavors:\n  onnx:\n    data: model.onnx\n";

    fn edited(rest: &str) -> String {
        let text = with_baseline(&format!("{FLAVOR}{rest}"), "baseline.json").unwrap();
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        let expected = Some("baseline.json".into());
        assert_eq!(manifest.hints.baseline, expected, "{text}");
        assert!(manifest.hints.unknown.is_empty(), "{text}");
        text.strip_prefix(FLAVOR).unwrap().to_owned()
    }

    #[test]
    fn the_line_goes_where_it_belongs_and_the_others_stay() {
        let block = "metadata:\n  onstage:\n    baseline: baseline.json\n";
        assert_eq!(edited(""), block);
        assert_eq!(edited("metadata: null\n"), block);
        assert_eq!(edited("metadata: {}\n"), block);
        assert_eq!(edited("metadata:\n"), block);
        assert_eq!(
            edited("metadata:\n  team: a\nrun_id: r\n"),
            "metadata:\n  onstage:\n    baseline: baseline.json\n  team: a\nrun_id: r\n"
        );
        assert_eq!(
            edited("metadata:\n    onstage:\n        warmup: true\n    team: a\n"),
            "metadata:\n    onstage:\n        baseline: baseline.json\n        warmup: true\n    team: a\n"
        );
        assert_eq!(edited("metadata:\n  onstage: null\n"), block);
        assert_eq!(
            edited("metadata:\n  onstage:\n    baseline: old.json\n"),
            block
        );
    }

    #[test]
    fn what_is_written_on_one_line_is_left_to_its_writer() {
        for (text, key) in [
            ("metadata: {team: a}\n", "`metadata`"),
            (
                "metadata:\n  onstage: {warmup: true}\n",
                "`metadata.onstage`",
            ),
        ] {
            let error = with_baseline(text, "b.json").unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
