//! `config.pbtxt`: Triton's configuration of a model, in the directory above its versions.
//!
//! It can only change which versions are served, what their classes are called, in which shapes clients send and get tensors, and wishes that a
//! package may have too.
//! Everything else in it is ignored, and named once in the log.

mod error;
mod notice;
mod shapes;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::error::{FileError, LabelsError};
use self::notice::Notice;
use self::text::{Message, Value};
use super::confine::Confined;
use super::entries::version_of;
use super::error::PackageError;
use crate::model::{Graph, Hints, Reshapes, Version, real_path, small_file};

/// The file's name.
const CONFIG: &str = "config.pbtxt";

/// Larger ones are not read: Triton's own take some kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// The same of a file of labels.
const MAX_LABELS: u64 = 4 << 20;

/// Versions that are wanted by their number and are not there, at most: each is shown with that reason.
const MOST_MISSING: usize = 20;

/// Longer waits for company would be longer than what clients wait for.
const LONGEST_DELAY: Duration = Duration::from_millis(100);

/// Which versions of a tree are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VersionPolicy {
    /// The highest so many.
    Latest(usize),
    /// Every one.
    All,
    /// These.
    Specific(BTreeSet<Version>),
}

impl VersionPolicy {
    /// That of the tree in `directory`; every version where nothing else is said. Mistakes in the file are reported
    /// when a version is opened.
    pub(super) fn read(directory: &Path) -> Self {
        let text = read(&directory.join(CONFIG), MAX_BYTES);
        let text = text.ok().flatten().unwrap_or_default();
        let policy = Message::read(&text).ok();
        let policy = policy.and_then(|config| Self::said(&config));
        policy.unwrap_or(Self::All)
    }

    fn said(config: &Message<'_>) -> Option<Self> {
        let policy = config.message("version_policy")?;
        // One of three, of which the last one counts.
        let (choice, value) = policy.fields.last()?;
        let Value::Message(value) = value else {
            return None;
        };
        match *choice {
            "latest" => {
                let count = value.number("num_versions").unwrap_or(1).max(1);
                Some(Self::Latest(usize::try_from(count).unwrap_or(usize::MAX)))
            }
            "all" => Some(Self::All),
            "specific" => {
                let versions = value.all("versions").filter_map(Value::as_number);
                let versions: BTreeSet<Version> = versions.map(Version).collect();
                (!versions.is_empty()).then_some(Self::Specific(versions))
            }
            _ => None,
        }
    }

    /// Those of the versions of `tree`, which ascend, that are served. One that is wanted by its number is among them also
    /// where it is not there, so that it is shown with that reason.
    pub(super) fn chosen(&self, tree: &Path, versions: Vec<(Version, PathBuf)>) -> Vec<PathBuf> {
        let wanted = match self {
            Self::All => usize::MAX,
            Self::Latest(count) => *count,
            Self::Specific(wanted) => {
                let mut there: BTreeMap<Version, PathBuf> = versions.into_iter().collect();
                let mut missing = 0;
                let place = |version: &Version| {
                    there.remove(version).or_else(|| {
                        missing += 1;
                        (missing <= MOST_MISSING).then(|| tree.join(version.to_string()))
                    })
                };
                return wanted.iter().filter_map(place).collect();
            }
        };
        let left_out = versions.len().saturating_sub(wanted);
        let chosen = versions.into_iter().skip(left_out);
        chosen.map(|(_, path)| path).collect()
    }
}

/// What a configuration means for a graph without a manifest.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// The names of classes, by output.
    pub(super) labels: BTreeMap<String, Vec<String>>,
    /// Tensors whose shape for clients is another one.
    pub(super) reshapes: Reshapes,
    /// What its operator should know.
    pub(super) notice: Option<String>,
}

/// Reads the configuration of the model at `path`, whose model file is called `model_file`; its wishes go into `hints`.
/// A package with a manifest (`is_bare` is false) speaks for itself.
pub(super) fn apply(
    (path, model_file): (&Path, &Path),
    graph: &Graph,
    is_bare: bool,
    hints: &mut Hints,
) -> Described {
    let Some(Place {
        directory,
        is_above,
    }) = place_of(path)
    else {
        return Described::default();
    };
    let file = directory.join(CONFIG);
    let unreadable = |reason: String| Described {
        notice: Some(format!(
            "`{}` is not used, the model serves without it: {reason}; expected Triton's model configuration as protobuf text",
            file.display()
        )),
        ..Described::default()
    };
    let text = match read(&file, MAX_BYTES) {
        Ok(Some(text)) => text,
        Ok(None) => return Described::default(),
        Err(error) => return unreadable(error.to_string()),
    };
    let config = match Message::read(&text) {
        Ok(config) => config,
        Err(error) => return unreadable(error.to_string()),
    };
    let mut notice = Notice::new(&config, is_bare);
    let (mut labels, mut reshapes) = (BTreeMap::new(), Reshapes::default());
    if !is_above {
        notice.without_versions(&config);
    }
    if is_bare {
        notice.contradictions(&config, (&directory, model_file), graph);
        labels = labels_of(&config, &directory, graph, &mut notice);
        reshapes = shapes::reshapes(&config, graph, &mut notice);
        wish(&config, hints, &mut notice);
    }
    Described {
        labels,
        reshapes,
        notice: notice.into_text(&file),
    }
}

/// Where a configuration is.
struct Place {
    directory: PathBuf,
    /// Whether the versions of the model are directories in it.
    is_above: bool,
}

/// The place of the configuration for the model at `path`: beside the graph, or above its version.
fn place_of(path: &Path) -> Option<Place> {
    let lexical = std::path::absolute(path).ok()?;
    let place = |directory: &Path, is_above| {
        let is_there = directory.join(CONFIG).exists();
        is_there.then(|| Place {
            directory: directory.to_owned(),
            is_above,
        })
    };
    let is_directory = path.is_dir();
    let directory = if is_directory {
        lexical.as_path()
    } else {
        lexical.parent()?
    };
    let beside = is_directory.then(|| place(directory, false)).flatten();
    beside.or_else(|| {
        version_of(directory.file_name())?;
        place(directory.parent()?, true)
    })
}

/// The text of a file; `None` when it is not there.
fn read(file: &Path, limit: u64) -> Result<Option<String>, FileError> {
    match small_file::read(file, limit) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes);
            text.map(Some).map_err(|_| FileError::NotUtf8)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(FileError::TooLarge(error))
        }
        Err(error) => Err(FileError::Io(error)),
    }
}

/// The lines of the files of labels, by the name of their output.
fn labels_of(
    config: &Message<'_>,
    directory: &Path,
    graph: &Graph,
    notice: &mut Notice,
) -> BTreeMap<String, Vec<String>> {
    let mut labels = BTreeMap::new();
    for output in config.messages("output") {
        let name = output.text("name").unwrap_or_default();
        let file = output.text("label_filename").unwrap_or_default();
        let mut outputs = graph.signature.outputs.iter();
        // The notice of contradictions names tensors that the graph does not have.
        if file.is_empty() || !outputs.any(|output| output.name == name) {
            continue;
        }
        match lines(directory, file) {
            Ok(lines) => drop(labels.insert(name.to_owned(), lines)),
            Err(error) => notice.add("output.label_filename", &error.to_string()),
        }
    }
    labels
}

fn lines(directory: &Path, file: &str) -> Result<Vec<String>, LabelsError> {
    let root = real_path(directory).map_err(LabelsError::Directory)?;
    let named = || file.to_owned();
    let path = Confined::new(root).file("label file", Path::new(file));
    let path = path.map_err(|error| match error {
        PackageError::Outside { reason, .. } | PackageError::Missing { reason, .. } => {
            let file = named();
            LabelsError::Place { file, reason }
        }
        error => LabelsError::Package(error),
    })?;
    let text = read(&path, MAX_LABELS).map_err(|error| {
        let file = named();
        LabelsError::File { file, error }
    })?;
    let text = text.unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// What means the same here as in Triton.
fn wish(config: &Message<'_>, hints: &mut Hints, notice: &mut Notice) {
    let count = |number: Option<u64>| {
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.filter(|number| *number > 0)
    };
    hints.max_batch_size = count(config.number("max_batch_size"));
    if config.last("max_batch_size").is_some() && config.number("max_batch_size").is_none() {
        notice.add("max_batch_size", "expected a whole number from 0 up");
    }
    let Some(batching) = config.message("dynamic_batching") else {
        return;
    };
    let delay = batching.number("max_queue_delay_microseconds");
    let delay = delay.map(Duration::from_micros);
    hints.max_queue_delay = delay.map(|delay| delay.min(LONGEST_DELAY));
    if delay > hints.max_queue_delay {
        notice.add(
            "dynamic_batching.max_queue_delay_microseconds",
            "100 ms at most; `models.<name>.batching.max_queue_delay` may be longer",
        );
    }
    let queue = batching.message("default_queue_policy");
    hints.max_queue_size = count(queue.and_then(|queue| queue.number("max_queue_size")));
}

#[cfg(test)]
mod tests;
