"""The plugin for `mlflow deployments … -t onstage`.

The target `onstage` is the server at http://127.0.0.1:8080, and `onstage:/http://HOST:PORT` another. A deployment is a
registered model that has the alias which the server follows: `champion`, unless `-C alias=…` names another.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.deployments import BaseDeploymentClient, PredictionsResponse

from onstage._client import Client
from onstage._serve import binary
from onstage.errors import ConversionError, OnstageError, RegistryError

DEFAULT = "http://127.0.0.1:8080"
ALIAS = "champion"
KEYS = ("alias", "trusted", "force")


def target_help() -> str:
    """What `mlflow deployments help -t onstage` prints."""
    return (
        "Deploy to a server of onstage that follows an alias of the registry.\n\n"
        f"Targets: `onstage` is {DEFAULT}; `onstage:/http://HOST:PORT` is another.\n"
        "create: converts the model if it is no ONNX package, registers it as --name, moves the alias.\n"
        "update: the same for another version. delete: takes the alias away; the versions stay.\n"
        "Configuration (-C): alias=champion; trusted=true, to convert what an alias names, which runs the code in it;\n"
        "force=true, to update although clients would break."
    )


def run_local(
    target: str | None = None,
    name: str | None = None,
    model_uri: str | None = None,
    flavor: str | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Serves a model on port 8080 until it is stopped; one that is no ONNX package is converted first."""
    import tempfile

    if model_uri is None:
        raise ConversionError("there is nothing to serve", "name it: `-m models:/NAME/VERSION`")
    options = settings(config)
    package = local_package(model_uri)
    with tempfile.TemporaryDirectory() as work:
        if package is None:
            refuse_alias(model_uri, options)
            from onstage._convert import convert

            package = convert(model_uri, output=f"{work}/package")
        command = [binary(), "serve", package, *(["--name", name] if name else []), "--port", "8080"]
        try:
            code = subprocess.run(command, check=False).returncode
        except KeyboardInterrupt:
            code = 0
    if code:
        raise OnstageError(f"`onstage serve` ended with code {code}")


def settings(config: dict[str, Any] | None) -> dict[str, Any]:
    """The configuration, checked."""
    found = dict(config or {})
    unknown = [key for key in found if key not in KEYS]
    if unknown:
        raise OnstageError(f"`{unknown[0]}` is no configuration of this target", f"expected one of {', '.join(KEYS)}")
    return found


def truth(options: dict[str, Any], key: str) -> bool:
    """Whether a switch is on: `-C` gives texts."""
    return str(options.get(key, "")).lower() in ("1", "true", "yes")


def local_package(uri: str) -> str | None:
    """A local copy of a package that is ONNX already, or none."""
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    from onstage._convert.source import brief, resolve

    try:
        path = download_artifacts(resolve(uri)) if ":/" in uri else uri
        return path if "onnx" in Model.load(path).flavors else None
    except OnstageError:
        raise
    except Exception as cause:  # MLflow's errors, and those of the network below it
        raise RegistryError(f"`{uri}` cannot be read: {brief(cause)}") from cause


def refuse_alias(uri: str, options: dict[str, Any]) -> None:
    """Stops before code is run that the user has not named: what an alias points to, others decide."""
    if re.match(r"models:/[^/]+(@|/latest$)", uri) and not truth(options, "trusted"):
        raise ConversionError(
            f"`{uri}` is no ONNX package; to convert it, its code is run, and whoever moves the alias decides what that is",
            "name the version (`models:/NAME/3`), or trust the alias: `-C trusted=true`",
        )


class OnstageClient(BaseDeploymentClient):  # type: ignore[misc]
    """A server of onstage and the registry that it follows."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        rest = target_uri.partition(":/")[2]
        self.url = rest or DEFAULT
        if not self.url.startswith(("http://", "https://")):
            raise OnstageError(f"`{target_uri}` is no target", "expected `onstage`, or `onstage:/http://HOST:PORT`")

    def create_deployment(
        self, name: str, model_uri: str, flavor: Any = None, config: Any = None, endpoint: Any = None
    ) -> dict[str, Any]:
        """Converts a model if need be, registers it as `name`, and moves the alias."""
        options = settings(config)
        version = self.version_of(name, model_uri, options)
        return self.move(name, version, options)

    def update_deployment(
        self, name: str, model_uri: Any = None, flavor: Any = None, config: Any = None, endpoint: Any = None
    ) -> dict[str, Any]:
        """Puts another model in the place of the one that serves, unless that would break its clients."""
        options = settings(config)
        if model_uri is None:
            raise OnstageError("there is nothing to update to", "name the model: `-m models:/NAME/VERSION`")
        before = self.current(name, options)
        if before is None:
            raise OnstageError(f"there is no deployment `{name}`", "create it first: `mlflow deployments create`")
        if not truth(options, "force"):
            self.refuse_rollout(name)
        gate = None if truth(options, "force") else lambda path: refuse_break(f"models:/{name}/{before}", path)
        version = self.version_of(name, model_uri, options, gate)
        return self.move(name, version, options)

    def delete_deployment(self, name: str, config: Any = None, endpoint: Any = None) -> None:
        """Takes the alias away; the versions stay."""
        options = settings(config)
        if self.current(name, options) is None:
            raise OnstageError(f"there is no deployment `{name}`: no version has the alias `{alias(options)}`")
        guarded(lambda: MlflowClient().delete_registered_model_alias(name, alias(options)), f"the alias of `{name}`")

    def list_deployments(self, endpoint: Any = None) -> list[dict[str, Any]]:
        """The registered models with the alias `champion`."""
        models = guarded(lambda: list(MlflowClient().search_registered_models()), "the registry")
        found = []
        for model in models:
            version = (model.aliases or {}).get(ALIAS)
            if version:
                found.append({"name": model.name, "version": str(version), "alias": ALIAS})
        return found

    def get_deployment(self, name: str, endpoint: Any = None) -> dict[str, Any]:
        """The version that the alias names, and its state on the server."""
        version = self.current(name, {})
        if version is None:
            raise OnstageError(f"there is no deployment `{name}`: no version has the alias `{ALIAS}`")
        found: dict[str, Any] = {"name": name, "version": version, "alias": ALIAS, "url": self.url}
        try:
            states = [m for m in Client(self.url).models() if m.get("name") == name]
            found["state"] = next((m.get("state") for m in states if str(m.get("version")) == version), "UNKNOWN")
        except OnstageError as down:
            found["state"] = f"UNKNOWN: {down.message}"
        return found

    def predict(self, deployment_name: Any = None, inputs: Any = None, endpoint: Any = None) -> Any:
        """What the server says to a frame, an array, or a body of MLflow's form."""
        client = Client(self.url, model=deployment_name, token=os.environ.get("TOKEN_FOR_ONSTAGE"))
        forms = ("dataframe_split", "dataframe_records", "inputs", "instances")
        if isinstance(inputs, dict) and any(form in inputs for form in forms):
            return PredictionsResponse({"predictions": client.invoke(inputs)})
        return PredictionsResponse({"predictions": client.predict(inputs)})

    def current(self, name: str, options: dict[str, Any]) -> str | None:
        """The version that the alias names."""
        from mlflow.exceptions import MlflowException

        try:
            return str(MlflowClient().get_model_version_by_alias(name, alias(options)).version)
        except MlflowException as cause:
            if cause.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise RegistryError(f"the alias of `{name}` cannot be read: {cause}") from cause

    def version_of(self, name: str, uri: str, options: dict[str, Any], gate: Callable[[str], None] | None = None) -> str:
        """The version of `name` that holds the model as ONNX: itself, a copy, or its conversion.

        `gate` sees the package before anything is registered.
        """
        import tempfile

        import mlflow

        from onstage._convert.package import register_version, save
        from onstage._convert.source import resolve

        package = local_package(uri)
        if package is None:
            refuse_alias(uri, options)
            from onstage._convert import make

            converted = make(uri)
            if gate is not None:
                with tempfile.TemporaryDirectory() as work:
                    gate(save(converted, Path(work) / "package"))
            return register_version(converted, name).rsplit("/", 1)[1]
        if gate is not None:
            gate(package)
        if ":/" not in uri:
            # A server takes no path of this machine.
            return upload(package, name)
        uri = resolve(uri)
        own = re.fullmatch(rf"models:/{re.escape(name)}/(\d+)", uri)
        if own:
            return own.group(1)
        return str(guarded(lambda: mlflow.register_model(uri, name), f"a version of `{name}`").version)

    def move(self, name: str, version: str, options: dict[str, Any]) -> dict[str, Any]:
        """Moves the alias to a version."""
        guarded(lambda: MlflowClient().set_registered_model_alias(name, alias(options), version), f"the alias of `{name}`")
        print(f"models:/{name}@{alias(options)} is version {version}", file=sys.stderr)
        return {"name": name, "flavor": "onnx", "version": version, "alias": alias(options)}

    def refuse_rollout(self, name: str) -> None:
        """Stops while the server moves this model from one version to another."""
        try:
            busy = [m for m in Client(self.url, timeout=5).models() if m.get("name") == name and m.get("state") == "LOADING"]
        except OnstageError:
            return  # A server that is down rolls nothing out.
        if busy:
            raise OnstageError(
                f"the server is loading version {busy[0].get('version')} of `{name}`",
                "wait until `mlflow deployments get` says READY, or insist: `-C force=true`",
            )


def upload(package: str, name: str) -> str:
    """Registers a package that is in a directory of this machine, by a run that holds its files; gives the version."""
    import mlflow

    def logged() -> Any:
        with mlflow.start_run(run_name=f"upload {name}", nested=True) as run:
            mlflow.log_artifacts(package, "model")
        return mlflow.register_model(f"runs:/{run.info.run_id}/model", name)

    return str(guarded(logged, f"a version of `{name}`").version)


def alias(options: dict[str, Any]) -> str:
    """The alias that the server follows."""
    return str(options.get("alias") or ALIAS)


def refuse_break(before: str, after: str) -> None:
    """Stops where `onstage diff` says that clients would break."""
    from mlflow.artifacts import download_artifacts

    served = guarded(lambda: download_artifacts(before), f"`{before}`")
    found = subprocess.run([binary(), "diff", served, after], capture_output=True, text=True, check=False)
    if found.returncode:
        said = (found.stdout + found.stderr).strip()
        raise OnstageError(
            f"the model cannot take the place of `{before}`:\n{said}",
            "nothing was registered; do it all the same with `-C force=true`",
        )


def guarded(call: Any, what: str) -> Any:
    """Calls MLflow; its errors become ours."""
    from onstage._convert.source import brief

    try:
        return call()
    except OnstageError:
        raise
    except Exception as cause:  # MLflow's errors, and those of the network below it
        raise RegistryError(f"{what} cannot be changed or read: {brief(cause)}") from cause
