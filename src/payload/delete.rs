//! Rows that have to go: those of one request, or of one value of a column.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow_array::BooleanArray;
use arrow_select::filter::filter_record_batch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::options::HashKey;
use super::read::LogFile;
use super::sink::Sink;
use super::text;
use super::writer::HASHED;
use super::{PayloadError, feedback, log};

/// What has to go.
#[derive(Debug, Clone)]
pub enum Doomed {
    /// The rows of this request.
    Request(String),
    /// The rows of every request with this value in a column, and the labels of these requests.
    Value {
        /// The column.
        column: String,
        /// The value as text.
        value: String,
        /// The key of hashed columns.
        key: Option<HashKey>,
    },
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Rows of the log, of labels and of failed requests.
    pub rows: usize,
    /// Files that were written anew, or removed.
    pub files: usize,
}

/// Looks at everything once more: a file that is on its way from the spool to the log may have been missed in both.
const PASSES: usize = 3;

/// Deletes from all of these places, and from the spools below `cache`.
///
/// # Errors
/// When a file cannot be read or written anew; what was deleted before stays deleted.
pub async fn delete(
    places: &[Sink],
    cache: Option<&Path>,
    doomed: &Doomed,
) -> Result<Deleted, PayloadError> {
    let mut deletion = Deletion {
        doomed,
        requests: BTreeSet::new(),
        deleted: Deleted::default(),
    };
    if let Doomed::Request(id) = doomed {
        deletion.requests.insert(id.clone());
    }
    for _ in 0..PASSES {
        let (before, known) = (deletion.deleted, deletion.requests.len());
        for spool in spools(cache) {
            deletion.pass(&Sink::directory(spool)).await?;
        }
        for place in places {
            deletion.pass(place).await?;
        }
        if (deletion.deleted, deletion.requests.len()) == (before, known) {
            break;
        }
    }
    Ok(deletion.deleted)
}

/// The closed files of every process of this machine.
fn spools(cache: Option<&Path>) -> Vec<PathBuf> {
    let roots = cache
        .into_iter()
        .flat_map(|cache| [log::SPOOL, feedback::SPOOL].map(|name| cache.join(name)));
    let entries = roots
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flatten()
        .flatten();
    let ready = entries.map(|entry| entry.path().join("ready"));
    ready.filter(|path| path.is_dir()).collect()
}

struct Deletion<'d> {
    doomed: &'d Doomed,
    /// The requests that were found: their labels go as well.
    requests: BTreeSet<String>,
    deleted: Deleted,
}

impl Deletion<'_> {
    async fn pass(&mut self, place: &Sink) -> Result<(), PayloadError> {
        let paths = place.list().await?;
        for path in paths.iter().filter(|path| path.ends_with(".parquet")) {
            let bytes = match place.get(path).await {
                Ok(bytes) => bytes,
                // The server has sent it meanwhile, or its time is over.
                Err(_) if !place.list().await?.contains(path) => continue,
                Err(error) => return Err(error),
            };
            let file = LogFile::parse(path, bytes)?;
            let keep = self.keep(&file)?;
            let gone = keep.len() - keep.true_count();
            if gone == 0 {
                continue;
            }
            if keep.true_count() == 0 {
                place.delete(path).await?;
            } else {
                rewrite(place, path, &file, &keep).await?;
            }
            self.deleted.rows += gone;
            self.deleted.files += 1;
        }
        Ok(())
    }

    /// Which rows stay.
    fn keep(&mut self, file: &LogFile) -> Result<BooleanArray, PayloadError> {
        let name = if file.rows.column_by_name("_request_id").is_some() {
            "_request_id"
        } else {
            "request_id"
        };
        let ids = file.texts(name)?;
        if let Doomed::Value { column, value, key } = self.doomed
            && let Some(cells) = file.rows.column_by_name(column)
        {
            let wanted = match (file.hashed.contains(column), key) {
                (true, Some(key)) => key.hash(value),
                (true, None) => {
                    return Err(PayloadError::Unfit(format!(
                        "`{}` holds hashes of `{column}`: the key is needed to find a value",
                        file.name
                    )));
                }
                (false, _) => value.clone(),
            };
            let found = ids.iter().enumerate();
            let found = found.filter(|(row, _)| text::of_cell(cells, *row) == wanted);
            self.requests.extend(found.filter_map(|(_, id)| id.clone()));
        }
        let stays = |id: &Option<String>| id.as_ref().is_none_or(|id| !self.requests.contains(id));
        Ok(ids.iter().map(stays).collect::<Vec<bool>>().into())
    }
}

/// Puts the rows that stay in place of the file.
async fn rewrite(
    place: &Sink,
    path: &str,
    file: &LogFile,
    keep: &BooleanArray,
) -> Result<(), PayloadError> {
    let unwritable = |reason: String| PayloadError::File {
        file: path.to_owned(),
        reason: format!("cannot be written anew: {reason}"),
    };
    let rows =
        filter_record_batch(&file.rows, keep).map_err(|error| unwritable(error.to_string()))?;
    let hashed = serde_json::Value::from(file.hashed.as_slice()).to_string();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new(HASHED.to_owned(), hashed)]))
        .build();
    let temporary =
        tempfile::NamedTempFile::new().map_err(|error| unwritable(error.to_string()))?;
    let target = temporary
        .as_file()
        .try_clone()
        .map_err(|error| unwritable(error.to_string()))?;
    let mut writer = ArrowWriter::try_new(target, rows.schema(), Some(properties))
        .map_err(|error| unwritable(error.to_string()))?;
    let written = writer.write(&rows).and_then(|()| writer.close());
    written.map_err(|error| unwritable(error.to_string()))?;
    place.put(path, temporary.path()).await
}
