"""The schemas of Kubernetes, strictly, read once: `kubernetes_validate.validate` reads some megabytes for each object."""

import functools
import json
import re
from importlib.resources import files

import jsonschema
from referencing import Registry, Resource


@functools.cache
def definitions(version):
    return json.loads((files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local-strict/_definitions.json").read_text())


@functools.cache
def validator(version, kind, api_version):
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    folder = files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local-strict"
    schema = json.loads((folder / f"{kind.lower()}-{name}.json").read_text())
    registry = Resource.from_contents(definitions(version)) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.validators.Draft202012Validator(schema, registry=registry)


def validate(entry, version="1.37.0"):
    validator(version, entry["kind"], entry["apiVersion"]).validate(entry)
