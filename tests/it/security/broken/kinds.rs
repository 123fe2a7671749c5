//! What can be wrong with a package, as files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::onnx::{Parts, save, times, with_external_data, with_external_data_of};

/// One way to be no package that can be served.
pub(crate) struct Kind {
    pub(crate) what: &'static str,
    /// What the reason must say.
    pub(crate) says: &'static str,
    /// The state that the metrics give.
    pub(crate) state: &'static str,
    /// Makes it under this name in this directory, and says where a configuration file would look for it.
    pub(crate) make: Box<Make>,
    /// Whether something is there that a directory of packages would list.
    pub(crate) is_seen: bool,
    /// Whether it is a directory of packages where no name is given for all.
    pub(crate) is_several: bool,
}

pub(crate) type Make = dyn Fn(&Path, &str) -> PathBuf;

impl Kind {
    pub(crate) fn make(&self, directory: &Path, name: &str) -> PathBuf {
        (self.make)(directory, name)
    }

    fn of(
        what: &'static str,
        says: &'static str,
        make: impl Fn(&Path, &str) -> PathBuf + 'static,
    ) -> Self {
        Self {
            what,
            says,
            state: "failed",
            make: Box::new(make),
            is_seen: true,
            is_several: false,
        }
    }

    /// A file with the ending of a graph.
    fn file(what: &'static str, says: &'static str, bytes: impl AsRef<[u8]> + 'static) -> Self {
        Self::of(what, says, move |directory, name| {
            let path = directory.join(format!("{name}.onnx"));
            fs::write(&path, &bytes).unwrap();
            path
        })
    }

    /// A package that is good but for what the function does to it.
    fn package(what: &'static str, says: &'static str, spoil: impl Fn(&Path) + 'static) -> Self {
        Self::of(what, says, move |directory, name| {
            let path = directory.join(name);
            package(&path);
            spoil(&path);
            path
        })
    }

    fn manifest(what: &'static str, says: &'static str, text: impl AsRef<[u8]> + 'static) -> Self {
        Self::package(what, says, move |path| {
            fs::write(path.join("MLmodel"), &text).unwrap();
        })
    }

    fn unsupported(self) -> Self {
        Self {
            state: "unsupported",
            ..self
        }
    }

    fn several(self) -> Self {
        Self {
            is_several: true,
            ..self
        }
    }

    /// Only a configuration file can name it.
    fn unseen(self) -> Self {
        Self {
            is_seen: false,
            ..self
        }
    }
}

pub(crate) const MANIFEST: &str = "flavors:\n  onnx:\n    data: model.onnx\n";

/// The answers of a good package are those of `times(5)`.
pub(crate) fn package(path: &Path) {
    fs::create_dir_all(path).unwrap();
    save(&times(5.0), &path.join("model.onnx"));
    fs::write(path.join("MLmodel"), MANIFEST).unwrap();
}

fn like_the_good_one() -> Parts {
    Parts::default()
        .value(true, "x", 1, &[0, 2])
        .value(false, "y", 1, &[0, 2])
}

fn run(program: &str, arguments: &[&Path]) {
    let status = std::process::Command::new(program).args(arguments).status();
    assert!(status.unwrap().success(), "{program}");
}

/// Ten aliases of ten aliases of …
fn bomb() -> String {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for step in 1..10 {
        let before = format!("*a{},", step - 1).repeat(10);
        text.push_str(&format!("a{step}: &a{step} [{before}]\n"));
    }
    text + MANIFEST
}

fn example(body: &'static str) -> impl Fn(&Path) {
    move |path| {
        fs::write(path.join("serving_input_example.json"), body).unwrap();
        fs::write(path.join("input_example.json"), body).unwrap();
        let example = "saved_input_example_info:\n  artifact_path: input_example.json\n  \
                       serving_input_path: serving_input_example.json\n  type: ndarray\n";
        fs::write(path.join("MLmodel"), format!("{MANIFEST}{example}")).unwrap();
    }
}

fn graphs() -> Vec<Kind> {
    let whole = times(5.0);
    let cut = whole[..whole.len() / 2].to_vec();
    let complex = Parts::default()
        .value(true, "x", 1, &[0, 2])
        .value(false, "y", 14, &[0, 2])
        .node("Identity", &["x"], "y");
    let nobody = like_the_good_one().node("Enchant", &["x"], "y").model();
    let misshapen = like_the_good_one()
        .filled("w", &[3, 3], 1.0)
        .node("MatMul", &["x", "w"], "y")
        .model();
    vec![
        Kind::file("a text", "is a text file", "text, no model.\n"),
        Kind::file("an empty file", "", ""),
        Kind::file("a graph that is cut off", "", cut),
        Kind::file(
            "an output of a type that is not served",
            "complex64",
            complex.model(),
        ),
        Kind::file("an operator that nobody has", "Enchant", nobody),
        Kind::file("a graph that no engine compiles", "", misshapen),
        Kind::file(
            "weights that are not there",
            "is missing",
            with_external_data("w.bin"),
        ),
        Kind::of(
            "weights that are cut off",
            "the file is cut off",
            |directory, name| {
                let path = directory.join(format!("{name}.onnx"));
                let weights = format!("{name}.bin");
                fs::write(directory.join(&weights), [0; 8]).unwrap();
                save(&with_external_data_of(&weights, 1 << 33), &path);
                path
            },
        ),
    ]
}

fn manifests() -> Vec<Kind> {
    vec![
        Kind::manifest("a manifest that is no YAML", "is not a valid `MLmodel` file", "{["),
        Kind::manifest("an empty manifest", "", ""),
        Kind::manifest("a manifest that is not UTF-8", "is not UTF-8 text", *b"flavors:\n  \xff\n"),
        Kind::manifest("a manifest that is a bomb", "is not a valid `MLmodel` file", bomb()),
        Kind::manifest("nested a thousand times", "", "[".repeat(1000)),
        Kind::manifest("a manifest without end", "more than 4 MiB", "#".repeat(5 << 20)),
        Kind::manifest("a list", "", "- flavors\n"),
        Kind::manifest("a manifest that leads outside", "contains `..`", "flavors:\n  onnx:\n    data: ../x.onnx\n"),
        Kind::manifest(
            "another flavor",
            "onstage-convert ",
            "flavors:\n  sklearn:\n    pickled_model: model.pkl\n",
        )
        .unsupported(),
        Kind::manifest(
            "a flavor that is loaded by Python",
            "names the loader `mlflow.sklearn`, which is Python code",
            "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n  sklearn:\n    pickled_model: model.pkl\n",
        )
        .unsupported(),
        Kind::package("no model file", "`model.onnx` is missing", |path| {
            fs::remove_file(path.join("model.onnx")).unwrap();
        }),
        Kind::package("a directory for a manifest", "is not a regular file", |path| {
            fs::remove_file(path.join("MLmodel")).unwrap();
            fs::create_dir(path.join("MLmodel")).unwrap();
        }),
        Kind::package("a directory for a model file", "is not a regular file", |path| {
            fs::remove_file(path.join("model.onnx")).unwrap();
            fs::create_dir(path.join("model.onnx")).unwrap();
        }),
        Kind::package("a note that is none", "registered_model_meta", |path| {
            fs::write(path.join("registered_model_meta"), "[").unwrap();
        }),
        Kind::package("an example that is not there", "is missing", |path| {
            example("{}")(path);
            fs::remove_file(path.join("serving_input_example.json")).unwrap();
            fs::remove_file(path.join("input_example.json")).unwrap();
        }),
        Kind::package("an example that leads outside", "symbolic link", |path| {
            example("{}")(path);
            let file = path.join("serving_input_example.json");
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
        }),
    ]
}

/// What only a file system can do. File modes are left out: these tests may run as root, who reads everything.
fn files() -> Vec<Kind> {
    let link = |to: &'static str| {
        move |directory: &Path, name: &str| {
            let path = directory.join(name);
            let to = if to.is_empty() { name } else { to };
            std::os::unix::fs::symlink(to, &path).unwrap();
            path
        }
    };
    vec![
        Kind::of("nothing", "does not exist", |directory, name| {
            directory.join(name)
        })
        .unseen(),
        Kind::of("an empty directory", "holds no model", |directory, name| {
            let path = directory.join(name);
            fs::create_dir(&path).unwrap();
            path
        }),
        Kind::of("several graphs", "holds", |directory, name| {
            let path = directory.join(name);
            fs::create_dir(&path).unwrap();
            save(&times(1.0), &path.join("a.onnx"));
            save(&times(2.0), &path.join("b.onnx"));
            path
        })
        .several(),
        Kind::of(
            "versions that are no numbers",
            "holds",
            |directory, name| {
                let path = directory.join(name);
                fs::create_dir_all(path.join("v1")).unwrap();
                fs::create_dir_all(path.join("v2")).unwrap();
                save(&times(1.0), &path.join("v1/model.onnx"));
                path
            },
        )
        .several(),
        Kind::of("an empty version", "holds no model", |directory, name| {
            let path = directory.join(name);
            fs::create_dir_all(path.join("1")).unwrap();
            path
        }),
        Kind::of(
            "a link that leads nowhere",
            "does not exist",
            link("nowhere at all"),
        ),
        Kind::of("a link to itself", "cannot read", link("")),
        Kind::of("a pipe", "is not a regular file", |directory, name| {
            let path = directory.join(format!("{name}.onnx"));
            run("mkfifo", &[&path]);
            path
        }),
        Kind::package("a pipe for a manifest", "is not a regular file", |path| {
            fs::remove_file(path.join("MLmodel")).unwrap();
            run("mkfifo", &[&path.join("MLmodel")]);
        }),
        Kind::package("a pipe for a model file", "is not a regular file", |path| {
            fs::remove_file(path.join("model.onnx")).unwrap();
            run("mkfifo", &[&path.join("model.onnx")]);
        }),
        Kind::of("another file", "is no model", |directory, name| {
            let path = directory.join(format!("{name}.txt"));
            fs::write(&path, "x").unwrap();
            path
        })
        .unseen(),
    ]
}

/// All of them.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut all = graphs();
    all.extend(manifests());
    all.extend(files());
    all
}
