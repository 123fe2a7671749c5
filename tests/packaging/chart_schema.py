"""Writes the types of Kubernetes that values hold into values.schema.json, strictly; `--check` only compares."""

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

from chart_types import CORE, NARROWER, NETWORK, SCALING

SCHEMA = Path(__file__).resolve().parent.parent.parent / "helm/onstage/values.schema.json"
NEWEST = "v1.37.0-local"
# Value and type; `[]` is a list of them.
TYPES = {
    "extraEnv[]": f"{CORE}.EnvVar",
    "extraEnvFrom[]": f"{CORE}.EnvFromSource",
    "extraVolumes[]": f"{CORE}.Volume",
    "extraVolumeMounts[]": f"{CORE}.VolumeMount",
    "extraInitContainers[]": f"{CORE}.Container",
    "extraContainers[]": f"{CORE}.Container",
    "podSecurityContext": f"{CORE}.PodSecurityContext",
    "securityContext": f"{CORE}.SecurityContext",
    "tolerations[]": f"{CORE}.Toleration",
    "affinity": f"{CORE}.Affinity",
    "topologySpreadConstraints[]": f"{CORE}.TopologySpreadConstraint",
    "autoscaling.extraMetrics[]": f"{SCALING}.MetricSpec",
    "autoscaling.behavior": f"{SCALING}.HorizontalPodAutoscalerBehavior",
    "networkPolicy.from[]": f"{NETWORK}.NetworkPolicyPeer",
    "networkPolicy.metricsFrom[]": f"{NETWORK}.NetworkPolicyPeer",
    "networkPolicy.egress[]": f"{NETWORK}.NetworkPolicyEgressRule",
    "ingress.tls[]": f"{NETWORK}.IngressTLS",
}


def main():
    schema = json.loads(SCHEMA.read_text())
    known = json.loads((files("kubernetes_validate") / "kubernetes-json-schema" / NEWEST / "_definitions.json").read_text())
    known = known.get("$defs", known.get("definitions"))
    schema["definitions"] = {}
    for path, name in TYPES.items():
        put(schema, path, {"$ref": f"#/definitions/{name}"})
        add(schema["definitions"], known, name)
    schema["definitions"] = dict(sorted(schema["definitions"].items()))
    text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv:
        SCHEMA.write_text(text)
    elif SCHEMA.read_text() != text:
        sys.exit(f"{SCHEMA} does not have the types of Kubernetes: run `python {sys.argv[0]}`")


def put(schema, path, reference):
    *tables, last = path.removesuffix("[]").split(".")
    for table in tables:
        schema = schema["properties"][table]
    schema["properties"][last] = {"type": "array", "items": reference} if path.endswith("[]") else reference


def add(definitions, known, name):
    if name in definitions:
        return
    found = definitions[name] = strict(known[name])
    narrower = NARROWER.get(name, {})
    for field, rule in narrower.items():
        if not field:
            found.update(rule)
        elif field in found["properties"]:
            found["properties"][field] = narrowed(found["properties"][field], rule)
    for other in re.findall(r'"#/definitions/([^"]+)"', json.dumps(found)):
        add(definitions, known, other)


def narrowed(part, rule):
    """Beside a reference nothing else counts."""
    return {"allOf": [part, rule]} if "$ref" in part else {**part, **rule}


def strict(part):
    """A schema without words, in which tables have no other fields."""
    if isinstance(part, list):
        return [strict(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {}
    for key, value in part.items():
        if key == "properties":
            kept[key] = {name: strict(each) for name, each in value.items()}
        elif key == "type" and isinstance(value, list):
            # Null is how a field is left out of a table, never an entry of a list.
            (kept[key],) = [each for each in value if each != "null"]
        elif key == "$ref":
            kept[key] = "#/definitions/" + value.rpartition("/")[2]
        elif key not in {"description", "format", "default"} and not key.startswith("x-"):
            kept[key] = strict(value)
    if "properties" in kept:
        kept["additionalProperties"] = False
    return kept


if __name__ == "__main__":
    main()
