//! Protobuf's text format without a schema, as far as a `config.pbtxt` needs it.
//!
//! A list is read as the field given several times, which means the same.

use std::borrow::Cow;

/// Messages inside each other; Triton's own have six.
const MAX_DEPTH: usize = 32;

/// A message: its fields in order, those given several times as often.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message<'t> {
    pub(super) fields: Vec<(&'t str, Value<'t>)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'t> {
    /// In quotes.
    Text(Cow<'t, str>),
    /// A number, a boolean or the name of one of several choices, as written.
    Word(&'t str),
    /// Fields of its own.
    Message(Message<'t>),
}

/// Why a text is none in this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct TextError {
    line: usize,
    problem: String,
}

/// Why what follows a backslash stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum EscapeError {
    #[error("a text has `\\{}`, which means nothing", .0.escape_debug())]
    Unknown(char),
    #[error("`\\{escape}{number}` is no character")]
    NoCharacter { escape: char, number: String },
}

type Result<T> = std::result::Result<T, TextError>;

impl<'t> Message<'t> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`TextError`] with the line.
    pub(super) fn read(text: &'t str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut parser = Parser { text, at: 0 };
        parser.message(None, 0)
    }

    /// The values of a field.
    pub(super) fn all<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Value<'t>> {
        let fields = self.fields.iter();
        fields.filter_map(move |(field, value)| (*field == name).then_some(value))
    }

    /// The value of a field that is there once: of several the last one counts, as protobuf has it.
    pub(super) fn last(&self, name: &str) -> Option<&Value<'t>> {
        self.all(name).last()
    }

    /// The message in a field.
    pub(super) fn message(&self, name: &str) -> Option<&Self> {
        match self.last(name)? {
            Value::Message(message) => Some(message),
            Value::Text(_) | Value::Word(_) => None,
        }
    }

    /// The messages in a field that is there several times.
    pub(super) fn messages(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.all(name).filter_map(|value| match value {
            Value::Message(message) => Some(message),
            Value::Text(_) | Value::Word(_) => None,
        })
    }

    /// The text or the word in a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.last(name).and_then(Value::as_text)
    }

    /// The number in a field that takes none below 0.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.last(name).and_then(Value::as_number)
    }
}

impl Value<'_> {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Word(word) => Some(word),
            Self::Message(_) => None,
        }
    }

    /// Protobuf writes them in decimal, hexadecimal or octal.
    pub(super) fn as_number(&self) -> Option<u64> {
        let Self::Word(word) = self else {
            return None;
        };
        let hexadecimal = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        match (hexadecimal, word.strip_prefix('0')) {
            (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
            (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
            _ => word.parse().ok(),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    /// The fields up to the bracket that closes them, or to the end of the file.
    fn message(&mut self, close: Option<u8>, depth: usize) -> Result<Message<'t>> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} messages inside each other")));
        }
        let mut message = Message::default();
        loop {
            match (self.peek(), close) {
                (None, None) => return Ok(message),
                (found, Some(close)) if found == Some(close) => {
                    self.at += 1;
                    return Ok(message);
                }
                (None, Some(close)) => {
                    let expected = char::from(close);
                    return Err(self.error(format!("the file ends, expected `{expected}`")));
                }
                (Some(_), _) => self.field(&mut message, depth)?,
            }
        }
    }

    fn field(&mut self, message: &mut Message<'t>, depth: usize) -> Result<()> {
        let name = self.name()?;
        let has_colon = self.take(b':');
        if self.take(b'[') {
            if !self.take(b']') {
                loop {
                    let value = self.value(true, depth)?;
                    message.fields.push((name, value));
                    if self.take(b']') {
                        break;
                    }
                    self.expect(b',')?;
                }
            }
        } else {
            let value = self.value(has_colon, depth)?;
            message.fields.push((name, value));
        }
        // Either may follow a field, and nothing need.
        if !self.take(b',') {
            self.take(b';');
        }
        Ok(())
    }

    /// A field's name; that of an extension is in brackets.
    fn name(&mut self) -> Result<&'t str> {
        if self.take(b'[') {
            let name = self.run(|byte| is_of_word(byte) || byte == b'/');
            self.expect(b']')?;
            return Ok(name);
        }
        let is_of_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
        match self.run(is_of_name) {
            "" => Err(self.unexpected("the name of a field")),
            name => Ok(name),
        }
    }

    fn value(&mut self, has_colon: bool, depth: usize) -> Result<Value<'t>> {
        for (open, close) in [(b'{', b'}'), (b'<', b'>')] {
            if self.take(open) {
                return self.message(Some(close), depth + 1).map(Value::Message);
            }
        }
        match self.peek() {
            Some(b'"' | b'\'') if has_colon => self.texts().map(Value::Text),
            Some(b'-') if has_colon => {
                let start = self.at;
                self.at += 1;
                // A space may follow the sign.
                match self.word() {
                    "" => Err(self.unexpected("a number")),
                    _ => Ok(Value::Word(&self.text[start..self.at])),
                }
            }
            Some(_) if has_colon => match self.word() {
                "" => Err(self.unexpected("a value")),
                word => Ok(Value::Word(word)),
            },
            _ => Err(self.unexpected("`:` or `{`")),
        }
    }

    fn word(&mut self) -> &'t str {
        self.run(|byte| is_of_word(byte) || byte == b'+' || byte == b'-')
    }

    /// Texts beside each other are one.
    fn texts(&mut self) -> Result<Cow<'t, str>> {
        let mut whole = self.quoted()?;
        while let Some(b'"' | b'\'') = self.peek() {
            whole.to_mut().push_str(&self.quoted()?);
        }
        Ok(whole)
    }

    fn quoted(&mut self) -> Result<Cow<'t, str>> {
        let bytes = self.text.as_bytes();
        let quote = bytes[self.at];
        let start = self.at + 1;
        let mut end = start;
        let mut is_escaped = false;
        loop {
            match bytes.get(end) {
                Some(&byte) if byte == quote => break,
                None | Some(b'\n') => {
                    return Err(self.error("a text without its last quote".into()));
                }
                Some(b'\\') => {
                    is_escaped = true;
                    end += 1;
                }
                Some(_) => {}
            }
            end += 1;
        }
        let inside = &self.text[start..end];
        let text = match is_escaped {
            false => Cow::Borrowed(inside),
            true => {
                let unescaped = unescaped(inside.as_bytes());
                let unescaped = unescaped.map_err(|error| self.error(error.to_string()))?;
                Cow::Owned(String::from_utf8_lossy(&unescaped).into_owned())
            }
        };
        self.at = end + 1;
        Ok(text)
    }

    /// The longest run of such bytes, all of them ASCII, from the next token on.
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        self.skip();
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|byte| belongs(*byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{}`", char::from(byte)))),
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// The first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        self.skip();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes to the next token.
    fn skip(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'#' => {
                    let line = self.text[self.at..].bytes();
                    self.at += line.take_while(|byte| *byte != b'\n').count();
                }
                byte if byte.is_ascii_whitespace() || byte == b'\x0b' => self.at += 1,
                _ => return,
            }
        }
    }

    fn unexpected(&self, expected: &str) -> TextError {
        let found = match self.text[self.at..].chars().next() {
            None => "the file ends".to_owned(),
            Some(found) => format!("found `{}`", found.escape_debug()),
        };
        self.error(format!("{found}, expected {expected}"))
    }

    fn error(&self, problem: String) -> TextError {
        let before = self.text[..self.at].bytes();
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        TextError { line, problem }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')
}

/// The bytes that a text in quotes stands for.
fn unescaped(text: &[u8]) -> std::result::Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let escape = rest.first().copied().unwrap_or_default();
        let (most, radix, skipped) = match escape {
            b'0'..=b'7' => (3, 8, 0),
            b'x' | b'X' => (2, 16, 1),
            b'u' => (4, 16, 1),
            b'U' => (8, 16, 1),
            _ => {
                bytes.push(simple(escape)?);
                rest = &rest[1..];
                continue;
            }
        };
        let digits = rest[skipped..].iter().take(most);
        let digits = digits.take_while(|digit| char::from(**digit).is_digit(radix));
        let count = digits.count();
        let number = std::str::from_utf8(&rest[skipped..skipped + count]).unwrap_or_default();
        let refuse = || EscapeError::NoCharacter {
            escape: char::from(escape),
            number: number.to_owned(),
        };
        let code = u32::from_str_radix(number, radix).map_err(|_| refuse())?;
        match escape {
            b'u' | b'U' => {
                let character = char::from_u32(code).ok_or_else(refuse)?;
                bytes.extend(character.encode_utf8(&mut [0; 4]).bytes());
            }
            _ => bytes.push(u8::try_from(code).map_err(|_| refuse())?),
        }
        rest = &rest[skipped + count..];
    }
    Ok(bytes)
}

/// The byte that a letter after a backslash stands for.
fn simple(escape: u8) -> std::result::Result<u8, EscapeError> {
    Ok(match escape {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'\'' | b'"' | b'?' => escape,
        _ => return Err(EscapeError::Unknown(char::from(escape))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Message<'_> {
        Message::read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn word(word: &str) -> Value<'_> {
        Value::Word(word)
    }

    #[test]
    fn fields_lists_and_messages_in_every_way_to_write_them() {
        let message = read(
            "name: \"m\"  # the model\n\
             max_batch_size: 0x10;\n\
             input [ { name: 'x' dims: [ -1, 3 ] }, < name: \"y\", dims: 2 dims: 4 > ]\n\
             instance_group { count: - 2 }\n\
             version_policy: { all {} }\n\
             empty: []\n\
             [some.extension/x]: 1.5e-3f\n",
        );
        let names: Vec<&str> = message.fields.iter().map(|(name, _)| *name).collect();
        let expected = [
            "name",
            "max_batch_size",
            "input",
            "input",
            "instance_group",
            "version_policy",
            "some.extension/x",
        ];
        assert_eq!(names, expected);
        assert_eq!(message.text("name"), Some("m"));
        assert_eq!(message.number("max_batch_size"), Some(16));
        let inputs: Vec<_> = message.messages("input").collect();
        assert_eq!(inputs[0].text("name"), Some("x"));
        let dims: Vec<_> = inputs[0].all("dims").collect();
        assert_eq!(dims, [&word("-1"), &word("3")]);
        let dims: Vec<_> = inputs[1].all("dims").collect();
        assert_eq!(
            dims,
            [&word("2"), &word("4")],
            "each by itself is a list too"
        );
        let group = message.message("instance_group").unwrap();
        assert_eq!(
            (group.text("count"), group.number("count")),
            (Some("- 2"), None)
        );
        let policy = message.message("version_policy").unwrap();
        assert_eq!(policy.message("all"), Some(&Message::default()));
        assert_eq!(message.text("some.extension/x"), Some("1.5e-3f"));
    }

    #[test]
    fn texts_are_joined_and_unescaped() {
        let text = |text: &str| {
            let text = format!("x: {text}");
            read(&text).text("x").unwrap().to_owned()
        };
        assert_eq!(text("'a' \"b\"\n # more\n 'c'"), "abc");
        assert_eq!(
            text(r#""\"\'\\\n\t\101\x42\u00e9\U0001F3AD""#),
            "\"'\\\n\tABé🎭"
        );
        assert_eq!(text("'größe # no comment'"), "größe # no comment");
        assert_eq!(text(r"'\303\244'"), "ä", "bytes of UTF-8");
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_one_counts() {
        assert_eq!(read("n: 1 n: 010").number("n"), Some(8));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let error = |text: &str| Message::read(text).unwrap_err().to_string();
        assert_eq!(error("a: 1\nb: }"), "line 2: found `}`, expected a value");
        assert_eq!(error("a"), "line 1: the file ends, expected `:` or `{`");
        assert_eq!(error("a {\n\n"), "line 3: the file ends, expected `}`");
        assert_eq!(error("a: 'x"), "line 1: a text without its last quote");
        assert_eq!(error("a: [1 2]"), "line 1: found `2`, expected `,`");
        assert_eq!(error("a: [1, ]"), "line 1: found `]`, expected a value");
        assert_eq!(
            error("{}"),
            "line 1: found `{`, expected the name of a field"
        );
        assert_eq!(error("a 1"), "line 1: found `1`, expected `:` or `{`");
        assert_eq!(
            error("a: { b: 1 >"),
            "line 1: found `>`, expected the name of a field"
        );
        for text in [
            r"'\q'",
            r"'\x'",
            r"'\uD800'",
            r"'\777'",
            "'\\",
            "'a\nb'",
            "-",
            "ä",
        ] {
            let text = format!("a: {text}");
            assert!(error(&text).starts_with("line 1: "), "{text}");
        }
    }

    #[test]
    fn messages_inside_each_other_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "a{".repeat(depth), "}".repeat(depth));
        read(&nested(MAX_DEPTH));
        let error = Message::read(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert!(error.to_string().contains("inside each other"), "{error}");
        let deep = "a{".repeat(1_000_000);
        assert!(Message::read(&deep).is_err());
        assert!(Message::read(&"a:[".repeat(1_000_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c0:{}<>\\[\\]'\"\\\\,;#\n -]{0,60}|\\PC{0,40}") {
            let _ = Message::read(&text);
        }
    }
}
