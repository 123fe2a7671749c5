//! Looks at a Parquet file before it is decoded: how deep its schema is, and how large its pages are when they are
//! inflated. A few hundred bytes can claim gigabytes, and what reads them would believe it.

use std::io::{Read, copy, sink};
use std::ops::Range;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};

use super::thrift::{Field, Malformed, Thrift};
use super::{ParquetError, broken};

/// What stands at both ends of a file.
const MAGIC: &[u8; 4] = b"PAR1";

/// Bytes after the footer: its length and the magic.
const TAIL: usize = 8;

/// Groups nested deeper than this are refused; pandas writes columns and lists of them.
const MAX_DEPTH: usize = 16;

/// A footer may be this long, or a share of what the body may hold: its parts take many times their bytes in memory.
const FREE_FOOTER: usize = 64 << 10;
const FOOTER_SHARE: usize = 8;

/// A cell takes as much memory as this, at least.
const CELL: usize = 8;

/// `DELTA_BYTE_ARRAY`, whose texts each repeat a part of the one before: a page of it may grow without bound.
const INCREMENTAL: i64 = 7;

/// Reads the description of the file.
///
/// # Errors
/// No Parquet, or more than it may be.
pub(super) fn metadata(body: &Bytes, limit: usize) -> Result<ParquetMetaData, ParquetError> {
    let footer = &body[footer_of(body, limit)?];
    check_schema(footer).map_err(|Malformed| broken("the schema cannot be read"))?;
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

/// The schema is a list of elements, of which each names the number of its children: what builds a tree of it recurses.
fn check_schema(footer: &[u8]) -> Result<(), Malformed> {
    const SCHEMA: i64 = 2;
    let mut thrift = Thrift::new(footer);
    let mut last = 0;
    while let Some(field) = thrift.field(last)? {
        last = field.id;
        if field.id != SCHEMA {
            thrift.skip(field)?;
            continue;
        }
        let mut left = thrift.structs(field)?;
        // How many children are still to come, at each level.
        let mut open: Vec<usize> = Vec::new();
        while left > 0 {
            left -= 1;
            let children = children(&mut thrift)?;
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

/// What is left of the memory that the tables of one body may take.
#[derive(Debug)]
pub(super) struct Budget {
    pages: usize,
    cells: usize,
}

impl Budget {
    /// `limit` for the pages, and as much for the table they hold.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            pages: limit,
            cells: limit,
        }
    }

    /// Takes bytes of the table.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), ParquetError> {
        self.cells = self
            .cells
            .checked_sub(bytes)
            .ok_or(ParquetError::TooLarge("the table"))?;
        Ok(())
    }

    /// Takes so many cells of the table.
    pub(super) fn take_cells(&mut self, cells: usize) -> Result<(), ParquetError> {
        self.take(cells.saturating_mul(CELL))
    }

    /// Takes the pages of a column, as they are when they are inflated, and their values.
    ///
    /// # Errors
    /// When there are more than fit, or a page is not what its header says.
    pub(super) fn take_column(
        &mut self,
        body: &Bytes,
        column: &ColumnChunkMetaData,
    ) -> Result<(), ParquetError> {
        let Range { start, end } = chunk(body, column)?;
        let mut at = start;
        while at < end {
            let (length, page) = Page::read(&body[at..end])
                .map_err(|Malformed| broken("a page header cannot be read"))?;
            at += length;
            let packed = body[at..end].get(..page.packed);
            let packed = packed.ok_or_else(|| broken("a page is longer than its column"))?;
            self.pages = { self.pages }
                .checked_sub(page.inflated)
                .ok_or(ParquetError::TooLarge("its pages, inflated,"))?;
            self.take_cells(page.values)?;
            page.check(packed, column.compression())?;
            at += page.packed;
        }
        Ok(())
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
}

impl Page {
    /// The header at the beginning of `bytes`, and its length.
    fn read(bytes: &[u8]) -> Result<(usize, Self), Malformed> {
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
                5 | 7 | SECOND_FORM if Thrift::is_struct(field) => {
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
        assert_eq!(check_schema(&schema(&[2, 0, 1, 0])), Ok(()));
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
