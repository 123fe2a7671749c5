"""Writes the types of Kubernetes that values hold into values.schema.json, strictly; `--check` only compares."""

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

SCHEMA = Path(__file__).resolve().parent.parent.parent / "helm/onstage/values.schema.json"
NEWEST = "v1.37.0-local"
CORE, SCALING, NETWORK = "io.k8s.api.core.v1", "io.k8s.api.autoscaling.v2", "io.k8s.api.networking.v1"
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
# What the types leave to the API server, by type and field: texts of a closed set, and ranges.
PORT = {"minimum": 1, "maximum": 65535}
COUNT = {"minimum": 1, "maximum": 2147483647}
SECONDS = {"minimum": 0, "maximum": 2147483647}
NARROWER = {
    f"{CORE}.Toleration": {"operator": {"enum": ["", "Exists", "Equal"]}, "effect": {"enum": ["", "NoSchedule", "PreferNoSchedule", "NoExecute"]}},
    f"{CORE}.TopologySpreadConstraint": {
        "maxSkew": COUNT,
        "minDomains": COUNT,
        "whenUnsatisfiable": {"enum": ["DoNotSchedule", "ScheduleAnyway"]},
        "nodeAffinityPolicy": {"enum": ["Honor", "Ignore"]},
        "nodeTaintsPolicy": {"enum": ["Honor", "Ignore"]},
    },
    f"{CORE}.NodeSelectorRequirement": {"operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]}},
    f"{CORE}.NodeSelector": {"nodeSelectorTerms": {"minItems": 1}},
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement": {"operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]}},
    f"{CORE}.PreferredSchedulingTerm": {"weight": {"minimum": 1, "maximum": 100}},
    f"{CORE}.WeightedPodAffinityTerm": {"weight": {"minimum": 1, "maximum": 100}},
    f"{CORE}.PodAffinityTerm": {"topologyKey": {"minLength": 1}},
    f"{CORE}.Container": {
        "imagePullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
        "terminationMessagePolicy": {"enum": ["File", "FallbackToLogsOnError"]},
        "image": {"minLength": 1},
    },
    f"{CORE}.ContainerPort": {"containerPort": PORT, "hostPort": {"minimum": 0, "maximum": 65535}, "protocol": {"enum": ["TCP", "UDP", "SCTP"]}},
    f"{CORE}.HTTPGetAction": {"scheme": {"enum": ["HTTP", "HTTPS"]}},
    f"{CORE}.GRPCAction": {"port": PORT},
    f"{CORE}.Probe": {
        "periodSeconds": COUNT,
        "timeoutSeconds": COUNT,
        "failureThreshold": COUNT,
        "successThreshold": COUNT,
        "initialDelaySeconds": SECONDS,
        "terminationGracePeriodSeconds": COUNT,
    },
    f"{CORE}.PodSecurityContext": {
        **dict.fromkeys(["runAsUser", "runAsGroup", "fsGroup"], SECONDS),
        "fsGroupChangePolicy": {"enum": ["OnRootMismatch", "Always"]},
        "supplementalGroupsPolicy": {"enum": ["Merge", "Strict"]},
    },
    f"{CORE}.SecurityContext": {**dict.fromkeys(["runAsUser", "runAsGroup"], SECONDS), "procMount": {"enum": ["Default", "Unmasked"]}},
    f"{CORE}.SeccompProfile": {"type": {"enum": ["RuntimeDefault", "Unconfined", "Localhost"]}},
    f"{CORE}.AppArmorProfile": {"type": {"enum": ["RuntimeDefault", "Unconfined", "Localhost"]}},
    f"{CORE}.EmptyDirVolumeSource": {"medium": {"enum": ["", "Memory", "HugePages", "HugePages-2Mi", "HugePages-1Gi"]}},
    **{f"{CORE}.{kind}VolumeSource": {"defaultMode": {"minimum": 0, "maximum": 511}} for kind in ("Secret", "ConfigMap", "Projected", "DownwardAPI")},
    f"{CORE}.PersistentVolumeClaimVolumeSource": {"claimName": {"minLength": 1}},
    f"{CORE}.VolumeMount": {
        "mountPropagation": {"enum": ["None", "HostToContainer", "Bidirectional"]},
        "recursiveReadOnly": {"enum": ["Disabled", "IfPossible", "Enabled"]},
        "mountPath": {"minLength": 1},
    },
    f"{SCALING}.HPAScalingRules": {
        "stabilizationWindowSeconds": {"minimum": 0, "maximum": 3600},
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
        "policies": {"minItems": 1},
    },
    f"{SCALING}.HPAScalingPolicy": {"type": {"enum": ["Pods", "Percent"]}, "periodSeconds": {"minimum": 1, "maximum": 1800}, "value": COUNT},
    f"{SCALING}.MetricSpec": {"type": {"enum": ["Resource", "ContainerResource", "Pods", "Object", "External"]}},
    f"{SCALING}.MetricTarget": {"type": {"enum": ["Utilization", "Value", "AverageValue"]}, "averageUtilization": COUNT},
    f"{NETWORK}.NetworkPolicyPort": {"protocol": {"enum": ["TCP", "UDP", "SCTP"]}, "endPort": PORT},
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
    for field, narrower in NARROWER.get(name, {}).items():
        if field in found["properties"]:
            found["properties"][field].update(narrower)
    for other in re.findall(r'"#/definitions/([^"]+)"', json.dumps(found)):
        add(definitions, known, other)


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
