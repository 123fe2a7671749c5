//! Thrift's compact protocol, as far as it takes to look at a Parquet file before a library believes it.

/// Structs nested deeper than this are refused.
const MAX_DEPTH: usize = 32;

/// A cursor over thrift.
#[derive(Debug, Clone)]
pub(crate) struct Thrift<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// A field of a struct: its number and the type of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) id: i64,
    kind: u8,
}

/// What is no thrift, or too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

impl<'b> Thrift<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next field of a struct; `None` at its end. `last` is the number of the field before.
    pub(crate) fn field(&mut self, last: i64) -> Result<Option<Field>> {
        let head = self.byte()?;
        let (delta, kind) = (i64::from(head >> 4), head & 15);
        if kind == 0 {
            return Ok(None);
        }
        let id = if delta == 0 {
            self.int()?
        } else {
            last.saturating_add(delta)
        };
        Ok(Some(Field { id, kind }))
    }

    /// A whole number, when the field is one.
    pub(crate) fn number(&mut self, field: Field) -> Result<i64> {
        match field.kind {
            BYTE => Ok(i64::from(self.byte()?.cast_signed())),
            4..=I64 => self.int(),
            _ => Err(Malformed),
        }
    }

    /// A yes or no, which is in the field itself.
    pub(crate) fn flag(field: Field) -> Result<bool> {
        match field.kind {
            TRUE => Ok(true),
            FALSE => Ok(false),
            _ => Err(Malformed),
        }
    }

    /// Whether a struct follows.
    pub(crate) fn is_struct(field: Field) -> bool {
        field.kind == STRUCT
    }

    /// The length of a list of structs, when the field is one.
    pub(crate) fn structs(&mut self, field: Field) -> Result<usize> {
        match (field.kind, self.list()?) {
            (LIST, (length, STRUCT)) => Ok(length),
            _ => Err(Malformed),
        }
    }

    /// Reads over the value of a field.
    pub(crate) fn skip(&mut self, field: Field) -> Result<()> {
        self.skip_value(field.kind, 0)
    }

    fn skip_value(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.byte().map(drop),
            4..=I64 => self.varint().map(drop),
            DOUBLE => self.forward(8),
            UUID => self.forward(16),
            BINARY => {
                let length = self.length()?;
                self.forward(length)
            }
            LIST | SET => {
                let (length, kind) = self.list()?;
                (0..length).try_for_each(|_| self.skip_item(kind, depth))
            }
            MAP => {
                let length = self.length()?;
                let kinds = if length == 0 { 0 } else { self.byte()? };
                (0..length).try_for_each(|_| {
                    self.skip_item(kinds >> 4, depth)?;
                    self.skip_item(kinds & 15, depth)
                })
            }
            STRUCT => {
                let mut last = 0;
                while let Some(field) = self.field(last)? {
                    last = field.id;
                    self.skip_value(field.kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// In lists a yes or no takes a byte.
    fn skip_item(&mut self, kind: u8, depth: usize) -> Result<()> {
        match kind {
            TRUE | FALSE => self.byte().map(drop),
            kind => self.skip_value(kind, depth + 1),
        }
    }

    fn list(&mut self) -> Result<(usize, u8)> {
        let head = self.byte()?;
        let length = match usize::from(head >> 4) {
            15 => self.length()?,
            short => short,
        };
        // Each item takes a byte at least.
        if length > self.bytes.len() - self.at {
            return Err(Malformed);
        }
        Ok((length, head & 15))
    }

    fn length(&mut self) -> Result<usize> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let left = self.bytes.len() - self.at;
        if length > left {
            Err(Malformed)
        } else {
            Ok(length)
        }
    }

    fn int(&mut self) -> Result<i64> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn forward(&mut self, bytes: usize) -> Result<()> {
        let left = self.bytes.len() - self.at;
        if bytes > left {
            return Err(Malformed);
        }
        self.at += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_over_what_it_does_not_know() {
        // {1: i32 -3, 2: "ab", 3: [true, false], 4: {1: 5}, 20: i64 300}
        let bytes = [
            0x15, 0x05, 0x18, 0x02, b'a', b'b', 0x19, 0x21, 1, 2, 0x1c, 0x15, 0x0a, 0x00, 0x06,
            0x28, 0xd8, 0x04, 0x00,
        ];
        let mut thrift = Thrift::new(&bytes);
        let mut seen = Vec::new();
        let mut last = 0;
        while let Some(field) = thrift.field(last).unwrap() {
            last = field.id;
            match field.id {
                1 | 20 => seen.push((field.id, thrift.number(field).unwrap())),
                _ => thrift.skip(field).unwrap(),
            }
        }
        assert_eq!(seen, [(1, -3), (20, 300)]);
        assert_eq!(thrift.position(), bytes.len());
    }

    #[test]
    fn depth_and_lengths_are_bounded() {
        let deep = [0x1c; 200];
        let mut thrift = Thrift::new(&deep);
        let field = thrift.field(0).unwrap().unwrap();
        assert_eq!(thrift.skip(field), Err(Malformed));
        let long = [0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f];
        let mut thrift = Thrift::new(&long);
        let field = thrift.field(0).unwrap().unwrap();
        assert_eq!(thrift.skip(field), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut thrift = Thrift::new(&bytes);
            let mut last = 0;
            while let Ok(Some(field)) = thrift.field(last) {
                last = field.id % 1000;
                if thrift.skip(field).is_err() {
                    break;
                }
            }
            prop_assert!(thrift.position() <= bytes.len());
        }
    }
}
