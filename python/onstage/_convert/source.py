"""Where a model comes from: an object, a file, or an MLflow package."""

from __future__ import annotations

import json
import logging
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from onstage._extras import missing_package, need
from onstage.errors import ConversionError, OnstageError, RegistryError

log = logging.getLogger("onstage")

# The flavors that can be converted: the library that must be of the package's version, and the extra that brings it.
FLAVORS = {
    "sklearn": "scikit-learn",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "catboost": "catboost",
    "pytorch": "torch",
}
EXTRA = {"pytorch": "torch"}
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^;\s]+)", re.MULTILINE)


@dataclass
class Source:
    """A trained model with what its package says about it."""

    model: Any
    flavor: str | None = None
    signature: Any = None
    example: Any = None
    uri: str | None = None  # `models:/NAME/VERSION`, an alias resolved; or the path


def open_source(given: Any) -> Source:
    """The model that is given, or that a URI or a path names. Loading a pickle runs the code in it."""
    if not isinstance(given, (str, Path)):
        return Source(given)
    text = str(given)
    if re.match(r"^[a-z0-9+-]+:/", text):
        uri = resolve(text)
        return open_package(download(uri), uri)
    path = Path(text).expanduser()
    if (path / "MLmodel").is_file():
        return open_package(path, str(path))
    if path.is_file():
        return Source(load_file(path), uri=str(path))
    if path.is_dir():
        raise ConversionError(f"`{path}` has no `MLmodel`", "name the directory that `mlflow.*.save_model` wrote")
    raise ConversionError(
        f"there is no file or directory `{text}`",
        "expected a path, or a URI of MLflow such as `models:/fraud/3`, `models:/fraud@champion` or `runs:/RUN/model`",
    )


def resolve(uri: str) -> str:
    """`models:/fraud@champion` and `models:/fraud/latest` with the version that they stand for now."""
    found = re.fullmatch(r"models:/([^/@]+)(?:@(.+)|/(latest))", uri)
    if not found:
        return uri
    name, alias, _ = found.groups()
    client = need("mlflow").MlflowClient()
    try:
        if alias:
            return f"models:/{name}/{client.get_model_version_by_alias(name, alias).version}"
        numbers = [int(version.version) for version in client.search_model_versions(f"name='{name}'")]
    except Exception as cause:  # MLflow's errors, and those of the network below it
        raise RegistryError(f"`{uri}` cannot be read: {brief(cause)}", tracking_hint()) from cause
    if not numbers:
        raise RegistryError(f"`{uri}`: the model `{name}` has no version", tracking_hint())
    return f"models:/{name}/{max(numbers)}"


def download(uri: str) -> Path:
    """A local copy of what a URI names."""
    artifacts = need("mlflow.artifacts")
    try:
        return Path(artifacts.download_artifacts(uri))
    except Exception as cause:  # as above
        raise RegistryError(f"`{uri}` cannot be read: {brief(cause)}", tracking_hint()) from cause


def tracking_hint() -> str:
    """Where MLflow looked."""
    mlflow = need("mlflow")
    return f"the registry is `{mlflow.get_registry_uri()}`: set MLFLOW_TRACKING_URI to use another"


def brief(cause: BaseException) -> str:
    """A message of a library on one line, and not endless."""
    # XGBoost puts its own stack behind what it says.
    text = " ".join(str(cause).partition("Stack trace:")[0].split()) or type(cause).__name__
    return text if len(text) <= 500 else f"{text[:500]}…"


def open_package(path: Path, uri: str) -> Source:
    """The model of a package in the directory `path`, with its signature and example."""
    models = need("mlflow.models")
    try:
        manifest = models.Model.load(str(path / "MLmodel"))
    except Exception as cause:  # YAML of any kind
        raise ConversionError(f"`{uri}`: its `MLmodel` cannot be read: {brief(cause)}") from cause
    flavors = manifest.flavors
    flavor = next((name for name in FLAVORS if name in flavors), None)
    if "onnx" in flavors:
        raise ConversionError(f"`{uri}` is an ONNX package already", f"serve it: onstage serve {shlex.quote(uri)}")
    if flavor is None:
        names = ", ".join(f"`{name}`" for name in flavors) or "none"
        raise ConversionError(
            f"`{uri}` has no flavor that can be converted, only {names}",
            f"expected one of {', '.join(FLAVORS)}; log the trained model with `mlflow.sklearn.log_model` or its like",
        )
    check_versions(path, flavor, flavors, uri)
    log.warning("loading `%s`, which runs the code in it: convert only packages that you trust", uri)
    source = Source(load_flavor(path, flavor, uri), flavor, manifest.signature, uri=uri)
    source.example = read_example(manifest, path)
    return source


def check_versions(path: Path, flavor: str, flavors: dict[str, Any], uri: str) -> None:
    """Refuses a package whose library, or the one that pickled it, is here in another version."""
    requirements = path / "requirements.txt"
    pinned = dict(PINNED.findall(requirements.read_text())) if requirements.is_file() else {}
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    pickling = flavors[flavor].get("serialization_format")
    library = FLAVORS[flavor]
    wrong = []
    for name in (library, pickling):
        if not (name and name in pinned):
            continue
        found = installed(name) or (installed(f"{name}-cpu") if name == "xgboost" else None)
        if found is None:
            raise missing_package(ModuleNotFoundError(name=IMPORTS.get(name, name)), EXTRA.get(flavor, flavor))
        if found != pinned[name]:
            wrong.append(f"{name} {pinned[name]}, here is {found}")
    python = str(flavors.get("python_function", {}).get("python_version", ""))
    if newer(python):
        wrong.append(f"Python {python}, here is {sys.version.split()[0]}")
    if wrong:
        raise ConversionError(f"`{uri}` was made with {'; '.join(wrong)}", environment(requirements, flavor, python))


IMPORTS = {"scikit-learn": "sklearn"}


def newer(python: str) -> bool:
    """Whether that Python is newer than this one, the last number aside."""
    found = re.match(r"(\d+)\.(\d+)", python)
    return bool(found) and tuple(map(int, found.groups())) > sys.version_info[:2]  # type: ignore[union-attr]


def environment(requirements: Path, flavor: str, python: str) -> str:
    """The lines that make the environment of a package."""
    found = re.match(r"\d+\.\d+", python)
    program = f"python{found.group()}" if found else "python3"
    wanted = f"'onstage[{EXTRA.get(flavor, flavor)}]'"
    pins = [f"-r {shlex.quote(str(requirements))}"] if requirements.is_file() else []
    return (
        "convert it in its own environment:\n"
        f"  {program} -m venv convert && convert/bin/pip install {' '.join([*pins, wanted])}\n"
        "  convert/bin/onstage-convert …"
    )


def installed(name: str) -> str | None:
    """The version of a package, if it is there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def load_flavor(path: Path, flavor: str, uri: str) -> Any:
    """The model itself, by MLflow."""
    module = need(f"mlflow.{flavor}")
    try:
        if flavor == "pytorch":
            return module.load_model(str(path), map_location="cpu")
        return module.load_model(str(path))
    except ModuleNotFoundError as missing:
        raise missing_package(missing, EXTRA.get(flavor, flavor)) from missing
    except Exception as cause:  # unpickling raises anything
        raise ConversionError(
            f"`{uri}` cannot be loaded: {type(cause).__name__}: {brief(cause)}",
            environment(path / "requirements.txt", flavor, ""),
        ) from cause


def read_example(manifest: Any, path: Path) -> Any:
    """The input example, or none; one that cannot be read is none."""
    try:
        return manifest.load_input_example(str(path))
    except Exception as cause:  # any of numpy's, pandas' and MLflow's
        log.warning("the input example cannot be read: %s", brief(cause))
        return None


def load_file(path: Path) -> Any:
    """The model in a file; what the suffix says decides how it is read."""
    readers = {
        **dict.fromkeys([".pkl", ".pickle", ".joblib"], read_pickle),
        **dict.fromkeys([".json", ".ubj"], read_xgboost),
        ".txt": read_lightgbm,
        ".cbm": read_catboost,
        **dict.fromkeys([".pt", ".pth"], read_torch),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConversionError(f"`{path}` has the suffix `{path.suffix}`, expected one of {', '.join(readers)}")
    try:
        return reader(path)
    except ModuleNotFoundError as missing:
        raise missing_package(missing, "sklearn") from missing
    except OnstageError:
        raise
    except Exception as cause:  # each library has errors of its own for a broken file
        raise ConversionError(f"`{path}` cannot be read: {type(cause).__name__}: {brief(cause)}") from cause


def read_pickle(path: Path) -> Any:
    """What joblib or pickle wrote."""
    log.warning("loading `%s`, which runs the code in it: convert only files that you trust", path)
    return need("joblib").load(path)


def read_xgboost(path: Path) -> Any:
    """What XGBoost's `save_model` wrote."""
    return need("xgboost", "xgboost").Booster(model_file=str(path))


def read_lightgbm(path: Path) -> Any:
    """What LightGBM's `save_model` wrote."""
    return need("lightgbm", "lightgbm").Booster(model_file=str(path))


def read_catboost(path: Path) -> Any:
    """What CatBoost's `save_model` wrote."""
    return need("catboost", "catboost").CatBoost().load_model(str(path))


def read_torch(path: Path) -> Any:
    """A module, whole or as TorchScript."""
    torch = need("torch", "torch")
    log.warning("loading `%s`, which runs the code in it: convert only files that you trust", path)
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError:
        return torch.load(str(path), map_location="cpu", weights_only=False).eval()


def xgboost_estimator(booster: Any) -> Any:
    """The estimator of scikit-learn's kind for a plain booster: only its objective tells classifiers apart."""
    xgboost = need("xgboost", "xgboost")
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective.startswith("multi:softmax"):
        raise ConversionError("the objective is `multi:softmax`", "train with `multi:softprob`, which has probabilities")
    classifier = objective.startswith(("binary:", "multi:"))
    estimator = xgboost.XGBClassifier() if classifier else xgboost.XGBRegressor()
    with tempfile.TemporaryDirectory() as work:
        booster.save_model(f"{work}/model.ubj")
        estimator.load_model(f"{work}/model.ubj")
    return estimator
