"""What the types of Kubernetes leave to the API server's validation (pkg/apis/*/validation), by type and field, as JSON Schema: texts of a
closed set, forms of texts, ranges, and fields that go together. The field `""` is the whole type."""

CORE, SCALING, NETWORK = "io.k8s.api.core.v1", "io.k8s.api.autoscaling.v2", "io.k8s.api.networking.v1"
META = "io.k8s.apimachinery.pkg.apis.meta.v1"

PORT = {"minimum": 1, "maximum": 65535}
COUNT = {"minimum": 1, "maximum": 2147483647}
SECONDS = {"minimum": 0, "maximum": 2147483647}
IDENTIFIERS = {"items": {"type": "integer", **SECONDS}}
MODE = {"minimum": 0, "maximum": 511}
TEXT = {"minLength": 1}

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
QUALIFIED = rf"({SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
VALUE = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
# A part of a path that is not `..`.
PART = r"([^/.][^/]*|\.|\.[^/.][^/]*|\.\.[^/]+)"


def whole(pattern, longest=253):
    return {"pattern": f"^{pattern}$", "maxLength": longest}


def words(*found):
    return {"enum": list(found)}


def texts(rule, **more):
    return {"items": {"type": "string", **rule}, **more}


def required(*fields):
    return {"required": list(fields)}


def one_of(*fields):
    """Exactly one of the fields, beside others."""
    return {"oneOf": [required(field) for field in fields]}


def either(field, alone, *others):
    """A field that is not there, or has one of the first values, or the rest holds."""
    return {"anyOf": [{"properties": {field: words(*alone)}}, *others]}


NAME = whole(SUBDOMAIN)
KEY = whole(QUALIFIED, 317)
VARIABLE = whole(r"([-_A-Za-z]|\.[-_A-Za-z0-9]|\.\.[-_.A-Za-z0-9]{3})[-._A-Za-z0-9]*")
DATA_KEY = whole(r"([-_A-Za-z0-9]|\.[-_A-Za-z0-9])[-._A-Za-z0-9]*")
RELATIVE = whole(rf"{PART}(/{PART})*/?", 4096)
# `..data` is the kubelet's.
PROJECTED = whole(rf"([^/.][^/]*|\.|\.[^/.][^/]*)(/{PART})*/?", 4096)
NO_STEPS_BACK = whole(rf"/*({PART}(/+{PART})*/*)?", 4096)
PORT_NAME = {"type": "string", "maxLength": 15, "allOf": [{"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}, {"pattern": "[a-z]"}]}
PORT_OR_NAME = {"anyOf": [{"type": "integer", **PORT}, PORT_NAME]}
SEGMENT = {"pattern": "^[^/%]+$", "not": words(".", "..")}
BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
V4 = rf"{BYTE}(\.{BYTE}){{3}}"
GROUP = "[0-9a-fA-F]{1,4}"
# Up to seven groups with `::` somewhere, or eight; the last two may be written as an address of IPv4.
V6 = "(" + "|".join([f"({GROUP}:){{7}}{GROUP}", f"({GROUP}:){{6}}{V4}", *(f"({GROUP}(:{GROUP}){{{before - 1}}})?::(({GROUP}:){{0,{6 - before}}}({GROUP}|{V4}))?" if before else f"::(({GROUP}:){{0,6}}({GROUP}|{V4}))?" for before in range(7)), f"{GROUP}(:{GROUP}){{6}}::"]) + ")"
CIDR = whole(f"({V4}/(3[0-2]|[12]?[0-9])|{V6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))", 50)

SPECS = {
    "lists of values": {
        "oneOf": [
            {"properties": {"operator": words("In", "NotIn"), "values": texts(whole(VALUE, 63), minItems=1)}, **required("values")},
            {"properties": {"operator": words("Exists", "DoesNotExist"), "values": {"maxItems": 0}}},
        ]
    },
    "profile": {
        "type": words("RuntimeDefault", "Unconfined", "Localhost"),
        "": {
            "oneOf": [
                {"properties": {"type": words("Localhost"), "localhostProfile": TEXT}, **required("localhostProfile")},
                {"properties": {"type": words("RuntimeDefault", "Unconfined")}, "not": required("localhostProfile")},
            ]
        },
    },
    "handler": one_of("exec", "httpGet", "tcpSocket", "grpc"),
    "secret": {"name": NAME, "": required("name")},
    "key of a secret": {"name": NAME, "key": DATA_KEY, "": required("name", "key")},
}


def target(kind, field):
    """A target of this type, with its number and no other."""
    others = [other for other in ("averageUtilization", "averageValue", "value") if other != field]
    return {"properties": {"type": words(kind)}, **required(field), "not": {"anyOf": [required(other) for other in others]}}


UTILIZATION, AVERAGE, RAW = target("Utilization", "averageUtilization"), target("AverageValue", "averageValue"), target("Value", "value")

VOLUMES = {
    **{f"{CORE}.{kind}VolumeSource": {"defaultMode": MODE} for kind in ("Projected", "DownwardAPI")},
    f"{CORE}.Volume": {"name": whole(LABEL, 63), "": {"maxProperties": 2}},
    f"{CORE}.SecretVolumeSource": {"defaultMode": MODE, "secretName": NAME, "": required("secretName")},
    f"{CORE}.ConfigMapVolumeSource": {"defaultMode": MODE, "name": NAME, "": required("name")},
    f"{CORE}.SecretProjection": SPECS["secret"],
    f"{CORE}.ConfigMapProjection": SPECS["secret"],
    f"{CORE}.LocalObjectReference": SPECS["secret"],
    f"{CORE}.KeyToPath": {"key": DATA_KEY, "path": PROJECTED, "mode": MODE},
    f"{CORE}.DownwardAPIVolumeFile": {
        "path": PROJECTED,
        "mode": MODE,
        "fieldRef": {"properties": {"fieldPath": {"pattern": r"^metadata\.(name|namespace|uid|(labels|annotations)(\['[^']+'\])?)$"}}},
        "resourceFieldRef": required("containerName"),
        "": one_of("fieldRef", "resourceFieldRef"),
    },
    f"{CORE}.VolumeProjection": {"": {"minProperties": 1, "maxProperties": 1}},
    f"{CORE}.ServiceAccountTokenProjection": {"path": PROJECTED, "expirationSeconds": {"minimum": 600, "maximum": 2**32}},
    f"{CORE}.PersistentVolumeClaimVolumeSource": {"claimName": NAME},
    f"{CORE}.EmptyDirVolumeSource": {"medium": words("", "Memory", "HugePages", "HugePages-2Mi", "HugePages-1Gi")},
    f"{CORE}.HostPathVolumeSource": {
        "path": {**NO_STEPS_BACK, **TEXT},
        "type": words("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"),
    },
    f"{CORE}.NFSVolumeSource": {"server": TEXT, "path": {"pattern": "^/"}},
    f"{CORE}.CSIVolumeSource": {"driver": whole(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?", 63)},
    f"{CORE}.ImageVolumeSource": {"reference": TEXT, "pullPolicy": words("Always", "IfNotPresent", "Never"), "": required("reference")},
    f"{CORE}.EphemeralVolumeSource": {"": required("volumeClaimTemplate")},
    f"{CORE}.PersistentVolumeClaimSpec": {
        "accessModes": {"minItems": 1, **texts(words("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"))},
        "resources": {"properties": {"requests": required("storage")}, **required("requests")},
        "volumeMode": words("Filesystem", "Block"),
        "": required("accessModes", "resources"),
    },
    f"{CORE}.VolumeMount": {
        "mountPath": {"pattern": "^[^:]+$"},
        "subPath": {"anyOf": [RELATIVE, words("")]},
        "subPathExpr": RELATIVE,
        "mountPropagation": words("None", "HostToContainer", "Bidirectional"),
        "recursiveReadOnly": words("Disabled", "IfPossible", "Enabled"),
        "": {
            "not": required("subPath", "subPathExpr"),
            **either("recursiveReadOnly", ["Disabled"], {"properties": {"readOnly": words(True), "mountPropagation": words("None")}, **required("readOnly")}),
        },
    },
}

CONTAINERS = {
    f"{CORE}.EnvVar": {"name": VARIABLE, "": {"not": required("value", "valueFrom")}},
    f"{CORE}.EnvVarSource": {
        "fieldRef": {"properties": {"fieldPath": {"pattern": r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[^']+'\])|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?))$"}}},
        "": {"minProperties": 1, "maxProperties": 1},
    },
    f"{CORE}.ResourceFieldSelector": {
        "resource": {"pattern": "^(limits|requests)\\.(cpu|memory|ephemeral-storage|hugepages-.+)$"},
        "divisor": {"enum": [0, 1, "0", "1", "1m", *(f"1{power}" for power in "kMGTPE"), *(f"1{power}i" for power in "KMGTPE")]},
    },
    f"{CORE}.SecretKeySelector": SPECS["key of a secret"],
    f"{CORE}.ConfigMapKeySelector": SPECS["key of a secret"],
    f"{CORE}.SecretEnvSource": SPECS["secret"],
    f"{CORE}.ConfigMapEnvSource": SPECS["secret"],
    # Newer clusters take more, but a prefix that each takes is easy to choose.
    f"{CORE}.EnvFromSource": {"prefix": {"anyOf": [VARIABLE, words("")]}, "": one_of("secretRef", "configMapRef")},
    f"{CORE}.Container": {
        "name": whole(LABEL, 63),
        "imagePullPolicy": words("Always", "IfNotPresent", "Never"),
        "terminationMessagePolicy": words("File", "FallbackToLogsOnError"),
        "restartPolicy": words("Always"),
        "image": TEXT,
        # No volume of the chart is a device.
        "volumeDevices": {"maxItems": 0},
        "livenessProbe": {"properties": {"successThreshold": words(1)}},
        "startupProbe": {"properties": {"successThreshold": words(1)}},
        "readinessProbe": {"not": required("terminationGracePeriodSeconds")},
        "": {
            **required("name", "image"),
            "anyOf": [
                {"properties": {"securityContext": {"properties": {"privileged": words(True)}, **required("privileged")}}, **required("securityContext")},
                {"properties": {"volumeMounts": {"items": {"properties": {"mountPropagation": words("None", "HostToContainer")}}}}},
            ],
        },
    },
    f"{CORE}.ContainerPort": {"containerPort": PORT, "hostPort": {"minimum": 0, "maximum": 65535}, "protocol": words("TCP", "UDP", "SCTP"), "name": {key: PORT_NAME[key] for key in ("maxLength", "allOf")}, "hostIP": {"pattern": f"^({V4}|{V6})?$"}},
    f"{CORE}.ContainerResizePolicy": {"resourceName": words("cpu", "memory"), "restartPolicy": words("NotRequired", "RestartContainer")},
    # The pod claims no devices that a container could name.
    f"{CORE}.ResourceRequirements": {"claims": {"maxItems": 0}},
    # A signal needs the operating system in the pod.
    f"{CORE}.Lifecycle": {"stopSignal": {"not": {}}},
    f"{CORE}.LifecycleHandler": {"": {"minProperties": 1, "maxProperties": 1}},
    f"{CORE}.ExecAction": {"command": {"minItems": 1}, "": required("command")},
    f"{CORE}.HTTPGetAction": {"scheme": words("HTTP", "HTTPS"), "port": PORT_OR_NAME, "path": TEXT},
    f"{CORE}.TCPSocketAction": {"port": PORT_OR_NAME},
    f"{CORE}.GRPCAction": {"port": PORT},
    f"{CORE}.HTTPHeader": {"name": {"pattern": "^[-A-Za-z0-9]+$"}},
    f"{CORE}.SleepAction": {"seconds": SECONDS},
    f"{CORE}.Probe": {
        **dict.fromkeys(["periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold", "terminationGracePeriodSeconds"], COUNT),
        "initialDelaySeconds": SECONDS,
        "": SPECS["handler"],
    },
    f"{CORE}.PodSecurityContext": {
        **dict.fromkeys(["runAsUser", "runAsGroup", "fsGroup"], SECONDS),
        "supplementalGroups": IDENTIFIERS,
        "fsGroupChangePolicy": words("OnRootMismatch", "Always"),
        "supplementalGroupsPolicy": words("Merge", "Strict"),
        "seLinuxChangePolicy": words("MountOption", "Recursive"),
        # The images are for Linux.
        "windowsOptions": {"not": {}},
    },
    f"{CORE}.SecurityContext": {
        **dict.fromkeys(["runAsUser", "runAsGroup"], SECONDS),
        # Another one needs a user namespace.
        "procMount": words("Default"),
        "windowsOptions": {"not": {}},
        "": either(
            "allowPrivilegeEscalation",
            [True],
            {"properties": {"privileged": words(False), "capabilities": {"properties": {"add": texts({"not": words("CAP_SYS_ADMIN")})}}}},
        ),
    },
    f"{CORE}.SeccompProfile": SPECS["profile"],
    f"{CORE}.AppArmorProfile": SPECS["profile"],
    f"{CORE}.Sysctl": {"name": whole(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")},
}

PLACEMENT = {
    f"{CORE}.Toleration": {"operator": words("", "Exists", "Equal"), "effect": words("", "NoSchedule", "PreferNoSchedule", "NoExecute")},
    f"{CORE}.TopologySpreadConstraint": {
        "maxSkew": COUNT,
        "minDomains": COUNT,
        "topologyKey": KEY,
        "matchLabelKeys": texts(KEY),
        "whenUnsatisfiable": words("DoNotSchedule", "ScheduleAnyway"),
        "nodeAffinityPolicy": words("Honor", "Ignore"),
        "nodeTaintsPolicy": words("Honor", "Ignore"),
        "": {"dependencies": {"matchLabelKeys": ["labelSelector"]}},
    },
    f"{CORE}.NodeSelectorRequirement": {
        "key": KEY,
        "": {
            "oneOf": [
                *SPECS["lists of values"]["oneOf"],
                {"properties": {"operator": words("Gt", "Lt"), "values": texts({"pattern": "^-?[0-9]{1,18}$"}, minItems=1, maxItems=1)}, **required("values")},
            ]
        },
    },
    f"{CORE}.NodeSelectorTerm": {"matchFields": {"items": {"properties": {"key": words("metadata.name"), "operator": words("In", "NotIn"), "values": {"minItems": 1, "maxItems": 1}}, **required("key", "operator", "values")}}},
    f"{CORE}.NodeSelector": {"nodeSelectorTerms": {"minItems": 1}},
    f"{META}.LabelSelectorRequirement": {"key": KEY, "": SPECS["lists of values"]},
    f"{META}.LabelSelector": {"matchLabels": {"patternProperties": {KEY["pattern"]: {"type": "string", **whole(VALUE, 63)}}, "additionalProperties": False}},
    f"{CORE}.PreferredSchedulingTerm": {"weight": {"minimum": 1, "maximum": 100}},
    f"{CORE}.WeightedPodAffinityTerm": {"weight": {"minimum": 1, "maximum": 100}},
    f"{CORE}.PodAffinityTerm": {
        "topologyKey": KEY,
        "namespaces": texts(whole(LABEL, 63)),
        **dict.fromkeys(["matchLabelKeys", "mismatchLabelKeys"], texts(KEY)),
        "": {"dependencies": {"matchLabelKeys": ["labelSelector"], "mismatchLabelKeys": ["labelSelector"]}},
    },
}

METRICS = {
    f"{SCALING}.HPAScalingRules": {
        "stabilizationWindowSeconds": {"minimum": 0, "maximum": 3600},
        "selectPolicy": words("Max", "Min", "Disabled"),
        "policies": {"minItems": 1},
        "tolerance": {"minimum": 0, "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)m?$"},
    },
    f"{SCALING}.HPAScalingPolicy": {"type": words("Pods", "Percent"), "periodSeconds": {"minimum": 1, "maximum": 1800}, "value": COUNT},
    f"{SCALING}.MetricSpec": {"type": words("Resource", "ContainerResource", "Pods", "Object", "External"), "": {"maxProperties": 2}},
    f"{SCALING}.MetricTarget": {"type": words("Utilization", "Value", "AverageValue"), "averageUtilization": COUNT},
    f"{SCALING}.MetricIdentifier": {"name": SEGMENT},
    f"{SCALING}.CrossVersionObjectReference": {"kind": SEGMENT, "name": SEGMENT},
    f"{SCALING}.ResourceMetricSource": {"name": TEXT, "target": {"oneOf": [UTILIZATION, AVERAGE]}},
    f"{SCALING}.ContainerResourceMetricSource": {"name": TEXT, "container": whole(LABEL, 63), "target": {"oneOf": [UTILIZATION, AVERAGE]}},
    f"{SCALING}.PodsMetricSource": {"target": AVERAGE},
    f"{SCALING}.ObjectMetricSource": {"target": {"oneOf": [RAW, AVERAGE]}},
    f"{SCALING}.ExternalMetricSource": {"target": {"oneOf": [RAW, AVERAGE]}},
}

NETWORKS = {
    f"{NETWORK}.NetworkPolicyPort": {"protocol": words("TCP", "UDP", "SCTP"), "endPort": PORT, "port": PORT_OR_NAME},
    f"{NETWORK}.IPBlock": {"cidr": CIDR, "except": texts(CIDR)},
}

NARROWER = {**VOLUMES, **CONTAINERS, **PLACEMENT, **METRICS, **NETWORKS}
