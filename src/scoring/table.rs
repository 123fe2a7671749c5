//! A table of any size on this machine, a few rows at a time: each part is a body that a request could have.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use sha2::{Digest as _, Sha256};

/// A line of CSV is not longer than this.
const LONGEST_RECORD: u64 = 64 << 20;

/// What such bodies are called.
const CSV: &str = "text/csv";
const PARQUET: &str = "application/vnd.apache.parquet";

/// Why a file is no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read.
    #[error("cannot read `{0}`: {1}")]
    Io(String, io::Error),
    /// Its name says neither.
    #[error("`{0}` is neither `.csv` nor `.parquet`")]
    Form(String),
    /// It is broken.
    #[error("`{0}` is no table: {1}")]
    Broken(String, String),
}

/// A part of the table, as a body of this content type.
pub type Part = Result<(&'static str, Vec<u8>), TableError>;

/// The parts of the table in `file`, each of at most so many rows.
///
/// # Errors
/// [`TableError`].
pub fn parts(file: &Path, rows: usize) -> Result<Box<dyn Iterator<Item = Part>>, TableError> {
    let shown = file.display().to_string();
    let opened = File::open(file).map_err(|error| TableError::Io(shown.clone(), error))?;
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Box::new(Lines::new(shown, opened, rows)?)),
        Some("parquet") => Ok(Box::new(Batches::new(shown, opened, rows)?)),
        _ => Err(TableError::Form(shown)),
    }
}

/// The digest of a file.
///
/// # Errors
/// [`TableError::Io`].
pub fn digest(file: &Path) -> Result<String, TableError> {
    let failed = |error| TableError::Io(file.display().to_string(), error);
    let mut hash = Sha256::new();
    io::copy(
        &mut File::open(file).map_err(failed)?,
        &mut HashWriter(&mut hash),
    )
    .map_err(failed)?;
    Ok(format!("sha256:{}", hex::encode(hash.finalize())))
}

struct HashWriter<'h>(&'h mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CSV: each part begins with the header.
struct Lines {
    shown: String,
    header: Vec<u8>,
    reader: BufReader<File>,
    rows: usize,
    is_over: bool,
}

impl Lines {
    fn new(shown: String, file: File, rows: usize) -> Result<Self, TableError> {
        let mut lines = Self {
            shown,
            header: Vec::new(),
            reader: BufReader::new(file),
            rows,
            is_over: false,
        };
        let mut header = Vec::new();
        lines.record(&mut header)?;
        lines.header = header;
        Ok(lines)
    }

    /// Reads up to the end of a record: a line break in quotes is part of a cell.
    fn record(&mut self, into: &mut Vec<u8>) -> Result<bool, TableError> {
        let before = into.len();
        let mut is_quoted = false;
        loop {
            let start = into.len();
            let mut line = (&mut self.reader).take(LONGEST_RECORD);
            let read = line.read_until(b'\n', into);
            let read = read.map_err(|error| TableError::Io(self.shown.clone(), error))?;
            if read == 0 {
                return Ok(into.len() > before);
            }
            let quotes = into[start..].iter().filter(|byte| **byte == b'"').count();
            is_quoted ^= quotes % 2 == 1;
            if into.len() - before >= usize::try_from(LONGEST_RECORD).unwrap_or(usize::MAX) {
                let reason = "a record is longer than 64 MiB".to_owned();
                return Err(TableError::Broken(self.shown.clone(), reason));
            }
            if !is_quoted {
                return Ok(true);
            }
        }
    }

    fn part(&mut self) -> Result<Option<Vec<u8>>, TableError> {
        let mut body = self.header.clone();
        let mut rows = 0;
        while rows < self.rows && self.record(&mut body)? {
            rows += 1;
        }
        Ok((rows > 0).then_some(body))
    }
}

impl Iterator for Lines {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.is_over {
            return None;
        }
        let part = self.part().transpose();
        self.is_over = !matches!(part, Some(Ok(_)));
        part.map(|body| Ok((CSV, body?)))
    }
}

/// Parquet: each part is a file of its own.
struct Batches {
    shown: String,
    reader: ParquetRecordBatchReader,
    is_over: bool,
}

impl Batches {
    fn new(shown: String, file: File, rows: usize) -> Result<Self, TableError> {
        let open = || {
            ParquetRecordBatchReaderBuilder::try_new(file)?
                .with_batch_size(rows)
                .build()
        };
        // The reader is made for files of friends.
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(reader)) => Ok(Self {
                shown,
                reader,
                is_over: false,
            }),
            Ok(Err(error)) => Err(TableError::Broken(shown, error.to_string())),
            Err(_) => Err(TableError::Broken(
                shown,
                "its metadata is broken".to_owned(),
            )),
        }
    }

    fn part(&mut self) -> Option<Result<Vec<u8>, String>> {
        let batch = match catch_unwind(AssertUnwindSafe(|| self.reader.next())) {
            Ok(batch) => batch?.map_err(|error| error.to_string()),
            Err(_) => Err("a page is broken".to_owned()),
        };
        Some(batch.and_then(|batch| {
            let mut body = Vec::new();
            let mut write = || {
                let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), None)?;
                writer.write(&batch)?;
                writer.close()
            };
            write().map_err(|error| error.to_string())?;
            Ok(body)
        }))
    }
}

impl Iterator for Batches {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.is_over {
            return None;
        }
        let part = self.part();
        self.is_over = !matches!(part, Some(Ok(_)));
        let broken = |reason| TableError::Broken(self.shown.clone(), reason);
        part.map(|body| Ok((PARQUET, body.map_err(broken)?)))
    }
}
