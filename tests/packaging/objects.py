"""The objects that the chart becomes, and what is in them."""

import re

import yaml
from shell import CHART

OLDEST, NEWEST = "1.27.0", "1.37.0"


class Loader(yaml.CSafeLoader):
    """Reads plain text as a number wherever any YAML reader might, so that text without quotes is noticed."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9][0-9_]*)(\.[0-9]*)?[eE][-+]?[0-9]+\Z"), list("-+0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]\Z"), list("yYnN"))
Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value.replace("_", "")))


def twice(loader, node, deep=False):
    """A table; of a key that comes twice the API server refuses both."""
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key is there twice: {sorted(map(str, keys))}"
    return loader.construct_yaml_map(node)


Loader.add_constructor("tag:yaml.org,2002:map", twice)


def parse(text):
    return [document for document in yaml.load_all(text, Loader) if document]


def render(helm, *arguments, release="onstage", version=NEWEST, namespace="models", chart=CHART, **options):
    """The objects that the chart becomes."""
    return parse(helm("template", release, chart, "--namespace", namespace, "--kube-version", version, *arguments, **options))


def of_kind(objects, kind):
    return [found for found in objects if found["kind"] == kind]


def the(objects, kind):
    (found,) = of_kind(objects, kind)
    return found


def template(objects):
    return the(objects, "Deployment")["spec"]["template"]


def pod(objects):
    return template(objects)["spec"]


def container(objects):
    return pod(objects)["containers"][0]


def files(pod):
    """What the kubelet puts below the mounts of a pod's first container: text by path. Only what comes from the pod itself."""
    found = {}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for mount in pod["spec"]["containers"][0]["volumeMounts"]:
        for item in volumes[mount["name"]].get("downwardAPI", {}).get("items", []):
            key = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])[1]
            found[f"{mount['mountPath']}/{item['path']}"] = pod["metadata"]["annotations"].get(key, "")
    return found


CONFIGURATION = "/etc/onstage/config/onstage.toml"


def configuration(objects):
    """The file that the pods of the Deployment read."""
    return files(template(objects))[CONFIGURATION]
