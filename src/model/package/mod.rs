//! A package on disk: found, confined to its directory, read and digested.

mod confine;
mod digest;
mod discover;
mod draft;
mod entries;
mod error;
mod example;
mod fit;
mod name;
mod survey;
mod triton;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::digest::Content;
pub use self::discover::discover;
pub use self::draft::{Draft, DraftError, Example};
pub use self::error::PackageError;
pub use self::fit::Misfit;
pub use self::survey::{Survey, survey};

use self::confine::Confined;
use self::digest::Files;
use crate::model::{
    Conversion, Graph, Manifest, ModelId, ModelName, Reshapes, Signature, real_path,
};

/// The manifest's file name.
const MANIFEST: &str = "MLmodel";

/// One version of a model on disk, read but not loaded.
#[derive(Debug, Clone)]
pub struct Package {
    /// Which model and version it is.
    pub id: ModelId,
    /// The directory, symbolic links resolved.
    pub root: PathBuf,
    /// The model file, absolute, inside `root`.
    pub model_file: PathBuf,
    /// What the `MLmodel` file says, or what was derived from the graph.
    pub manifest: Manifest,
    /// Whether it is a graph alone, without a manifest.
    pub is_bare: bool,
    /// What the model file says.
    pub graph: Graph,
    /// SHA-256 over the package's files, as `sha256:<hex>`.
    pub digest: String,
    /// Bytes of the model file and its external data.
    pub weight_bytes: u64,
    /// What the classes of outputs are called, by the output's name: the label files of a Triton configuration.
    pub labels: ClassLabels,
    /// Tensors that clients send or get in another shape than the graph: `reshape` of a Triton configuration.
    pub reshapes: Reshapes,
    /// What whoever serves it should know: settings of another server that are not heeded.
    pub notice: Option<String>,
}

/// The names of classes, in their order, by the name of the output.
pub type ClassLabels = BTreeMap<String, Vec<String>>;

/// Where the parts of a package are, before anything but directories was read.
struct Layout {
    root: Confined,
    /// The model file relative to `root`; `None` when a manifest names it.
    bare: Option<PathBuf>,
}

impl Package {
    /// Opens the package directory or `.onnx` file at `path`.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        Self::open_named(path, None)
    }

    /// Opens the package at `path` under this name; `None` takes the package's own.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn open_named(path: &Path, name: Option<ModelName>) -> Result<Self, PackageError> {
        let Layout { root, bare } = layout(path)?;
        let mut manifest = match &bare {
            Some(data) => Manifest::of_graph(data.clone()),
            None => Manifest::read(&root.file("manifest", Path::new(MANIFEST))?)
                .map_err(|error| error.named(Conversion::of_directory(path)))?,
        };
        let id = name::identify(path, &root, bare.is_none(), name)?;
        let model_file = root.file("model file", &manifest.onnx.data)?;
        if let Some(example) = &manifest.example {
            root.refuse_escape("input example", &example.artifact_path)?;
            if let Some(path) = &example.serving_input_path {
                root.refuse_escape("input example", path)?;
            }
        }
        let graph = Graph::read(&model_file)?;
        if let Some(signature) = &manifest.signature {
            fit::check(signature, &graph.signature).map_err(|misfit| PackageError::Misfit {
                root: root.path().to_owned(),
                misfit,
            })?;
        }
        let place = (path, manifest.onnx.data.as_path());
        let described = triton::apply(place, &graph, bare.is_some(), &mut manifest.hints);
        let mut files = Files::default();
        files.add(&manifest.onnx.data, model_file.clone());
        let data = root.external_data(&manifest.onnx.data, &model_file, &graph.external_data)?;
        for (relative, file) in data {
            files.add(&relative, file);
        }
        let weight_bytes = files.bytes()?;
        if bare.is_none() {
            files.add_directory(&root)?;
        }
        Ok(Self {
            id,
            root: root.path().to_owned(),
            model_file,
            manifest,
            is_bare: bare.is_some(),
            graph,
            digest: files.digest()?,
            weight_bytes,
            labels: described.labels,
            reshapes: described.reshapes,
            notice: described.notice,
        })
    }

    /// What clients send and get: the signature of the graph, in the shapes for clients.
    pub fn signature(&self) -> Signature {
        self.reshapes.apply(&self.graph.signature)
    }

    /// Which model and version the package at `path` would be, also where it cannot be opened: its own words, else its
    /// path's. A name that is none is made one.
    pub fn presumed_id(path: &Path, name: Option<&ModelName>) -> ModelId {
        name::presume(path, name)
    }

    /// The files that loading it reads, relative to its root.
    pub(crate) fn uses(&self) -> Vec<PathBuf> {
        let beside = self.manifest.onnx.data.parent().unwrap_or(Path::new(""));
        let external = self.graph.external_data.iter();
        let example = self.manifest.example.iter();
        let manifest = (!self.is_bare).then(|| PathBuf::from(MANIFEST));
        let baseline = self.manifest.hints.baseline.clone();
        let files = manifest
            .into_iter()
            .chain(baseline)
            .chain([self.manifest.onnx.data.clone()])
            .chain(external.map(|data| beside.join(&data.location)))
            .chain(example.clone().map(|example| example.artifact_path.clone()))
            .chain(example.filter_map(|example| example.serving_input_path.clone()));
        files.filter(|file| self.root.join(file).exists()).collect()
    }

    /// A ready scoring request (an MLflow `/invocations` JSON body) from the package's input example; `None` when it
    /// has none, or one of a kind that no request can carry.
    ///
    /// # Errors
    /// [`PackageError`] when the example is named in the manifest but cannot be read.
    pub fn serving_input(&self) -> Result<Option<Vec<u8>>, PackageError> {
        match &self.manifest.example {
            Some(info) => example::request(&Confined::new(self.root.clone()), info),
            None => Ok(None),
        }
    }
}

fn layout(path: &Path) -> Result<Layout, PackageError> {
    let found = discover::inspect(path)?;
    if !found.is_dir {
        if !discover::is_onnx(path) {
            return Err(PackageError::NotAModel(path.to_owned()));
        }
        // A link to a file stands for that file, with the external data beside it.
        let file = real_path(path).map_err(PackageError::io(path))?;
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(PackageError::NotAModel(path.to_owned()));
        };
        return Ok(Layout {
            root: Confined::new(directory.to_owned()),
            bare: Some(PathBuf::from(name)),
        });
    }
    let root = Confined::new(real_path(path).map_err(PackageError::io(path))?);
    let directory = discover::Directory::read(path)?;
    if directory.has_manifest {
        return Ok(Layout { root, bare: None });
    }
    match directory.onnx_files.as_slice() {
        [] => Err(directory.nothing_found()),
        [file] => Ok(Layout {
            root,
            bare: Some(PathBuf::from(file)),
        }),
        several => Err(PackageError::SeveralModels {
            path: path.to_owned(),
            files: several
                .iter()
                .map(|name| name.to_string_lossy().into())
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests;
