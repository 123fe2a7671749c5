//! Looks at a Parquet file before it is decoded: how deep its schema is, and how large its pages are when they are
//! inflated. A few hundred bytes can claim gigabytes, and what reads them would believe it.

use std::io::{Read, copy, sink};
use std::ops::Range;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};

use super::thrift::{Field, Malformed, Thrift};
use super::{ParquetError, broken};
use crate::protocol::meter::Meter;

/// What stands at both ends of a file.
const MAGIC: &[u8; 4] = b"PAR1";

/// Bytes after the footer: its length and the magic.
const TAIL: usize = 8;

/// Groups nested deeper than this are refused; pandas writes columns and lists of them.
const MAX_DEPTH: usize = 16;

/// A footer may be this long, or a share of what the body may hold: its parts take many times their bytes in memory.
const FREE_FOOTER: usize = 64 << 10;
const FOOTER_SHARE: usize = 8;

/// What the library makes of each element of a schema, of each group of rows, and of each column of one.
const ELEMENT: usize = 800;
const GROUP: usize = 320;
const CHUNK: usize = size_of::<ColumnChunkMetaData>() + 256;

/// What it takes for each byte of groups beside that, at most: of names without a letter.
const PART: usize = 24;

/// `DELTA_BYTE_ARRAY`, whose texts each repeat a part of the one before: a page of it may grow without bound.
const INCREMENTAL: i64 = 7;

/// Reads the description of the file.
///
/// # Errors
/// No Parquet, or more than it may be.
pub(crate) fn metadata(
    body: &Bytes,
    limit: usize,
    meter: &Meter,
) -> Result<ParquetMetaData, ParquetError> {
    let footer = &body[footer_of(body, limit)?];
    let size = check_schema(footer).map_err(|Malformed| broken("the schema cannot be read"))?;
    meter.charge(size)?;
    Ok(ParquetMetaDataReader::decode_metadata(footer)?)
}

fn footer_of(body: &[u8], limit: usize) -> Result<Range<usize>, ParquetError> {
    let too_short = || broken("Parquet magic bytes not found in footer");
    let end = body.len().checked_sub(TAIL).ok_or_else(too_short)?;
    let (length, magic) = body[end..].split_at(4);
    if magic != MAGIC || body.len() < TAIL + MAGIC.len() {
        return Err(too_short());
    }
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let start = end
        .checked_sub(length)
        .ok_or_else(|| broken("the footer is longer than the file"))?;
    if length > FREE_FOOTER.max(limit / FOOTER_SHARE) {
        return Err(ParquetError::TooLarge("the footer"));
    }
    Ok(start..end)
}

/// What the description takes in memory.
fn check_schema(footer: &[u8]) -> Result<usize, Malformed> {
    const SCHEMA: i64 = 2;
    const ROW_GROUPS: i64 = 4;
    let mut thrift = Thrift::new(footer);
    let mut size = 2 * footer.len();
    let mut last = 0;
    while let Some(field) = thrift.field(last)? {
        last = field.id;
        match field.id {
            SCHEMA => {
                let elements = thrift.structs(field)?;
                check_elements(&mut thrift, elements)?;
                size += elements * ELEMENT;
            }
            ROW_GROUPS => {
                let begin = thrift.position();
                for _ in 0..thrift.structs(field)? {
                    size += GROUP + chunks(&mut thrift)? * CHUNK;
                }
                size += PART * (thrift.position() - begin);
            }
            _ => thrift.skip(field)?,
        }
    }
    Ok(size)
}

/// How many columns the next group of rows has.
fn chunks(group: &mut Thrift<'_>) -> Result<usize, Malformed> {
    const COLUMNS: i64 = 1;
    let mut count = 0;
    let mut last = 0;
    while let Some(field) = group.field(last)? {
        last = field.id;
        if field.id != COLUMNS {
            group.skip(field)?;
            continue;
        }
        let columns = group.structs(field)?;
        for _ in 0..columns {
            let mut last = 0;
            while let Some(field) = group.field(last)? {
                last = field.id;
                group.skip(field)?;
            }
        }
        count += columns;
    }
    Ok(count)
}

/// The schema is a list of elements, of which each names the number of its children: what builds a tree of it recurses.
fn check_elements(thrift: &mut Thrift<'_>, mut left: usize) -> Result<(), Malformed> {
    // How many children are still to come, at each level.
    let mut open: Vec<usize> = Vec::new();
    while left > 0 {
        left -= 1;
        let children = children(thrift)?;
        if let Some(siblings) = open.last_mut() {
            *siblings = siblings.checked_sub(1).ok_or(Malformed)?;
        }
        if children > left {
            return Err(Malformed);
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > MAX_DEPTH {
            return Err(Malformed);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
}

fn children(element: &mut Thrift<'_>) -> Result<usize, Malformed> {
    const CHILDREN: i64 = 5;
    let mut children = 0;
    let mut last = 0;
    while let Some(field) = element.field(last)? {
        last = field.id;
        if field.id == CHILDREN {
            children = usize::try_from(element.number(field)?).map_err(|_| Malformed)?;
        } else {
            element.skip(field)?;
        }
    }
    Ok(children)
}

/// What is left for the pages of one body, and what counts the memory that its tables take.
#[derive(Debug)]
pub(crate) struct Budget<'m> {
    pages: usize,
    pub(crate) meter: &'m Meter,
}

/// What the pages of a column in one group say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Values, missing ones included.
    pub(crate) values: usize,
    /// Values of the dictionary.
    pub(crate) dictionary: usize,
    /// Bytes of all pages when they are inflated, and of the largest.
    pub(crate) inflated: usize,
    pub(crate) largest: usize,
}

impl<'m> Budget<'m> {
    /// `limit` for the pages.
    pub(crate) fn new(limit: usize, meter: &'m Meter) -> Self {
        Self {
            pages: limit,
            meter,
        }
    }

    /// Takes the pages of a column, as they are when they are inflated.
    ///
    /// # Errors
    /// When there are more than fit, or a page is not what its header says.
    pub(crate) fn take_column(
        &mut self,
        body: &Bytes,
        column: &ColumnChunkMetaData,
    ) -> Result<Size, ParquetError> {
        let Range { start, end } = chunk(body, column)?;
        let mut size = Size::default();
        let mut at = start;
        while at < end {
            let (length, page) = Page::read(&body[at..end])
                .map_err(|Malformed| broken("a page header cannot be read"))?;
            at += length;
            let packed = body[at..end].get(..page.packed);
            let packed = packed.ok_or_else(|| broken("a page is longer than its column"))?;
            self.pages = self
                .pages
                .checked_sub(page.inflated.max(page.packed))
                .ok_or(ParquetError::TooLarge("its pages, inflated,"))?;
            page.check(packed, column.compression())?;
            // What is not compressed stays in the body.
            if column.compression() != Compression::UNCOMPRESSED {
                size.inflated += page.inflated;
                size.largest = size.largest.max(page.inflated);
            }
            if page.is_dictionary {
                size.dictionary = size.dictionary.saturating_add(page.values);
            } else {
                size.values = size.values.saturating_add(page.values);
            }
            at += page.packed;
        }
        Ok(size)
    }
}

/// Where the pages of a column are.
fn chunk(body: &Bytes, column: &ColumnChunkMetaData) -> Result<Range<usize>, ParquetError> {
    let start = column
        .dictionary_page_offset()
        .unwrap_or(column.data_page_offset());
    let range = || {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(column.compressed_size()).ok()?)?;
        (end <= body.len()).then_some(start..end)
    };
    range().ok_or_else(|| broken("a column lies outside of the file"))
}

/// What the header of a page says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    inflated: usize,
    packed: usize,
    values: usize,
    encoding: i64,
    /// Bytes in front that are never compressed.
    levels: usize,
    plain: bool,
    is_dictionary: bool,
}

impl Page {
    /// The header at the beginning of `bytes`, and its length.
    fn read(bytes: &[u8]) -> Result<(usize, Self), Malformed> {
        const DICTIONARY: i64 = 7;
        const SECOND_FORM: i64 = 8;
        let size = |number: i64| usize::try_from(number).map_err(|_| Malformed);
        let mut page = Self::default();
        let mut thrift = Thrift::new(bytes);
        let mut last = 0;
        while let Some(field) = thrift.field(last)? {
            last = field.id;
            match field.id {
                2 => page.inflated = size(thrift.number(field)?)?,
                3 => page.packed = size(thrift.number(field)?)?,
                5 | DICTIONARY | SECOND_FORM if Thrift::is_struct(field) => {
                    page.is_dictionary = field.id == DICTIONARY;
                    page.read_kind(&mut thrift, field.id == SECOND_FORM)?;
                }
                _ => thrift.skip(field)?,
            }
        }
        Ok((thrift.position(), page))
    }

    /// The part that each kind of page has of its own.
    fn read_kind(&mut self, thrift: &mut Thrift<'_>, second_form: bool) -> Result<(), Malformed> {
        let size = |number: i64| usize::try_from(number).map_err(|_| Malformed);
        let mut last = 0;
        while let Some(field) = thrift.field(last)? {
            last = field.id;
            let Field { id, .. } = field;
            match (id, second_form) {
                (1, _) => self.values = self.values.max(size(thrift.number(field)?)?),
                (2, false) | (4, true) => self.encoding = thrift.number(field)?,
                (5 | 6, true) => {
                    let levels = size(thrift.number(field)?)?;
                    self.levels = self.levels.saturating_add(levels);
                }
                (7, true) => self.plain = !Thrift::flag(field)?,
                _ => thrift.skip(field)?,
            }
        }
        Ok(())
    }

    /// Whether the page becomes as large as it says. Other codecs than these two are given a buffer of that size.
    fn check(&self, packed: &[u8], codec: Compression) -> Result<(), ParquetError> {
        if self.encoding == INCREMENTAL {
            let message =
                "the encoding DELTA_BYTE_ARRAY is not read; write the file with pandas' defaults";
            return Err(broken(message));
        }
        let packed = packed
            .get(self.levels..)
            .ok_or_else(|| broken("a page is shorter than its levels"))?;
        let most = u64::try_from(self.inflated)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let bytes = match codec {
            _ if self.plain => return Ok(()),
            Compression::GZIP(_) => copy(
                &mut flate2::read::MultiGzDecoder::new(packed).take(most),
                &mut sink(),
            ),
            Compression::BROTLI(_) => copy(
                &mut brotli::Decompressor::new(packed, 4096).take(most),
                &mut sink(),
            ),
            _ => return Ok(()),
        };
        match bytes {
            Ok(bytes) if bytes < most => Ok(()),
            _ => Err(broken(
                "a page does not inflate to the size that its header says",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema element `{4: "x", 5: children}`.
    fn element(children: u8) -> Vec<u8> {
        vec![0x48, 1, b'x', 0x15, children * 2, 0]
    }

    fn schema(elements: &[u8]) -> Vec<u8> {
        let mut footer = vec![0x15, 2, 0x19, 0xfc, u8::try_from(elements.len()).unwrap()];
        elements
            .iter()
            .for_each(|&children| footer.extend(element(children)));
        footer.push(0);
        footer
    }

    #[test]
    fn a_schema_is_neither_deep_nor_promises_children_it_does_not_have() {
        assert!(check_schema(&schema(&[2, 0, 1, 0])).is_ok());
        assert_eq!(check_schema(&schema(&[15, 0, 0])), Err(Malformed));
        let mut deep = vec![1; 40];
        deep.push(0);
        assert_eq!(check_schema(&schema(&deep)), Err(Malformed));
    }

    #[test]
    fn the_header_of_a_page_is_read() {
        // {1: DATA_PAGE, 2: 100, 3: 7, 5: {1: 25, 2: PLAIN, 3: 3, 4: 3}}
        let header = [
            0x15, 0, 0x15, 0xc8, 1, 0x15, 14, 0x2c, 0x15, 50, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0, 0xff,
        ];
        let (length, page) = Page::read(&header).unwrap();
        assert_eq!(length, header.len() - 1);
        assert_eq!((page.inflated, page.packed, page.values), (100, 7, 25));
        assert!(Page::read(&header[..6]).is_err());
    }

    #[test]
    fn a_footer_lies_in_the_file_and_is_not_most_of_it() {
        let file = |length: u32| {
            let mut file = b"PAR1".to_vec();
            file.resize(200_000, 0);
            file.extend(length.to_le_bytes());
            file.extend(MAGIC);
            file
        };
        assert!(footer_of(&file(100), 0).is_ok());
        let too_large = footer_of(&file(100_000), 0).unwrap_err();
        assert!(
            matches!(too_large, ParquetError::TooLarge(_)),
            "{too_large}"
        );
        assert!(footer_of(&file(300_000), 0).is_err());
        for short in [&b""[..], b"PAR1", b"PAR1PAR1", b"no parquet at all"] {
            assert!(footer_of(short, 0).is_err());
        }
    }
}
